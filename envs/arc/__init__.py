"""ARC tasks: tokens, judging, sources, environment and look."""
