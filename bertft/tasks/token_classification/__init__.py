"""Token classification: the task, its rows, tag schemes, encoding, metrics and report."""
