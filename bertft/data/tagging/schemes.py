"""Schemes of tags: how the tags of neighbouring words make an entity.

    io      X X O        a type alone; entities of one type that touch are one
    iob1    I-X I-X O    B-X only begins an entity right after another of its type
    bio     B-X I-X O    B-X begins every entity (IOB2)
    bioes   B-X I-X E-X, S-X      its last word is E-X, its only word S-X (IOBES)
    bmes    B-X M-X E-X, S-X      the same with another letter

``O`` is no entity. A prefix without a type (B, I, O) is of the type ``_``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = [
    "OUTSIDE",
    "SCHEMES",
    "Tag",
    "breaks",
    "detect",
    "parse",
    "scheme_of",
    "tags_of",
    "to_bio",
]

OUTSIDE = "O"
SCHEMES = ("io", "iob1", "bio", "bioes", "bmes")
PREFIXES = {"iob1": "BI", "bio": "BI", "bioes": "BIES", "bmes": "BMES"}
_PREFIXED = re.compile(r"([BIMES])(?:-(.+))?", re.DOTALL)
_INSIDE = "IM"

Tag = tuple[str, str]  # prefix, type; of a word outside: ("O", "")


def parse(tag: str, scheme: str) -> Tag | None:
    """Prefix and type of ``tag``; None if ``scheme`` has no such tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if scheme == "io":
        return "I", tag
    match = _PREFIXED.fullmatch(tag)
    if match is None or match[1] not in PREFIXES[scheme]:
        return None
    return match[1], match[2] or "_"


def tags_of(kind: str, scheme: str) -> list[str]:
    """The tags of the type ``kind``."""
    if scheme == "io":
        return [kind]
    return [prefix if kind == "_" else f"{prefix}-{kind}" for prefix in PREFIXES[scheme]]


def scheme_of(tags: Iterable[str]) -> str:
    """The scheme of a model whose classes are ``tags``; that of I-X alone is io."""
    matches = [_PREFIXED.fullmatch(tag) for tag in tags if tag != OUTSIDE]
    if not matches or None in matches:
        return "io"
    prefixes = {match[1] for match in matches if match is not None}
    if "M" in prefixes:
        return "bmes"
    if prefixes & {"E", "S"}:
        return "bioes"
    return "bio" if "B" in prefixes else "io"


def detect(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme of ``sentences``: of iob1 and bio the one that fewer of them break.

    Most tags must have a prefix, or they are types alone.
    """
    counts: Counter[str] = Counter()
    broken = {"bio": 0, "iob1": 0}
    for tags in sentences:
        counts.update(tags)
        for scheme in broken:
            broken[scheme] += breaks(tags, scheme) is not None
    del counts[OUTSIDE]
    matches = {tag: _PREFIXED.fullmatch(tag) for tag in counts}
    prefixes = {match[1] for match in matches.values() if match is not None}
    if 2 * sum(counts[tag] for tag, match in matches.items() if match is None) > counts.total():
        return "io"
    if "M" in prefixes:
        return "bmes"
    if prefixes & {"E", "S"}:
        return "bioes"
    return "iob1" if broken["iob1"] < broken["bio"] else "bio"


def breaks(tags: Sequence[str], scheme: str) -> int | None:
    """The place of the first tag that cannot stand there; one past the end for an open entity."""
    before: Tag = (OUTSIDE, "")
    for place, tag in enumerate(tags):
        now = parse(tag, scheme)
        if now is None or not _follows(before, now, scheme):
            return place
        before = now
    return None if _follows(before, (OUTSIDE, ""), scheme) else len(tags)


def _follows(before: Tag, now: Tag, scheme: str) -> bool:
    (left, kind), (prefix, same) = before, now
    if scheme == "iob1":
        return prefix != "B" or (left in ("B", "I") and kind == same)
    if scheme == "bio":
        return prefix != "I" or (left in ("B", "I") and kind == same)
    if scheme == "io":
        return True
    if left == "B" or left in _INSIDE:  # an entity is open
        return (prefix == "E" or prefix in _INSIDE) and kind == same
    return prefix != "E" and prefix not in _INSIDE


def to_bio(tags: Sequence[str]) -> list[str]:
    """iob1 → bio: the first word of every entity gets B."""
    result, before = [], (OUTSIDE, "")
    for tag in tags:
        now = parse(tag, "iob1") or (OUTSIDE, "")
        begins = now[0] == "I" and (before[0] == OUTSIDE or before[1] != now[1])
        result.append("B" + tag[1:] if begins else tag)
        before = now
    return result
