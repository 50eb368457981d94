"""Classes of words → the metrics of a whole set.

precision, recall, f1        entities by the default convention, all types together
strict/…                     the same, of entities that the scheme allows
<type>/…                     the default ones of each type, and its support (true entities)
accuracy, loss               of words
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertft.data.tagging.schemes import OUTSIDE, Tag
from bertft.tasks.tagging.entities import EntityCounts, extract_entities, extract_strict_entities

__all__ = ["count_entities", "entity_metrics", "entity_metric_names", "metrics_from_counts", "entity_types"]

_METRICS = ("precision", "recall", "f1")


def entity_types(tags: Sequence[Tag]) -> list[str]:
    """The types of entities, sorted."""
    return sorted({kind for prefix, kind in tags if prefix != OUTSIDE})


def entity_metric_names(tags: Sequence[Tag]) -> tuple[str, ...]:
    """The keys of ``entity_metrics``."""
    names = [*_METRICS, *(f"strict/{name}" for name in _METRICS)]
    for kind in entity_types(tags):
        names += [f"{kind}/{name}" for name in (*_METRICS, "support")]
    return tuple(names)


def entity_metrics(
    tags: Sequence[Tag], scheme: str, sizes: np.ndarray, targets: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    """``tags`` [C] of the classes; ``targets`` and ``predicted`` [words], sentences of ``sizes`` words."""
    sums = count_entities(tags, scheme, sizes, targets, predicted).sum(0)
    return {name: float(value) for name, value in metrics_from_counts(tags, sums).items()}


def count_entities(
    tags: Sequence[Tag], scheme: str, sizes: np.ndarray, targets: np.ndarray, predicted: np.ndarray
) -> np.ndarray:
    """Entities that are right, given and true, int64 [sentences, 3 · (2 + types)].

    All by the default convention, all by the strict one, and those of each type by the default.
    """
    stops, all_types, rows = np.cumsum(sizes), entity_types(tags), []
    for start, stop in zip((stops - sizes).tolist(), stops.tolist(), strict=True):
        gold_tags = [tags[class_index] for class_index in targets[start:stop].tolist()]
        predicted_tags = [tags[each] for each in predicted[start:stop].tolist()]
        default, strict = EntityCounts(), EntityCounts()
        default.add(extract_entities(gold_tags), extract_entities(predicted_tags))
        strict.add(extract_strict_entities(gold_tags, scheme), extract_strict_entities(predicted_tags, scheme))
        groups = [default.totals(), strict.totals(), *map(default.totals, all_types)]
        rows.append([count for group in groups for count in group])
    return np.array(rows, np.int64).reshape(len(rows), 3 * (2 + len(all_types)))


def metrics_from_counts(tags: Sequence[Tag], sums: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics [...] from sums of ``count_entities`` [..., 3 · (2 + types)]."""
    groups = [sums[..., start : start + 3] for start in range(0, sums.shape[-1], 3)]
    names = ["", "strict/", *(f"{kind}/" for kind in entity_types(tags))]
    values: dict[str, np.ndarray] = {}
    for name, group in zip(names, groups, strict=True):
        values |= {f"{name}{n}": v for n, v in zip(_METRICS, _precision_recall_f1(group), strict=True)}
        if name not in ("", "strict/"):
            values[f"{name}support"] = group[..., 2]
    return values


def _precision_recall_f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, F1; 0 where nothing is counted."""
    correct, predicted, gold = counts[..., 0], counts[..., 1], counts[..., 2]
    return (
        correct / np.maximum(predicted, 1),
        correct / np.maximum(gold, 1),
        2 * correct / np.maximum(predicted + gold, 1),
    )
