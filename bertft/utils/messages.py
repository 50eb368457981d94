"""Words of an error: the nearest valid name, and lists a reader can take in.

nearest("svdlora", ("lora", "svd_lora"))       -> "svd_lora"
did_you_mean("svdlora", ("lora", "svd_lora"))  -> "did you mean 'svd_lora'?"
did_you_mean("zebra", ("lora", "svd_lora"))    -> "one of: lora, svd_lora"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertft.errors import UsageError

__all__ = [
    "Problem",
    "closest_name",
    "did_you_mean",
    "format_list",
    "invalid_entry",
    "join_problems",
    "missing_file_problem",
    "quote_value",
    "shorten",
    "suggest",
    "usage_error",
]


def missing_file_problem(name: str, setting: str) -> Problem | None:
    """What is wrong with the file ``name``, with the nearest one of its folder; None if nothing."""
    path, where = Path(name).expanduser(), f"{setting}={name}"
    if path.is_file():
        return None
    if name.startswith("[") or ("," in name and all(map(_names_file, name.split(",")))):
        file_list = name.strip("[]").replace(" ", "")
        sweep_hint = f", or compare them in a sweep: -m {setting}={file_list}"
        return Problem(
            where,
            "several files, where one is read",
            f"Join them into one file{sweep_hint if setting.startswith('data.') else ''}",
        )
    if path.is_dir():
        return Problem(where, "is a folder, not a file", _suggest_file(path.name, path))
    if path.exists():
        stdin_hint = "input=- reads JSON Lines from standard input" if setting == "input" else None
        return Problem(
            where,
            "is a pipe or a device, and not a file",
            f"Write its content to a file{f', or {stdin_hint}' if stdin_hint else ''}",
        )
    if path.parent.is_dir():
        return Problem(where, "there is no such file", _suggest_file(path.name, path.parent))
    return Problem(where, f"there is no folder {path.parent}", f"Paths are taken from {Path.cwd()}")


def _names_file(name: str) -> bool:
    return Path(name.strip()).expanduser().is_file()


def _suggest_file(name: str, folder: Path) -> str:
    """The file most like ``name``, else those of its kind."""
    files = sorted(each.name for each in folder.iterdir() if each.is_file())
    same_extension = [entry for entry in files if Path(entry).suffix == Path(name).suffix]
    return suggest(name, files if closest_name(name, files) else same_extension)


_CUTOFF = 0.6  # difflib's own default: one slip in a short word, two in a long one
_MAX_LIST_ITEMS = 16
_MAX_NAME_LENGTH = 60


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
    unique_problems = list(dict.fromkeys(problems))
    if len(unique_problems) == 1:
        problem = unique_problems[0]
        return UsageError(problem.what, where=problem.where or None, hint=problem.hint or None)
    return UsageError(join_problems(unique_problems))


def join_problems(mistakes: Sequence[object]) -> str:
    """What is wrong in several ways, a line each."""
    lines = "".join(f"\n  {mistake}" for mistake in mistakes)
    return f"{len(mistakes)} things are wrong:{lines}"


def closest_name(word: object, choices: Iterable[object]) -> str | None:
    """The choice most like ``word`` (case, ``-`` and ``_`` aside), or None if none is like it."""
    if len(str(word)) > _MAX_NAME_LENGTH:  # no name was meant
        return None
    texts = [text for choice in choices if len(text := str(choice)) <= _MAX_NAME_LENGTH]
    names = {_normalize_name(text): text for text in texts}
    matches = difflib.get_close_matches(_normalize_name(word), names, n=1, cutoff=_CUTOFF)
    return names[matches[0]] if matches else None


def did_you_mean(word: object, choices: Iterable[object]) -> str:
    """A hint: the nearest choice, else all of them; empty if there are no choices."""
    names = [str(choice) for choice in choices]
    closest = closest_name(word, names)
    if closest is not None:
        return f"did you mean '{closest}'?"
    return f"one of: {format_list(names)}" if names else ""


def suggest(word: object, choices: Iterable[object]) -> str:
    """The same as a sentence of its own."""
    hint = did_you_mean(word, choices)
    return hint[:1].upper() + hint[1:]


def format_list(
    names: Iterable[object],
    max_items: int = _MAX_LIST_ITEMS,
    max_name_length: int = _MAX_NAME_LENGTH,
) -> str:
    """``a, b, c``, each name shortened; past ``max_items`` names, the rest as a count."""
    words = [str(name) for name in names]
    shown_names = ", ".join(shorten(word, max_name_length) for word in words[:max_items])
    return (
        shown_names
        if len(words) <= max_items
        else f"{shown_names}, ... ({len(words) - max_items:,} more)"
    )


def shorten(text: str, max_length: int = _MAX_NAME_LENGTH) -> str:
    """``text``, past ``max_length`` characters its beginning and how many were left out."""
    more = len(text) - max_length
    # A name with a line break must not look like a line of its own.
    shown = text[:max_length].replace("\r", "\\r").replace("\n", "\\n")
    return shown if more <= 0 else f"{shown}… ({more:,} more characters)"


def invalid_entry(name: str, value: object) -> str:
    """What is wrong with an entry of a file that bertft wrote and somebody may have changed."""
    return f"invalid value for '{name}' (got {quote_value(value)}); the file may be damaged"


def quote_value(value: object, max_length: int = _MAX_NAME_LENGTH) -> str:
    """``repr`` of a value from a file, shortened."""
    if isinstance(value, str) and len(value) > max_length:
        return f"{value[:max_length]!r}… ({len(value) - max_length:,} more characters)"
    return shorten(repr(value), max_length + 2)


def _normalize_name(word: object) -> str:
    return str(word).casefold().replace("-", "_")
