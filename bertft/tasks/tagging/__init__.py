"""What token classification is made of: tags and entities, words in a text, windows, scores."""
