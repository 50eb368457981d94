"""What is shown of tagged words: scores by type, types taken for each other, sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertft.data.tagging.schemes import OUTSIDE, Tag
from bertft.runs.exhibits import Cell, Exhibit, Table, clipped
from bertft.tasks.shared.agreement import confusion
from bertft.tasks.shared.exhibits import confusions, rows_to_look_at, where
from bertft.tasks.tagging.entities import Counts, entities
from bertft.tasks.tagging.scores import types_of

__all__ = ["Answered", "exhibits"]


@dataclass(frozen=True)
class Answered:
    """``tags`` [C] of the classes; ``owner`` [S]: rows of the sentences, of ``sizes`` [S] words.

    ``true`` [words] are classes, ``probabilities`` [words, C]; sentences lie end to end.
    """

    tags: Sequence[Tag]
    owner: Sequence[int]
    sizes: np.ndarray
    true: np.ndarray
    probabilities: np.ndarray


def exhibits(answered: Answered, rows: Any) -> Iterator[Exhibit]:
    """A table of types, the confusions of words, the sentences to look at."""
    tags, true = answered.tags, answered.true
    given, sure = answered.probabilities.argmax(1), answered.probabilities.max(1)
    stops = np.cumsum(answered.sizes)
    starts = stops - answered.sizes
    sentences = [slice(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
    found = [
        [entities([tags[c] for c in side[each].tolist()]) for side in (true, given)]
        for each in sentences
    ]
    counts = Counts()
    for of_truth, of_model in found:
        counts.add(of_truth, of_model)
    kinds = types_of(tags)
    yield Table(
        "entities", "By type of entity", "Whole entities, by the convention of conlleval.",
        head=("type", "precision", "recall", "F1", "true", "given"),
        rows=[
            *((kind, *counts.of(kind), counts.true[kind], counts.given[kind]) for kind in kinds),
            ("all", *counts.of(), counts.true.total(), counts.given.total()),
        ],
        strong=(len(kinds),),
    )  # fmt: skip
    names = [*kinds, OUTSIDE]
    of_class = np.array([names.index(kind or OUTSIDE) for _, kind in tags])
    yield confusions(confusion(of_class[true], of_class[given], len(names)), names, "words")

    def line(place: int) -> list[Cell]:
        row = int(answered.owner[place])
        text, firsts, lasts = (rows.cell(name, row) for name in ("text", "starts", "stops"))
        spans = [
            ", ".join(f"{kind}: {text[firsts[first] : lasts[last]]}" for kind, first, last in side)
            or "none"
            for side in found[place]
        ]
        return [where(rows, row), clipped(text), *map(clipped, spans)]

    wrong = np.where(true == given, 0.0, sure)
    yield from rows_to_look_at(
        ("row", "sentence", "truth", "answer"),
        line,
        (
            np.array([wrong[each].sum() or -np.inf for each in sentences]),
            "Most words answered wrongly, weighed by how sure the answers are.",
        ),
        (
            np.array([-sure[each].min() for each in sentences]),
            "They hold the words whose class is least sure.",
        ),
    )
