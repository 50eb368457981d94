"""What rows of tagged words are made of: schemes of tags, words in a text, CoNLL files."""
