"""How the tags of one split become those of the model's classes.

written in   notation, scheme          detected, or data.scheme
kept in      the classes' own, else the scheme of the first split; the entities are the same
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bertft.data.bad_rows import RowError
from bertft.data.tagging.detect import DetectedScheme, TagPairs, detect_scheme, is_valid_in_scheme, detect_notation
from bertft.data.tagging.schemes import (
    OUTSIDE,
    STANDARD_NOTATION,
    find_invalid_tag,
    infer_class_scheme,
    parse_tag,
)
from bertft.data.tagging.spans import extract_entities, entities_to_tags
from bertft.errors import DataError

__all__ = ["TARGET_SCHEMES", "TagConverter", "make_tag_converter"]

TARGET_SCHEMES = {
    "iob1": "bio",
    "bios": "bio",
    "biluo": "bioes",
}  # what a model learns; others as they are

_MAX_NAMED_TAGS = 5  # strangers that are reasons of their own


@dataclass(frozen=True)
class TagConverter:
    """``class_by_tag``: the classes by their standard notation, where they are written in another."""

    detected: DetectedScheme
    target_scheme: str
    class_by_tag: dict[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        return self.detected.scheme

    @property
    def is_identity(self) -> bool:
        """Whether every tag that fits stays as it is."""
        is_standard = self.detected.notation == STANDARD_NOTATION and not self.detected.invalid_starts
        return is_standard and self.scheme == self.target_scheme and not self.class_by_tag

    def convert(self, original: Sequence[str]) -> list[str]:
        """The tags to keep. Raises Fault, ``after`` being the word, where they break the scheme."""
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

    def _invalid_tag_error(self, original: Sequence[str], tags: Sequence[str], position: int) -> RowError:
        reason, scheme = "tag breaks the scheme", self.scheme
        if position == len(tags):
            detail = f"{original[-1]!r} of the last word {{word!r}} leaves an entity open ({scheme})"
        elif parse_tag(tags[position], scheme) is None:
            tag = original[position]
            unknown_tags = [unknown_tag for unknown_tag, _ in self.detected.unknown_tags.most_common(_MAX_NAMED_TAGS)]
            if tag in unknown_tags and len(tag) <= 40:
                reason = f"{tag!r} is not a tag of {scheme}"
            detail = f"{tag!r} of the word {{word!r}} is not a tag of {scheme}"
        else:
            before = f"after {original[position - 1]!r}" if position else "at the beginning"
            detail = f"{original[position]!r} of the word {{word!r}} cannot be {before} ({scheme})"
        return RowError(reason, detail, min(position, len(tags) - 1))

    def notes(self, source: str) -> list[str]:
        """What was changed in ``source``."""
        detected, lines = self.detected, []
        if detected.notation != STANDARD_NOTATION and detected.scheme != "io":
            lines.append(f"{source}: tags are written as {detected.notation}, kept as B-X")
        if detected.scheme != self.target_scheme:
            lines.append(
                f"{source}: {detected.scheme} tags are kept as {self.target_scheme}, the same entities"
            )
        if detected.invalid_starts:
            lines.append(
                f"{source}: {detected.invalid_starts:,} of {detected.entities:,} entities begin with a tag that"
                f" {detected.scheme} does not allow there; they are kept"
            )
        return lines


def make_tag_converter(
    pairs: TagPairs, scheme: str | None, target_scheme: str | None, names: list[str] | None, source: str
) -> TagConverter:
    """``scheme``: data.scheme, None to detect it. ``target_scheme``: None for the first split.

    ``names``: the classes, where they are known before the rows. DataError where the tags fit no
    scheme, or are types alone and the others are not.
    """
    tags = {now for _, now in pairs}
    class_by_tag: dict[str, str] = {}
    if names is not None and scheme != "io":
        target_scheme, notation = infer_class_scheme(names)
        if notation != STANDARD_NOTATION:
            class_by_tag = {notation.to_standard(name): name for name in names}
    if scheme is not None:
        detected = DetectedScheme(scheme, STANDARD_NOTATION if scheme == "io" else detect_notation(tags - {OUTSIDE}))
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
            f"the tags {descriptions[has_no_prefix]} ({examples}), but those of the classes {descriptions[not has_no_prefix]}",
            where=source, hint="Write all splits in the same scheme",
        )  # fmt: skip
    return TagConverter(detected, target_scheme, class_by_tag)


def _is_already_converted(pairs: TagPairs, tags: set[str], target_scheme: str, names: list[str] | None) -> bool:
    if not tags - {OUTSIDE}:
        return True
    if names is not None:
        return tags <= {OUTSIDE, *names} and (target_scheme == "io" or is_valid_in_scheme(pairs, target_scheme))
    return target_scheme != "io" and is_valid_in_scheme(pairs, target_scheme)
