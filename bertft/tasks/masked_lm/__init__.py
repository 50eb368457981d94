"""Masked language modelling: the task, its rows, encoding and report."""
