"""The words and templates of the bundled samples, split by split."""
