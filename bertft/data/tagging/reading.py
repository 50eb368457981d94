"""How the tags of one split become those of the model's classes.

written in   notation, scheme          detected, or data.scheme
kept in      the classes' own, else the scheme of the first split; the entities are the same
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bertft.data.bad_rows import Fault
from bertft.data.tagging.detect import Detected, Pairs, detect, fits, notation_of
from bertft.data.tagging.schemes import (
    OUTSIDE,
    STANDARD,
    breaks,
    class_scheme,
    parse,
)
from bertft.data.tagging.spans import entities, tags_of_entities
from bertft.errors import DataError

__all__ = ["KEPT_AS", "Reading", "read_as"]

KEPT_AS = {
    "iob1": "bio",
    "bios": "bio",
    "biluo": "bioes",
}  # what a model learns; others as they are

_NAMED = 5  # strangers that are reasons of their own


@dataclass(frozen=True)
class Reading:
    """``names``: the classes by their standard notation, where they are written in another."""

    detected: Detected
    kept_as: str
    names: dict[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        return self.detected.scheme

    @property
    def unchanged(self) -> bool:
        """Whether every tag that fits stays as it is."""
        own = self.detected.notation == STANDARD and not self.detected.slips
        return own and self.scheme == self.kept_as and not self.names

    def tags(self, given: Sequence[str]) -> list[str]:
        """The tags to keep. Raises Fault, ``after`` being the word, where they break the scheme."""
        notation, scheme = self.detected.notation, self.scheme
        tags = [notation.standard(tag) for tag in given]
        known = [parse(tag, scheme) for tag in tags]
        if self.detected.slips:
            place = known.index(None) if None in known else None
        else:
            place = breaks(tags, scheme)
        if place is not None:
            raise self._broken(given, tags, place)
        if scheme == self.kept_as and not self.detected.slips:
            return [self.names.get(tag, tag) for tag in tags]
        found = entities([tag for tag in known if tag is not None])
        kept = tags_of_entities(found, len(tags), self.kept_as)
        return [self.names.get(tag, tag) for tag in kept]

    def _broken(self, given: Sequence[str], tags: Sequence[str], place: int) -> Fault:
        reason, scheme = "tag breaks the scheme", self.scheme
        if place == len(tags):
            detail = f"{given[-1]!r} of the last word {{word!r}} leaves an entity open ({scheme})"
        elif parse(tags[place], scheme) is None:
            tag = given[place]
            named = [each for each, _ in self.detected.strangers.most_common(_NAMED)]
            if tag in named and len(tag) <= 40:
                reason = f"{tag!r} is not a tag of {scheme}"
            detail = f"{tag!r} of the word {{word!r}} is not a tag of {scheme}"
        else:
            before = f"after {given[place - 1]!r}" if place else "at the beginning"
            detail = f"{given[place]!r} of the word {{word!r}} cannot be {before} ({scheme})"
        return Fault(reason, detail, min(place, len(tags) - 1))

    def notes(self, source: str) -> list[str]:
        """What was changed in ``source``."""
        found, lines = self.detected, []
        if found.notation != STANDARD and found.scheme != "io":
            lines.append(f"{source}: tags are written as {found.notation}, kept as B-X")
        if found.scheme != self.kept_as:
            lines.append(
                f"{source}: {found.scheme} tags are kept as {self.kept_as}, the same entities"
            )
        if found.slips:
            lines.append(
                f"{source}: {found.slips:,} of {found.entities:,} entities begin with a tag that"
                f" {found.scheme} does not allow there; they are kept"
            )
        return lines


def read_as(
    pairs: Pairs, scheme: str | None, kept_as: str | None, names: list[str] | None, source: str
) -> Reading:
    """``scheme``: data.scheme, None to detect it. ``kept_as``: None for the first split.

    ``names``: the classes, where they are known before the rows. DataError where the tags fit no
    scheme, or are types alone and the others are not.
    """
    tags = {now for _, now in pairs}
    spelled: dict[str, str] = {}
    if names is not None and scheme != "io":
        kept_as, notation = class_scheme(names)
        if notation != STANDARD:
            spelled = {notation.standard(name): name for name in names}
    if scheme is not None:
        found = Detected(scheme, STANDARD if scheme == "io" else notation_of(tags - {OUTSIDE}))
    elif kept_as is not None and _as_they_are(pairs, tags, kept_as, names):
        return Reading(Detected(kept_as), kept_as)
    else:
        found = detect(pairs, source)
    kept_as = kept_as or KEPT_AS.get(found.scheme, found.scheme)
    bare = found.scheme == "io"
    if bare != (kept_as == "io"):
        shown = ", ".join(map(repr, sorted(tags - {OUTSIDE})[:5]))
        kinds = ("have a prefix, as in B-X", "have no prefix")
        raise DataError(
            f"the tags {kinds[bare]} ({shown}), but those of the classes {kinds[not bare]}",
            where=source, hint="Write all splits in the same scheme",
        )  # fmt: skip
    return Reading(found, kept_as, spelled)


def _as_they_are(pairs: Pairs, tags: set[str], kept_as: str, names: list[str] | None) -> bool:
    if not tags - {OUTSIDE}:
        return True
    if names is not None:
        return tags <= {OUTSIDE, *names} and (kept_as == "io" or fits(pairs, kept_as))
    return kept_as != "io" and fits(pairs, kept_as)
