"""The decision to halt or to continue as an environment, over the recorded segments of a trained HRM."""
