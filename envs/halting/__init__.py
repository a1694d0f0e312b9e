"""The decision to halt or to think on as an environment of its own, over the recorded segments of a trained HRM."""
