"""stable-baselines3 opponents: PPO in move mode, its features extractor, training and weights."""
