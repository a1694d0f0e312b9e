"""stable-baselines3 opponents: PPO in move mode, its features extractor, training and weights."""

import random

_before = random.getstate()
import stable_baselines3  # noqa: E402, F401

random.setstate(_before)  # importing it draws from Python's own generator, which is the caller's
