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
from bertft.tasks.tagging.entities import Counts, entities, strict_entities

__all__ = ["entity_counts", "entity_scores", "score_names", "scores_of_counts", "types_of"]

_THREE = ("precision", "recall", "f1")


def types_of(tags: Sequence[Tag]) -> list[str]:
    """The types of entities, sorted."""
    return sorted({kind for prefix, kind in tags if prefix != OUTSIDE})


def score_names(tags: Sequence[Tag]) -> tuple[str, ...]:
    """The keys of ``entity_scores``."""
    names = [*_THREE, *(f"strict/{name}" for name in _THREE)]
    for kind in types_of(tags):
        names += [f"{kind}/{name}" for name in (*_THREE, "support")]
    return tuple(names)


def entity_scores(
    tags: Sequence[Tag], scheme: str, sizes: np.ndarray, true: np.ndarray, given: np.ndarray
) -> dict[str, float]:
    """``tags`` [C] of the classes; ``true`` and ``given`` [words], sentences of ``sizes`` words."""
    sums = entity_counts(tags, scheme, sizes, true, given).sum(0)
    return {name: float(value) for name, value in scores_of_counts(tags, sums).items()}


def entity_counts(
    tags: Sequence[Tag], scheme: str, sizes: np.ndarray, true: np.ndarray, given: np.ndarray
) -> np.ndarray:
    """Entities that are right, given and true, int64 [sentences, 3 · (2 + types)].

    All by the default convention, all by the strict one, and those of each type by the default.
    """
    stops, kinds, rows = np.cumsum(sizes), types_of(tags), []
    for start, stop in zip((stops - sizes).tolist(), stops.tolist(), strict=True):
        of_truth = [tags[each] for each in true[start:stop].tolist()]
        of_model = [tags[each] for each in given[start:stop].tolist()]
        default, strict = Counts(), Counts()
        default.add(entities(of_truth), entities(of_model))
        strict.add(strict_entities(of_truth, scheme), strict_entities(of_model, scheme))
        groups = [default.totals(), strict.totals(), *map(default.totals, kinds)]
        rows.append([count for group in groups for count in group])
    return np.array(rows, np.int64).reshape(len(rows), 3 * (2 + len(kinds)))


def scores_of_counts(tags: Sequence[Tag], sums: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics [...] from sums of ``entity_counts`` [..., 3 · (2 + types)]."""
    groups = [sums[..., place : place + 3] for place in range(0, sums.shape[-1], 3)]
    names = ["", "strict/", *(f"{kind}/" for kind in types_of(tags))]
    values: dict[str, np.ndarray] = {}
    for name, group in zip(names, groups, strict=True):
        values |= {f"{name}{n}": v for n, v in zip(_THREE, _agreement(group), strict=True)}
        if name not in ("", "strict/"):
            values[f"{name}support"] = group[..., 2]
    return values


def _agreement(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, F1; 0 where nothing is counted."""
    right, given, true = counts[..., 0], counts[..., 1], counts[..., 2]
    return (
        right / np.maximum(given, 1),
        right / np.maximum(true, 1),
        2 * right / np.maximum(given + true, 1),
    )
