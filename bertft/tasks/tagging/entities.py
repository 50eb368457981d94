"""Tags → entities, as two conventions read them, and how far two sets of entities agree.

    default   conlleval's: an entity begins and ends wherever prefix or type change, so that I-X
              after O, or an entity without its end, still counts (Tjong Kim Sang 2000)
    strict    only what the scheme allows: B-X I-X … ; B-X I-X … E-X and S-X

An entity is (type, first word, last word). Precision, recall and F1 count entities that agree in
all three. Equal to seqeval's (which M is unknown to), in its default and its strict mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bertft.data.tagging.schemes import Tag
from bertft.data.tagging.spans import Entity, entities

__all__ = ["Counts", "Entity", "agreement", "entities", "strict_entities"]


def strict_entities(tags: Sequence[Tag], scheme: str) -> list[Entity]:
    """Those that are whole and right in ``scheme``."""
    if scheme == "io":
        return entities(tags)
    closed = scheme in ("bioes", "biluo", "bmes")
    found: list[Entity] = []
    place = 0
    while place < len(tags):
        prefix, kind = tags[place]
        first, place = place, place + 1
        if prefix == "S" and (closed or scheme == "bios"):
            found.append((kind, first, first))
        if prefix != "B":
            continue
        while place < len(tags) and tags[place][0] in "IM" and tags[place][1] == kind:
            place += 1
        if not closed:
            found.append((kind, first, place - 1))
        elif place < len(tags) and tags[place] == ("E", kind):
            found.append((kind, first, place))
            place += 1
    return found


class Counts:
    """By type: entities ``right``, ``given`` by the model, and ``true``."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self.true: Counter[str] = Counter()

    def add(self, true: Iterable[Entity], given: Iterable[Entity]) -> None:
        """Count the entities of one sentence."""
        of_truth, of_model = set(true), set(given)
        self.true.update(kind for kind, _, _ in of_truth)
        self.given.update(kind for kind, _, _ in of_model)
        self.right.update(kind for kind, _, _ in of_truth & of_model)

    def totals(self, kind: str | None = None) -> tuple[int, int, int]:
        """Right, given and true entities of one type, or of all."""
        right, given, true = (
            each.total() if kind is None else each[kind]
            for each in (self.right, self.given, self.true)
        )
        return right, given, true

    def of(self, kind: str | None = None) -> tuple[float, float, float]:
        """Precision, recall and F1 of one type, or of all entities; 0 where nothing is counted."""
        return agreement(*self.totals(kind))


def agreement(right: int, given: int, true: int) -> tuple[float, float, float]:
    """Precision, recall, F1."""
    return (
        right / given if given else 0.0,
        right / true if true else 0.0,
        2 * right / (given + true) if given + true else 0.0,
    )
