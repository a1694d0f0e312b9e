"""Training data: the stream of puzzles, data sets on disk, and their builder."""
