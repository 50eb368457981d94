"""Build a run: combine a base, a task and the components of a method into one model."""
