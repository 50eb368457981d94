"""Detect the tag scheme of a split, from the counts of adjacent tags.

    cost of a scheme = tags that it does not have + adjacent pairs that it does not allow

The scheme with the lowest cost is chosen if most tags fit it; the other tags are reported. If no
tag has a prefix, the tags are types alone (io). In bio, iob1 and bios an entity that begins with
the wrong one of B-X and I-X (B-X after O in iob1, I-X after O in bio) is still unambiguous: if such
entities are few, they are accepted and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bertft.data.rows import RowError
from bertft.errors import DataError
from bertft.tasks.token_classification.tag_schemes import (
    NOTATIONS,
    OUTSIDE,
    PREFIXES,
    STANDARD_NOTATION,
    Notation,
    Tag,
    entities_to_tags,
    extract_entities,
    find_invalid_tag,
    infer_class_scheme,
    is_allowed_transition,
    parse_tag,
)

__all__ = [
    "TARGET_SCHEMES",
    "DetectedScheme",
    "TagConverter",
    "TagPairs",
    "count_tag_pairs",
    "count_violations",
    "detect_notation",
    "detect_scheme",
    "is_valid_in_scheme",
    "make_tag_converter",
]


TagPairs = Counter[tuple[str, str]]  # (tag, next tag), with O before and after each sentence

# The scheme that a model learns; the other schemes are not converted.
TARGET_SCHEMES = {"iob1": "bio", "bios": "bio", "biluo": "bioes"}

_MAX_NAMED_TAGS = 5  # unknown tags that are counted as separate reasons
_TOLERANT_SCHEMES = ("bio", "iob1", "bios")  # entities are unambiguous with a wrong first tag
_ENTITIES_PER_INVALID_START = 20  # one in 20 entities may begin with a wrong tag
_MAX_SHOWN = 5


@dataclass(frozen=True)
class TagConverter:
    """Converts tags; ``class_by_tag``: classes of another notation by their standard tag."""

    detected: DetectedScheme
    target_scheme: str
    class_by_tag: dict[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        return self.detected.scheme

    @property
    def is_identity(self) -> bool:
        """Whether valid tags are not changed."""
        is_standard = (
            self.detected.notation == STANDARD_NOTATION and not self.detected.invalid_starts
        )
        return is_standard and self.scheme == self.target_scheme and not self.class_by_tag

    def convert(self, original: Sequence[str]) -> list[str]:
        """The converted tags. Raises RowError (``line_offset``: the word) for an invalid tag."""
        notation, scheme = self.detected.notation, self.scheme
        tags = [notation.to_standard(tag) for tag in original]
        parsed = [parse_tag(tag, scheme) for tag in tags]
        if self.detected.invalid_starts:
            invalid_index = parsed.index(None) if None in parsed else None
        else:
            invalid_index = find_invalid_tag(tags, scheme)
        if invalid_index is not None:
            raise self._invalid_tag_error(original, tags, invalid_index)
        if scheme == self.target_scheme and not self.detected.invalid_starts:
            return [self.class_by_tag.get(tag, tag) for tag in tags]
        entities_found = extract_entities([tag for tag in parsed if tag is not None])
        converted = entities_to_tags(entities_found, len(tags), self.target_scheme)
        return [self.class_by_tag.get(tag, tag) for tag in converted]

    def _invalid_tag_error(
        self, original: Sequence[str], tags: Sequence[str], position: int
    ) -> RowError:
        reason, scheme = "tag breaks the scheme", self.scheme
        if position == len(tags):
            detail = (
                f"{original[-1]!r} of the last word {{word!r}} does not end its entity ({scheme})"
            )
        elif parse_tag(tags[position], scheme) is None:
            tag = original[position]
            unknown_tags = [
                unknown_tag
                for unknown_tag, _ in self.detected.unknown_tags.most_common(_MAX_NAMED_TAGS)
            ]
            if tag in unknown_tags and len(tag) <= 40:
                reason = f"{tag!r} is not a tag of {scheme}"
            detail = f"{tag!r} of the word {{word!r}} is not a tag of {scheme}"
        else:
            before = f"after {original[position - 1]!r}" if position else "at the beginning"
            detail = f"{original[position]!r} of the word {{word!r}} is invalid {before} ({scheme})"
        return RowError(reason, detail, min(position, len(tags) - 1))

    def notes(self, source: str) -> list[str]:
        """Notes about the tags that were converted in ``source``."""
        detected, lines = self.detected, []
        if detected.notation != STANDARD_NOTATION and detected.scheme != "io":
            lines.append(f"{source}: tags are written as {detected.notation} and converted to B-X")
        if detected.scheme != self.target_scheme:
            lines.append(
                f"{source}: {detected.scheme} tags are converted to {self.target_scheme}, with the"
                " same entities"
            )
        if detected.invalid_starts:
            lines.append(
                f"{source}: {detected.invalid_starts:,} of {detected.entities:,} entities begin"
                f" with a tag that {detected.scheme} does not allow there; they are accepted"
            )
        return lines


def make_tag_converter(
    pairs: TagPairs,
    scheme: str | None,
    target_scheme: str | None,
    names: list[str] | None,
    source: str,
) -> TagConverter:
    """The converter for a split with the tag counts ``pairs``.

    ``scheme``: data.scheme, None to detect it. ``target_scheme``: None for the first split.
    ``names``: the classes, if they are known before the rows are read. DataError if the tags fit no
    scheme, or if only one of tags and classes has prefixes.
    """
    tags = {now for _, now in pairs}
    class_by_tag: dict[str, str] = {}
    if names is not None and scheme != "io":
        target_scheme, notation = infer_class_scheme(names)
        if notation != STANDARD_NOTATION:
            class_by_tag = {notation.to_standard(name): name for name in names}
    if scheme is not None:
        detected = DetectedScheme(
            scheme, STANDARD_NOTATION if scheme == "io" else detect_notation(tags - {OUTSIDE})
        )
    elif target_scheme is not None and _is_already_converted(pairs, tags, target_scheme, names):
        return TagConverter(DetectedScheme(target_scheme), target_scheme)
    else:
        detected = detect_scheme(pairs, source)
    target_scheme = target_scheme or TARGET_SCHEMES.get(detected.scheme, detected.scheme)
    has_no_prefix = detected.scheme == "io"
    if has_no_prefix != (target_scheme == "io"):
        examples = ", ".join(map(repr, sorted(tags - {OUTSIDE})[:5]))
        descriptions = ("have a prefix, as in B-X", "have no prefix")
        raise DataError(
            f"the tags {descriptions[has_no_prefix]} ({examples}), but the classes"
            f" {descriptions[not has_no_prefix]}",
            where=source,
            hint="Write the tags of this file as the classes (those of the other files, of the"
            " model, or in data.labels, which takes tags: [O,B-X,I-X])",
        )
    return TagConverter(detected, target_scheme, class_by_tag)


def _is_already_converted(
    pairs: TagPairs, tags: set[str], target_scheme: str, names: list[str] | None
) -> bool:
    if not tags - {OUTSIDE}:
        return True
    if names is not None:
        return tags <= {OUTSIDE, *names} and (
            target_scheme == "io" or is_valid_in_scheme(pairs, target_scheme)
        )
    return target_scheme != "io" and is_valid_in_scheme(pairs, target_scheme)


@dataclass(frozen=True)
class DetectedScheme:
    """``unknown_tags``: tags that the scheme does not have. ``invalid_starts``: entities that begin
    with a wrong tag and are accepted; 0 if they are too many of the ``entities``.
    """

    scheme: str
    notation: Notation = STANDARD_NOTATION
    unknown_tags: Counter[str] = field(default_factory=Counter)
    invalid_starts: int = 0
    entities: int = 0


def count_tag_pairs(sentences: Iterable[Sequence[str]]) -> TagPairs:
    """Counts of each pair of adjacent tags."""
    pairs: TagPairs = Counter()
    for tags in sentences:
        pairs.update(zip([OUTSIDE, *tags], [*tags, OUTSIDE], strict=True))
    return pairs


def is_valid_in_scheme(pairs: TagPairs, scheme: str) -> bool:
    """Whether ``scheme`` has all of these tags and allows all of these pairs."""
    return count_violations(pairs, scheme, STANDARD_NOTATION) == (0, 0)


def count_violations(pairs: TagPairs, scheme: str, notation: Notation) -> tuple[int, int]:
    """Number of tags that the scheme does not have, and of pairs that it does not allow."""
    parsed = _parse_tags(pairs, scheme, notation)
    unknown = sum(count for (_, now), count in pairs.items() if parsed[now] is None)
    forbidden = 0
    for (before, now), count in pairs.items():
        left, right = parsed[before], parsed[now]
        if (
            left is not None
            and right is not None
            and not is_allowed_transition(left, right, scheme)
        ):
            forbidden += count
    return unknown, forbidden


def detect_notation(tags: Iterable[str]) -> Notation:
    """The first notation that fits all of ``tags``; the standard one if none does."""
    names = list(tags)
    return next(
        (notation for notation in NOTATIONS if _uses_prefixes(names, notation, all_of=True)),
        STANDARD_NOTATION,
    )


def detect_scheme(pairs: TagPairs, source: str) -> DetectedScheme:
    """The most likely scheme. DataError if some tags have a prefix, but most fit no scheme."""
    counts: Counter[str] = Counter()
    for (_, now), count in pairs.items():
        counts[now] += count
    del counts[OUTSIDE]
    if not counts:
        return DetectedScheme("bio")
    options = [
        (count_violations(pairs, scheme, notation), notation, scheme)
        for notation in NOTATIONS
        if _uses_prefixes(counts, notation, all_of=False) or _have_all_prefixes(counts, notation)
        for scheme in PREFIXES
    ]
    if not options:
        return _types_without_prefix(counts, source)
    # On a tie the first is chosen.
    (unknown_count, forbidden), notation, scheme = min(options, key=lambda option: sum(option[0]))
    parsed = _parse_tags(pairs, scheme, notation)
    unknown_tags = Counter({tag: n for tag, n in counts.items() if parsed[tag] is None})
    if not _uses_prefixes(counts, notation, all_of=False) and unknown_count + forbidden:
        return _types_without_prefix(counts, source)  # in this case E-mail is a type
    if 2 * unknown_count > counts.total():
        raise _no_scheme_error(counts, unknown_tags, scheme, notation, source)
    entities = sum(
        n for pair, n in pairs.items() if _starts_entity(parsed[pair[0]], parsed[pair[1]])
    )
    invalid_starts = (
        forbidden
        if scheme in _TOLERANT_SCHEMES and _ENTITIES_PER_INVALID_START * forbidden <= entities
        else 0
    )
    return DetectedScheme(scheme, notation, unknown_tags, invalid_starts, entities)


def _types_without_prefix(tag_counts: Counter[str], source: str) -> DetectedScheme:
    if "0" in tag_counts:
        raise DataError(
            f"the tags are types without a prefix, and one of them is '0' ({tag_counts['0']:,} ×)",
            where=source,
            hint="Use the letter O, not zero, for words outside of entities",
        )
    return DetectedScheme("io")


def _parse_tags(pairs: TagPairs, scheme: str, notation: Notation) -> dict[str, Tag | None]:
    tags = {tag for pair in pairs for tag in pair}
    split_tags = {tag: notation.split(tag) for tag in tags}
    return {
        tag: None if split_tags[tag] is None else parse_tag(notation.to_standard(tag), scheme)
        for tag in tags
    }


def _uses_prefixes(tags: Iterable[str], notation: Notation, all_of: bool) -> bool:
    """Whether ``tags`` have prefixes of ``notation``; a type may look like one, as in E-mail."""
    split_tags = [notation.split(tag) for tag in tags]
    prefixed = [
        split_tag for split_tag in split_tags if split_tag is not None and split_tag[0] != OUTSIDE
    ]
    if all_of and None in split_tags:
        return False
    if None in split_tags:  # in this case a single letter is a type
        prefixed = [split_tag for split_tag in prefixed if split_tag[1]]
    prefixes = {prefix for prefix, _ in prefixed}
    if notation.separator == "-" and notation.prefix_first:
        return bool(prefixes & {"B", "I"})
    return "B" in prefixes and len(prefixes) > 1


def _have_all_prefixes(tags: Iterable[str], notation: Notation) -> bool:
    return notation == STANDARD_NOTATION and all(notation.split(tag) is not None for tag in tags)


def _starts_entity(before: Tag | None, now: Tag | None) -> bool:
    """Whether an entity begins at ``now``, by the convention of conlleval."""
    if now is None or now[0] == OUTSIDE:
        return False
    return before is None or before[0] in "OES" or now[0] in "BS" or before[1] != now[1]


def _no_scheme_error(
    counts: Counter[str], unknown_tags: Counter[str], scheme: str, notation: Notation, source: str
) -> DataError:
    fitting = Counter({tag: n for tag, n in counts.items() if tag not in unknown_tags})
    return DataError(
        f"the tags fit no scheme: {_format_tag_counts(fitting)} could be {scheme} ({notation}),"
        f" but not {_format_tag_counts(unknown_tags)}",
        where=source,
        hint="Correct the tags (a word outside of entities has O), or set data.scheme=io if all of"
        " them are types without a prefix",
    )


def _format_tag_counts(counts: Counter[str]) -> str:
    shown = [f"{_shorten(tag)} ({count:,} ×)" for tag, count in counts.most_common(_MAX_SHOWN)]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def _shorten(tag: str) -> str:
    return repr(tag if len(tag) <= 40 else f"{tag[:39]}…")
