"""Model soups: the average of the weights of several runs, as a model or as an adapter."""
