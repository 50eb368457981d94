"""Which metrics an output shows, and in which order.

    overall_metrics({"loss": .4, "accuracy": .9, "PER/f1": .5}, "accuracy")  → [accuracy, loss]
    split_metric_groups                                                      → overall, groups

The files of a run have all metrics; the tables and lines leave out those that say nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["distinct_metrics", "order_metrics", "overall_metrics", "split_metric_groups"]

# Two equal metrics, and a metric that only the task in which they are equal has.
_EQUAL_METRICS = ((("accuracy", "f1_micro"), "matthews"), (("mse", "loss"), "pearson"))


def split_metric_groups(
    metrics: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The overall metrics, and those of each group, whose names are ``group/metric``."""
    overall: dict[str, float] = {}
    groups: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        group, slash, metric = name.rpartition("/")
        if slash:
            groups.setdefault(group, {})[metric] = value
        else:
            overall[name] = value
    return overall, groups


def order_metrics(names: Iterable[str], selection_metric: str | None) -> list[str]:
    """Each name once, the metric that selects the checkpoint first."""
    return sorted(dict.fromkeys(names), key=lambda name: name != selection_metric)


def distinct_metrics(names: Sequence[str]) -> list[str]:
    """``names`` without those that equal another one for every model.

    With one class per row, f1_micro is the accuracy; in regression, the loss is the mse. Of two
    equal metrics the first one of ``names`` stays.
    """
    distinct = list(names)
    for pair, marker in _EQUAL_METRICS:
        if marker in distinct and all(name in distinct for name in pair):
            distinct.remove(max(pair, key=distinct.index))
    return distinct


def overall_metrics(metrics: Mapping[str, float], selection_metric: str) -> list[str]:
    """The names of the metrics over all rows, distinct, the selection metric first."""
    return distinct_metrics(order_metrics(split_metric_groups(metrics)[0], selection_metric))
