"""What is fitted to a model's answers after its training: a temperature, thresholds."""
