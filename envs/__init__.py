"""Puzzles as Gymnasium environments: one folder a family, one environment class for all (`puzzle_env.PuzzleEnv`)."""
