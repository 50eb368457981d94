"""``bertft cross_validate``: the outputs of the folds, their metrics, and suspect labels."""
