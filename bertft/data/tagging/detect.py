"""The scheme in which the tags of a split are written, from how often one follows another.

    cost of a scheme = tags that it does not have + pairs of neighbours that it does not allow

The scheme of least cost is believed if most tags fit it; those that do not are named. Tags none of
which has a prefix are types alone (io). Where B-X and I-X are all that is wrong with bio, iob1 or
bios (B-X after O in iob1, I-X after O in bio), the entities are clear all the same: where these
are few they are counted as slips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bertft.data.tagging.schemes import (
    NOTATIONS,
    OUTSIDE,
    PREFIXES,
    STANDARD,
    Notation,
    Tag,
    follows,
    parse,
)
from bertft.errors import DataError

__all__ = ["Detected", "Pairs", "cost", "count_pairs", "detect", "fits", "notation_of"]

Pairs = Counter[tuple[str, str]]  # a tag and the one after it; O is before and after a sentence

_CLEAR = ("bio", "iob1", "bios")  # schemes whose slips leave no doubt about the entities
_SLIPS = 20  # of so many entities one may begin with a tag that the scheme does not allow there
_SHOWN = 5


@dataclass(frozen=True)
class Detected:
    """``strangers``: tags that the scheme does not have. ``slips`` of ``entities`` are read as
    beginnings; 0 where they are too many for that."""

    scheme: str
    notation: Notation = STANDARD
    strangers: Counter[str] = field(default_factory=Counter)
    slips: int = 0
    entities: int = 0


def count_pairs(sentences: Iterable[Sequence[str]]) -> Pairs:
    """How often each tag follows each other one."""
    pairs: Pairs = Counter()
    for tags in sentences:
        pairs.update(zip([OUTSIDE, *tags], [*tags, OUTSIDE], strict=True))
    return pairs


def fits(pairs: Pairs, scheme: str) -> bool:
    """Whether ``scheme`` has all of these tags, and allows them where they are."""
    return cost(pairs, scheme, STANDARD) == (0, 0)


def cost(pairs: Pairs, scheme: str, notation: Notation) -> tuple[int, int]:
    """How many tags are not of the scheme, and how many neighbours it does not allow."""
    known = _parsed(pairs, scheme, notation)
    strangers = sum(count for (_, now), count in pairs.items() if known[now] is None)
    wrong = 0
    for (before, now), count in pairs.items():
        left, right = known[before], known[now]
        if left is not None and right is not None and not follows(left, right, scheme):
            wrong += count
    return strangers, wrong


def notation_of(tags: Iterable[str]) -> Notation:
    """The first notation that all of ``tags`` have; the standard one if none has all."""
    names = list(tags)
    return next((each for each in NOTATIONS if _marked(names, each, all_of=True)), STANDARD)


def detect(pairs: Pairs, source: str) -> Detected:
    """DataError where some tags have a prefix, but most fit no scheme."""
    counts: Counter[str] = Counter()
    for (_, now), count in pairs.items():
        counts[now] += count
    del counts[OUTSIDE]
    if not counts:
        return Detected("bio")
    options = []
    for notation in NOTATIONS:
        if not (_marked(counts, notation, all_of=False) or _all_prefixed(counts, notation)):
            continue
        for scheme in PREFIXES:  # of equals the first is taken
            options.append((cost(pairs, scheme, notation), notation, scheme))
            if options[-1][0] == (0, 0):
                break
        if options[-1][0] == (0, 0):
            break
    if not options:
        return _bare(counts, source)
    (unknown, wrong), notation, scheme = min(options, key=lambda option: sum(option[0]))
    known = _parsed(pairs, scheme, notation)
    strangers = Counter({tag: n for tag, n in counts.items() if known[tag] is None})
    if not _marked(counts, notation, all_of=False) and unknown + wrong:
        return _bare(counts, source)  # E-mail is a type, then
    if 2 * unknown > counts.total():
        raise _unclear(counts, strangers, scheme, notation, source)
    entities = sum(n for pair, n in pairs.items() if _begins(known[pair[0]], known[pair[1]]))
    slips = wrong if scheme in _CLEAR and _SLIPS * wrong <= entities else 0
    return Detected(scheme, notation, strangers, slips, entities)


def _bare(counts: Counter[str], source: str) -> Detected:
    if "0" in counts:
        raise DataError(
            f"the tags are types without a prefix, and one of them is '0' ({counts['0']:,} ×)",
            where=source, hint="A word outside of entities has the letter O",
        )  # fmt: skip
    return Detected("io")


def _parsed(pairs: Pairs, scheme: str, notation: Notation) -> dict[str, Tag | None]:
    tags = {tag for pair in pairs for tag in pair}
    found = {tag: notation.split(tag) for tag in tags}
    return {
        tag: None if found[tag] is None else parse(notation.standard(tag), scheme) for tag in tags
    }


def _marked(tags: Iterable[str], notation: Notation, all_of: bool) -> bool:
    """Whether prefixes of ``notation`` are meant as such, for a type may be called E-mail."""
    found = [notation.split(tag) for tag in tags]
    rest = [each for each in found if each is not None and each[0] != OUTSIDE]
    if all_of and None in found:
        return False
    if None in found:  # a letter alone is a tag of another kind, then
        rest = [each for each in rest if each[1]]
    prefixes = {prefix for prefix, _ in rest}
    if notation.separator == "-" and notation.prefix_first:
        return bool(prefixes & {"B", "I"})
    return "B" in prefixes and len(prefixes) > 1


def _all_prefixed(tags: Iterable[str], notation: Notation) -> bool:
    return notation == STANDARD and all(notation.split(tag) is not None for tag in tags)


def _begins(before: Tag | None, now: Tag | None) -> bool:
    """Whether an entity begins, as conlleval reads tags."""
    if now is None or now[0] == OUTSIDE:
        return False
    return before is None or before[0] in "OES" or now[0] in "BS" or before[1] != now[1]


def _unclear(
    counts: Counter[str], strangers: Counter[str], scheme: str, notation: Notation, source: str
) -> DataError:
    ours = Counter({tag: n for tag, n in counts.items() if tag not in strangers})
    return DataError(
        f"the tags fit no scheme: {_listed(ours)} could be {scheme} ({notation}), but not"
        f" {_listed(strangers)}",
        where=source,
        hint="Correct the tags (a word outside of entities has O), or set data.scheme=io if all of"
        " them are types without a prefix",
    )  # fmt: skip


def _listed(counts: Counter[str]) -> str:
    shown = [f"{_short(tag)} ({count:,} ×)" for tag, count in counts.most_common(_SHOWN)]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def _short(tag: str) -> str:
    return repr(tag if len(tag) <= 40 else f"{tag[:39]}…")
