"""What leaves a run folder: model cards, folders of other libraries, and numbers to read."""
