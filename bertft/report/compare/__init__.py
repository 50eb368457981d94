"""Finished runs beside each other: what they reach, what they cost, in what they differ."""
