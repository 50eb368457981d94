"""The run folder: its files, checkpoints and locks."""
