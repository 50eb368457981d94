"""Tags → entities by two conventions, and precision, recall and F1 of entities.

    default   as in conlleval: an entity begins and ends wherever prefix or type change: I-X after
              O, or an entity without an end tag, still counts (Tjong Kim Sang 2000)
    strict    only entities that are valid in the scheme: B-X I-X … ; B-X I-X … E-X and S-X

An entity is (type, first word, last word). A predicted entity is correct if all three are equal.
The results equal those of seqeval in its default and strict mode (seqeval does not know M).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from bertft.tasks.token_classification.tag_schemes import OUTSIDE, Entity, Tag, extract_entities

__all__ = [
    "EntityCounts",
    "count_entities",
    "entity_metric_names",
    "entity_metrics",
    "entity_types",
    "extract_strict_entities",
    "metrics_from_counts",
    "precision_recall_f1",
]


_METRICS = ("precision", "recall", "f1")


def entity_types(tags: Sequence[Tag]) -> list[str]:
    """The entity types, sorted."""
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
    """Precision, recall and F1: all, strict and per type.

    ``tags`` [C] of the classes; ``sizes`` [sentences] in words; ``targets``, ``predicted`` [words].
    """
    sums = count_entities(tags, scheme, sizes, targets, predicted).sum(0)
    return {name: float(value) for name, value in metrics_from_counts(tags, sums).items()}


def count_entities(
    tags: Sequence[Tag], scheme: str, sizes: np.ndarray, targets: np.ndarray, predicted: np.ndarray
) -> np.ndarray:
    """Counts of correct, predicted and true entities, int64 [sentences, 3 · (2 + types)].

    In the default mode, in strict mode, then per type in the default mode.
    """
    stops, all_types, rows = np.cumsum(sizes), entity_types(tags), []
    for start, stop in zip((stops - sizes).tolist(), stops.tolist(), strict=True):
        gold_tags = [tags[class_index] for class_index in targets[start:stop].tolist()]
        predicted_tags = [tags[class_index] for class_index in predicted[start:stop].tolist()]
        default, strict = EntityCounts(), EntityCounts()
        default.add(extract_entities(gold_tags), extract_entities(predicted_tags))
        strict.add(
            extract_strict_entities(gold_tags, scheme),
            extract_strict_entities(predicted_tags, scheme),
        )
        groups = [default.totals(), strict.totals(), *map(default.totals, all_types)]
        rows.append([count for group in groups for count in group])
    return np.array(rows, np.int64).reshape(len(rows), 3 * (2 + len(all_types)))


def metrics_from_counts(tags: Sequence[Tag], sums: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics [...] from sums of ``count_entities`` [..., 3 · (2 + types)]."""
    groups = [sums[..., start : start + 3] for start in range(0, sums.shape[-1], 3)]
    names = ["", "strict/", *(f"{kind}/" for kind in entity_types(tags))]
    values: dict[str, np.ndarray] = {}
    for name, group in zip(names, groups, strict=True):
        values |= {
            f"{name}{metric}": value
            for metric, value in zip(_METRICS, precision_recall_f1(group), strict=True)
        }
        if name not in ("", "strict/"):
            values[f"{name}support"] = group[..., 2]
    return values


def precision_recall_f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 [...]; 0 where the denominator is 0.

    ``counts`` [..., 3]: correct, predicted and true entities.
    """
    correct, predicted, gold = counts[..., 0], counts[..., 1], counts[..., 2]
    return (
        correct / np.maximum(predicted, 1),
        correct / np.maximum(gold, 1),
        2 * correct / np.maximum(predicted + gold, 1),
    )


def extract_strict_entities(tags: Sequence[Tag], scheme: str) -> list[Entity]:
    """The entities that are complete and valid in ``scheme``."""
    if scheme == "io":
        return extract_entities(tags)
    has_end_tags = scheme in ("bioes", "biluo", "bmes")
    spans: list[Entity] = []
    position = 0
    while position < len(tags):
        prefix, entity_type = tags[position]
        first, position = position, position + 1
        if prefix == "S" and (has_end_tags or scheme == "bios"):
            spans.append((entity_type, first, first))
        if prefix != "B":
            continue
        while (
            position < len(tags) and tags[position][0] in "IM" and tags[position][1] == entity_type
        ):
            position += 1
        if not has_end_tags:
            spans.append((entity_type, first, position - 1))
        elif position < len(tags) and tags[position] == ("E", entity_type):
            spans.append((entity_type, first, position))
            position += 1
    return spans


class EntityCounts:
    """Counts per type: ``correct``, ``predicted`` and ``gold`` entities."""

    def __init__(self) -> None:
        self.correct: Counter[str] = Counter()
        self.predicted: Counter[str] = Counter()
        self.gold: Counter[str] = Counter()

    def add(self, gold: Iterable[Entity], predicted: Iterable[Entity]) -> None:
        """Count the entities of one sentence."""
        gold_set, predicted_set = set(gold), set(predicted)
        self.gold.update(kind for kind, _, _ in gold_set)
        self.predicted.update(kind for kind, _, _ in predicted_set)
        self.correct.update(kind for kind, _, _ in gold_set & predicted_set)

    def totals(self, kind: str | None = None) -> tuple[int, int, int]:
        """Counts of correct, predicted and gold entities of one type; None: of all types."""
        correct, predicted, gold = (
            counter.total() if kind is None else counter[kind]
            for counter in (self.correct, self.predicted, self.gold)
        )
        return correct, predicted, gold

    def scores(self, kind: str | None = None) -> tuple[float, float, float]:
        """Precision, recall and F1 of one type (None: of all); 0 where the denominator is 0."""
        precision, recall, f1 = precision_recall_f1(np.array(self.totals(kind)))
        return float(precision), float(recall), float(f1)
