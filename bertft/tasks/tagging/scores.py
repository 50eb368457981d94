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

__all__ = ["entity_scores", "score_names", "types_of"]

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
    default, strict = Counts(), Counts()
    stops = np.cumsum(sizes)
    for start, stop in zip((stops - sizes).tolist(), stops.tolist(), strict=True):
        of_truth = [tags[each] for each in true[start:stop].tolist()]
        of_model = [tags[each] for each in given[start:stop].tolist()]
        default.add(entities(of_truth), entities(of_model))
        strict.add(strict_entities(of_truth, scheme), strict_entities(of_model, scheme))
    values = dict(zip(_THREE, default.of(), strict=True))
    values |= {f"strict/{n}": v for n, v in zip(_THREE, strict.of(), strict=True)}
    for kind in types_of(tags):
        values |= {f"{kind}/{n}": v for n, v in zip(_THREE, default.of(kind), strict=True)}
        values[f"{kind}/support"] = float(default.true[kind])
    return values
