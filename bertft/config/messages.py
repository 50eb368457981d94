"""Words of an error: the nearest valid name, and lists a reader can take in.

    nearest("svdlora", ("lora", "svd_lora"))       -> "svd_lora"
    did_you_mean("svdlora", ("lora", "svd_lora"))  -> "did you mean 'svd_lora'?"
    did_you_mean("zebra", ("lora", "svd_lora"))    -> "one of: lora, svd_lora"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "listing", "nearest"]

_CUTOFF = 0.6  # difflib's own default: one slip in a short word, two in a long one
_LONGEST_LIST = 16


def nearest(word: object, choices: Iterable[object]) -> str | None:
    """The choice most like ``word`` (case, ``-`` and ``_`` aside), or None if none is like it."""
    names = {_plain(choice): str(choice) for choice in choices}
    found = difflib.get_close_matches(_plain(word), names, n=1, cutoff=_CUTOFF)
    return names[found[0]] if found else None


def did_you_mean(word: object, choices: Iterable[object]) -> str:
    """A hint: the nearest choice, else all of them; empty if there are no choices."""
    names = [str(choice) for choice in choices]
    near = nearest(word, names)
    if near is not None:
        return f"did you mean '{near}'?"
    return f"one of: {listing(names)}" if names else ""


def listing(names: Iterable[object], longest: int = _LONGEST_LIST) -> str:
    """``a, b, c``; past ``longest`` names, the rest as a count."""
    words = [str(name) for name in names]
    if len(words) <= longest:
        return ", ".join(words)
    return f"{', '.join(words[:longest])}, ... ({len(words) - longest} more)"


def _plain(word: object) -> str:
    return str(word).casefold().replace("-", "_")
