"""Tags of a sentence → its entities, and back in any scheme.

entities(tags)                  (type, first word, last word) of each
tags_of_entities(…, scheme)     the tags of a sentence that has these entities
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bertft.data.tagging.schemes import OUTSIDE, Tag

__all__ = ["Entity", "entities", "tags_of_entities"]

Entity = tuple[str, int, int]

_LAST = frozenset("ES")  # an entity ends with these
_FIRST = frozenset("BS")  # these begin another one

# Letters of a word inside, of the last word, of the only word; the first one's is B.
_LETTERS = {
    "bio": ("I", "I", "B"), "bios": ("I", "I", "S"), "bioes": ("I", "E", "S"),
    "biluo": ("I", "L", "U"), "bmes": ("M", "E", "S"),
}  # fmt: skip


def entities(tags: Sequence[Tag]) -> list[Entity]:
    """By conlleval's convention; ``tags`` are (prefix, type), ("O", "") outside.

    An entity begins and ends wherever prefix or type change, so that I-X after O, or an entity
    without its end, still counts (Tjong Kim Sang 2000).
    """
    found: list[Entity] = []
    start, before = 0, (OUTSIDE, "")
    for place, now in enumerate([*tags, (OUTSIDE, "")]):
        inside = before[0] != OUTSIDE
        breaks = before[0] in _LAST or now[0] in _FIRST or now[0] == OUTSIDE or before[1] != now[1]
        if inside and breaks:
            found.append((before[1], start, place - 1))
        if now[0] != OUTSIDE and (breaks or not inside):
            start = place
        before = now
    return found


def tags_of_entities(found: Iterable[Entity], words: int, scheme: str) -> list[str]:
    """The tags of ``words`` words in ``scheme``, any but io and iob1."""
    inside, last, only = _LETTERS[scheme]
    tags = [OUTSIDE] * words
    for kind, first, stop in found:
        letters = only if first == stop else f"B{inside * (stop - first - 1)}{last}"
        for place, letter in enumerate(letters, start=first):
            tags[place] = letter if kind == "_" else f"{letter}-{kind}"
    return tags
