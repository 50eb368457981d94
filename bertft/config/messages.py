"""Words of an error: the nearest valid name, and lists a reader can take in.

nearest("svdlora", ("lora", "svd_lora"))       -> "svd_lora"
did_you_mean("svdlora", ("lora", "svd_lora"))  -> "did you mean 'svd_lora'?"
did_you_mean("zebra", ("lora", "svd_lora"))    -> "one of: lora, svd_lora"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bertft.errors import UsageError

__all__ = [
    "Problem", "did_you_mean", "invalid_entry", "listing", "nearest", "quoted", "shortened",
    "suggestion", "together", "usage_error",
]  # fmt: skip

_CUTOFF = 0.6  # difflib's own default: one slip in a short word, two in a long one
_LONGEST_LIST = 16
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Problem:
    """One mistake: ``what`` is wrong at ``where``, and the ``hint`` that mends it."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line}. {self.hint}" if self.hint else line


def usage_error(problems: Sequence[Problem]) -> UsageError:
    """One error that tells all ``problems`` (at least one), each once."""
    several = list(dict.fromkeys(problems))
    if len(several) == 1:
        only = several[0]
        return UsageError(only.what, where=only.where or None, hint=only.hint or None)
    return UsageError(together(several))


def together(mistakes: Sequence[object]) -> str:
    """What is wrong in several ways, a line each."""
    lines = "".join(f"\n  {mistake}" for mistake in mistakes)
    return f"{len(mistakes)} things are wrong:{lines}"


def nearest(word: object, choices: Iterable[object]) -> str | None:
    """The choice most like ``word`` (case, ``-`` and ``_`` aside), or None if none is like it."""
    if len(str(word)) > _LONGEST_NAME:  # no name was meant
        return None
    texts = [text for choice in choices if len(text := str(choice)) <= _LONGEST_NAME]
    names = {_plain(text): text for text in texts}
    found = difflib.get_close_matches(_plain(word), names, n=1, cutoff=_CUTOFF)
    return names[found[0]] if found else None


def did_you_mean(word: object, choices: Iterable[object]) -> str:
    """A hint: the nearest choice, else all of them; empty if there are no choices."""
    names = [str(choice) for choice in choices]
    near = nearest(word, names)
    if near is not None:
        return f"did you mean '{near}'?"
    return f"one of: {listing(names)}" if names else ""


def suggestion(word: object, choices: Iterable[object]) -> str:
    """The same as a sentence of its own."""
    hint = did_you_mean(word, choices)
    return hint[:1].upper() + hint[1:]


def listing(
    names: Iterable[object], longest: int = _LONGEST_LIST, name_length: int = _LONGEST_NAME
) -> str:
    """``a, b, c``, each name shortened; past ``longest`` names, the rest as a count."""
    words = [str(name) for name in names]
    shown = ", ".join(shortened(word, name_length) for word in words[:longest])
    return shown if len(words) <= longest else f"{shown}, ... ({len(words) - longest:,} more)"


def shortened(text: str, longest: int = _LONGEST_NAME) -> str:
    """``text``, past ``longest`` characters its beginning and how many were left out."""
    more = len(text) - longest
    # A name with a line break must not look like a line of its own.
    shown = text[:longest].replace("\r", "\\r").replace("\n", "\\n")
    return shown if more <= 0 else f"{shown}… ({more:,} more characters)"


def invalid_entry(name: str, value: object) -> str:
    """What is wrong with an entry of a file that bertft wrote and somebody may have changed."""
    return f"invalid value for '{name}' (got {quoted(value)}); the file may be damaged"


def quoted(value: object, longest: int = _LONGEST_NAME) -> str:
    """``repr`` of a value from a file, shortened."""
    if isinstance(value, str) and len(value) > longest:
        return f"{value[:longest]!r}… ({len(value) - longest:,} more characters)"
    return shortened(repr(value), longest + 2)


def _plain(word: object) -> str:
    return str(word).casefold().replace("-", "_")
