"""Malformed input against every environment."""
