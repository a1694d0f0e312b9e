"""Agents x environments on the same puzzles.

plan.py   what is compared: environments, agents, puzzles
run.py    plays a chunk of puzzles at a time, and films; every finished chunk and film is a file
rows.py   chunks -> figures with intervals; what weights cost to train
page.py   one HTML page; the same as Markdown and on the terminal
"""
