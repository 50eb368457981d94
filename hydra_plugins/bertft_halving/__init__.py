"""Hydra's sweeper ``halving``; Hydra finds plugins only in the package ``hydra_plugins``."""
