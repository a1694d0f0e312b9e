"""Experiments of the paper that train several networks."""
