"""What can be said of a machine before anything is trained on it, each with what to do about it."""
