"""Faster execution of a network; never imported by the model."""
