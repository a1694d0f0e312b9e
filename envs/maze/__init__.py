"""Random-wall mazes: tokens, rules, sources, environment and look."""
