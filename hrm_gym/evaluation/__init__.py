"""Rollouts, scores, films, replays and comparisons."""
