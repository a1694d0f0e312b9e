"""Solvers: everything here follows the `Agent` protocol and knows puzzles only through `hrm_gym.envs.puzzle`."""
