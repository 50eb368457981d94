"""Compares finished runs: their metrics, their costs and the settings that differ."""
