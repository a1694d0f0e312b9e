"""What to run on a GPU that is there for half an hour."""
