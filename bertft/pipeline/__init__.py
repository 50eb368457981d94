"""Putting a run together: a base, a task and the parts of a method become one model that runs."""
