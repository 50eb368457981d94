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
from bertft.data.tagging.spans import Entity, extract_entities

__all__ = ["EntityCounts", "Entity", "precision_recall_f1", "extract_entities", "extract_strict_entities"]


def extract_strict_entities(tags: Sequence[Tag], scheme: str) -> list[Entity]:
    """Those that are whole and right in ``scheme``."""
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
        while position < len(tags) and tags[position][0] in "IM" and tags[position][1] == entity_type:
            position += 1
        if not has_end_tags:
            spans.append((entity_type, first, position - 1))
        elif position < len(tags) and tags[position] == ("E", entity_type):
            spans.append((entity_type, first, position))
            position += 1
    return spans


class EntityCounts:
    """By type: entities ``right``, ``given`` by the model, and ``true``."""

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
        """Right, given and true entities of one type, or of all."""
        correct, predicted, gold = (
            counter.total() if kind is None else counter[kind]
            for counter in (self.correct, self.predicted, self.gold)
        )
        return correct, predicted, gold

    def scores(self, kind: str | None = None) -> tuple[float, float, float]:
        """Precision, recall and F1 of one type, or of all entities; 0 where nothing is counted."""
        return precision_recall_f1(*self.totals(kind))


def precision_recall_f1(correct: int, predicted: int, gold: int) -> tuple[float, float, float]:
    """Precision, recall, F1."""
    return (
        correct / predicted if predicted else 0.0,
        correct / gold if gold else 0.0,
        2 * correct / (predicted + gold) if predicted + gold else 0.0,
    )
