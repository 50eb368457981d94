"""What hears the training loop's events: files, the view in the terminal."""
