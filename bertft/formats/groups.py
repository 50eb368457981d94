"""Metrics of the whole, and of parts of it that have names of their own: types of entities, say.

by_group({"f1": 0.9, "person/f1": 0.8})    ({"f1": 0.9}, {"person": {"f1": 0.8}})
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["split_metric_groups"]


def split_metric_groups(
    metrics: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The metrics of the whole, and those of a group of it, which are called ``group/metric``."""
    overall: dict[str, float] = {}
    groups: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        group, slash, metric = name.rpartition("/")
        if slash:
            groups.setdefault(group, {})[metric] = value
        else:
            overall[name] = value
    return overall, groups
