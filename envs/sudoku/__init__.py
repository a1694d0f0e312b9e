"""Sudoku with boxes of several shapes: tokens, rules, rating, sources, environment and look."""
