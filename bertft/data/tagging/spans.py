"""Tags of a sentence → its entities, and back in any scheme.

entities(tags)                  (type, first word, last word) of each
tags_of_entities(…, scheme)     the tags of a sentence that has these entities
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bertft.data.tagging.schemes import OUTSIDE, Tag

__all__ = ["Entity", "extract_entities", "entities_to_tags"]

Entity = tuple[str, int, int]

_END_PREFIXES = frozenset("ES")  # an entity ends with these
_START_PREFIXES = frozenset("BS")  # these begin another one

# Letters of a word inside, of the last word, of the only word; the first one's is B.
_SCHEME_LETTERS = {
    "bio": ("I", "I", "B"), "bios": ("I", "I", "S"), "bioes": ("I", "E", "S"),
    "biluo": ("I", "L", "U"), "bmes": ("M", "E", "S"),
}  # fmt: skip


def extract_entities(tags: Sequence[Tag]) -> list[Entity]:
    """By conlleval's convention; ``tags`` are (prefix, type), ("O", "") outside.

    An entity begins and ends wherever prefix or type change, so that I-X after O, or an entity
    without its end, still counts (Tjong Kim Sang 2000).
    """
    spans: list[Entity] = []
    start, before = 0, (OUTSIDE, "")
    for position, now in enumerate([*tags, (OUTSIDE, "")]):
        inside = before[0] != OUTSIDE
        is_boundary = before[0] in _END_PREFIXES or now[0] in _START_PREFIXES or now[0] == OUTSIDE or before[1] != now[1]
        if inside and is_boundary:
            spans.append((before[1], start, position - 1))
        if now[0] != OUTSIDE and (is_boundary or not inside):
            start = position
        before = now
    return spans


def entities_to_tags(spans: Iterable[Entity], words: int, scheme: str) -> list[str]:
    """The tags of ``words`` words in ``scheme``, any but io and iob1."""
    inside, last, only = _SCHEME_LETTERS[scheme]
    tags = [OUTSIDE] * words
    for entity_type, first, stop in spans:
        letters = only if first == stop else f"B{inside * (stop - first - 1)}{last}"
        for position, letter in enumerate(letters, start=first):
            tags[position] = letter if entity_type == "_" else f"{letter}-{entity_type}"
    return tags
