"""What several tasks share: texts to tokens, the sequence-level task, probabilities."""
