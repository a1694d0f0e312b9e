"""Weights and settings of the official HRM and TRM code."""
