"""A package that adds a component of each kind to bertft without changing it."""
