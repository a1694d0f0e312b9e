"""Agents x environments on the same puzzles: what is compared, how it is run, and how it is told.

plan.py       what is compared: worlds, agents, puzzles
entrants.py   an agent's label -> an agent that plays a world in its own action mode, or why there is none
training.py   what weights cost: their training command, steps, puzzles, time, and their learning curve
run.py        plays, a chunk of puzzles at a time; every finished chunk is a file
rows.py       chunks -> figures with intervals
charts.py     figures and curves as pictures that take the colours of the page
page.py       one HTML page; text.py: the same as Markdown and on the terminal
"""
