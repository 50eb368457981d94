"""Tag schemes: how the tags of adjacent words form entities.

    io      X X O        a type alone; adjacent entities of one type are merged
    iob1    I-X I-X O    B-X only at the start of an entity directly after one of its type
    bio     B-X I-X O    B-X at the start of every entity (IOB2)
    bios    B-X I-X, S-X          bio with S-X for entities of one word (CLUE)
    bioes   B-X I-X E-X, S-X      E-X for the last word, S-X for an only word (IOBES)
    biluo   B-X I-X L-X, U-X      bioes with the letters L and U (BILOU)
    bmes    B-X M-X E-X, S-X      bioes with the letter M

``O`` is outside of entities. A prefix without a type (B, I, O) is of the type ``_``. Tags may be
written in another notation than B-X: see ``Notation``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = [
    "NOTATIONS",
    "OUTSIDE",
    "PREFIXES",
    "STANDARD_NOTATION",
    "Entity",
    "Notation",
    "Tag",
    "entities_to_tags",
    "extract_entities",
    "find_invalid_tag",
    "infer_class_scheme",
    "infer_scheme",
    "is_allowed_transition",
    "parse_class_tags",
    "parse_tag",
    "tags_of_type",
]


Entity = tuple[str, int, int]  # type, first word, last word
Tag = tuple[str, str]  # prefix, type; of a word outside: ("O", "")

OUTSIDE = "O"
PREFIXES = {
    "bio": "BI",
    "iob1": "BI",
    "bioes": "BIES",
    "bios": "BIS",
    "biluo": "BILU",
    "bmes": "BMES",
}
_PREFIX_LETTERS = "BIMESLU"
_BILUO_TO_BIOES = {"L": "E", "U": "S"}  # letters of biluo → letters of bioes
_PREFIXED = re.compile(rf"([{_PREFIX_LETTERS}])(?:-(.+))?", re.DOTALL)
_INSIDE_PREFIXES = "IM"
# Classes of special tokens and of further tokens of a word.
_SPECIAL_CLASSES = ("[CLS]", "[SEP]", "[PAD]", "<s>", "</s>", "<pad>", "PAD", "X")
_END_PREFIXES = frozenset("ES")  # an entity ends after these
_START_PREFIXES = frozenset("BS")  # an entity begins at these

# Letters of an inner, a last and an only word; the letter of the first word is B.
_SCHEME_LETTERS = {
    "bio": ("I", "I", "B"),
    "bios": ("I", "I", "S"),
    "bioes": ("I", "E", "S"),
    "biluo": ("I", "L", "U"),
    "bmes": ("M", "E", "S"),
}


def extract_entities(tags: Sequence[Tag]) -> list[Entity]:
    """Entities by the convention of conlleval; ``tags`` are (prefix, type), ("O", "") outside.

    An entity begins and ends wherever prefix or type change: I-X after O, or an entity without an
    end tag, still counts (Tjong Kim Sang 2000).
    """
    spans: list[Entity] = []
    start, before = 0, (OUTSIDE, "")
    for position, now in enumerate([*tags, (OUTSIDE, "")]):
        inside = before[0] != OUTSIDE
        is_boundary = (
            before[0] in _END_PREFIXES
            or now[0] in _START_PREFIXES
            or now[0] == OUTSIDE
            or before[1] != now[1]
        )
        if inside and is_boundary:
            spans.append((before[1], start, position - 1))
        if now[0] != OUTSIDE and (is_boundary or not inside):
            start = position
        before = now
    return spans


def entities_to_tags(spans: Iterable[Entity], words: int, scheme: str) -> list[str]:
    """The tags of ``words`` words in ``scheme`` (any except io and iob1)."""
    inside, last, only = _SCHEME_LETTERS[scheme]
    tags = [OUTSIDE] * words
    for entity_type, first, stop in spans:
        letters = only if first == stop else f"B{inside * (stop - first - 1)}{last}"
        for position, letter in enumerate(letters, start=first):
            tags[position] = letter if entity_type == "_" else f"{letter}-{entity_type}"
    return tags


@dataclass(frozen=True)
class Notation:
    """How a tag is written: B-PER is the standard; others are B_PER, PER-B and b-PER.

    ``any_case``: prefixes, and O, may be in lower case.
    """

    separator: str = "-"
    prefix_first: bool = True
    any_case: bool = True

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        letters = _PREFIX_LETTERS + (_PREFIX_LETTERS.lower() if self.any_case else "")
        prefix, separator = rf"(?P<prefix>[{letters}])", re.escape(self.separator)
        if self.prefix_first:
            return re.compile(rf"{prefix}{separator}(?P<type>.+)", re.DOTALL)
        return re.compile(rf"(?P<type>.+){separator}{prefix}", re.DOTALL)

    def split(self, tag: str) -> Tag | None:
        """Prefix in upper case and type ("" if there is none); None if the tag does not match."""
        if len(tag) == 1:
            letter = tag.upper() if self.any_case else tag
            return (letter, "") if letter in _PREFIX_LETTERS + OUTSIDE else None
        match = self._pattern.fullmatch(tag)
        return None if match is None else (match["prefix"].upper(), match["type"])

    def to_standard(self, tag: str) -> str:
        """``tag`` in the standard notation; unchanged if it does not match this notation."""
        prefix_and_type = self.split(tag)
        return tag if prefix_and_type is None else "-".join(filter(None, prefix_and_type))

    def __str__(self) -> str:
        return f"B{self.separator}X" if self.prefix_first else f"X{self.separator}B"


STANDARD_NOTATION = Notation(any_case=False)
NOTATIONS = (
    STANDARD_NOTATION,
    *(
        Notation(separator, prefix_first)
        for prefix_first in (True, False)
        for separator in ("-", "_", ".", ":", "/", "|")
    ),
)


def parse_tag(tag: str, scheme: str) -> Tag | None:
    """Prefix (L, U of biluo as E, S) and type of ``tag``; None if ``scheme`` does not have it."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if scheme == "io":
        return "I", tag
    match = _PREFIXED.fullmatch(tag)
    if match is None or match[1] not in PREFIXES[scheme]:
        return None
    return _BILUO_TO_BIOES.get(match[1], match[1]), match[2] or "_"


def tags_of_type(entity_type: str, scheme: str) -> list[str]:
    """The tags of the type ``entity_type``."""
    if scheme == "io":
        return [entity_type]
    return [
        prefix if entity_type == "_" else f"{prefix}-{entity_type}" for prefix in PREFIXES[scheme]
    ]


def infer_scheme(tags: Iterable[str]) -> str:
    """The scheme of a model with the classes ``tags``; io if all of them are I-X."""
    matches = [_PREFIXED.fullmatch(tag) for tag in tags if tag != OUTSIDE]
    if not matches or None in matches:
        return "io"
    prefixes = {match[1] for match in matches if match is not None}
    if "B" not in prefixes and prefixes <= {"I", "L", "U"}:
        return "io"
    # The smallest scheme that has all of them.
    for scheme in ("bio", "bios" if {"B", "I", "S"} == prefixes else "bioes", "biluo", "bmes"):
        if prefixes <= set(PREFIXES[scheme]):
            return scheme
    return "io"


def infer_class_scheme(classes: Iterable[str]) -> tuple[str, Notation]:
    """The scheme of a model's classes, and the notation that all of them use.

    Classes of special tokens and of further tokens of a word, which some models have, are ignored.
    """
    names = [name for name in classes if name not in _SPECIAL_CLASSES]
    for notation in NOTATIONS:
        split_names = [notation.split(name) for name in names]
        prefixes = {split_name[0] for split_name in split_names if split_name is not None} - {
            OUTSIDE
        }
        if None in split_names or (notation != STANDARD_NOTATION and not {"B", "I"} <= prefixes):
            continue
        scheme = infer_scheme(notation.to_standard(name) for name in names)
        if scheme != "io":
            return scheme, notation
    return "io", STANDARD_NOTATION


def parse_class_tags(classes: Sequence[str]) -> tuple[str, list[Tag]]:
    """The scheme of a model's classes, and the prefix and type of each class."""
    scheme, notation = infer_class_scheme(classes)
    names = classes if scheme == "io" else [notation.to_standard(name) for name in classes]
    outside: Tag = (OUTSIDE, "")
    return scheme, [parse_tag(name, scheme) or outside for name in names]


def find_invalid_tag(tags: Sequence[str], scheme: str) -> int | None:
    """The index of the first invalid tag; ``len(tags)`` if the last entity does not end."""
    before: Tag = (OUTSIDE, "")
    for position, tag in enumerate(tags):
        now = parse_tag(tag, scheme)
        if now is None or not is_allowed_transition(before, now, scheme):
            return position
        before = now
    return None if is_allowed_transition(before, (OUTSIDE, ""), scheme) else len(tags)


def is_allowed_transition(before: Tag, now: Tag, scheme: str) -> bool:
    """Whether ``scheme`` allows ``now`` after ``before``; O is before and after a sentence."""
    (left, left_type), (prefix, type_after) = before, now
    if scheme == "iob1":
        return prefix != "B" or (left in ("B", "I") and left_type == type_after)
    if scheme in ("bio", "bios"):
        return prefix != "I" or (left in ("B", "I") and left_type == type_after)
    if scheme == "io":
        return True
    if left == "B" or left in _INSIDE_PREFIXES:  # within an entity
        return (prefix == "E" or prefix in _INSIDE_PREFIXES) and left_type == type_after
    return prefix != "E" and prefix not in _INSIDE_PREFIXES
