"""What token classification is made of: entities, windows of words, scores."""
