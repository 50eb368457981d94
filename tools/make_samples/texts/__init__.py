"""The words and templates of the embedded samples, split by split."""
