"""The Hierarchical Reasoning Model (arXiv 2506.21734): network, halting, training, checkpoints, and the agent."""
