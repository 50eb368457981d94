"""Error texts: the closest valid name, lists of limited length, and several problems at once.

closest_name("svdlora", ("lora", "svd_lora"))  -> "svd_lora"
suggest("svdlora", ("lora", "svd_lora"))       -> "Did you mean 'svd_lora'?"
suggest("zebra", ("lora", "svd_lora"))         -> "One of: lora, svd_lora"
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertft.errors import BertftError, UsageError

__all__ = [
    "Problem",
    "add_location",
    "closest_name",
    "describe_value",
    "display_path",
    "end_sentence",
    "first_line",
    "format_list",
    "invalid_entry",
    "join_problems",
    "missing_file_problem",
    "quote_for_shell",
    "quote_value",
    "shorten",
    "suggest",
    "usage_error",
]

_CUTOFF = 0.6  # difflib's default: one typo in a short word, two in a long one
_MIN_ABBREVIATION = 3  # characters of a word that can be a part of a name
_MAX_LIST_ITEMS = 16
_MAX_NAME_LENGTH = 60


@dataclass(frozen=True)
class Problem:
    """``what`` is wrong at ``where``, and a ``hint`` how to fix it."""

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line}. {self.hint}" if self.hint else line


def usage_error(problems: Sequence[Problem]) -> UsageError:
    """One error that lists all ``problems`` (at least one), without duplicates."""
    unique_problems = list(dict.fromkeys(problems))
    if len(unique_problems) == 1:
        problem = unique_problems[0]
        return UsageError(problem.what, where=problem.where or None, hint=problem.hint or None)
    return UsageError(join_problems(unique_problems))


def quote_for_shell(word: str) -> str:
    """``word`` in quotes if it needs them; double quotes are easier to read around single ones."""
    is_readable = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if is_readable else shlex.quote(word)


def display_path(path: str | Path) -> str:
    """``path``, relative to the current directory if it is below it."""
    path = str(path).removeprefix("file://")
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the current directory was deleted; another drive of Windows
        return path
    return path if not os.path.isabs(path) or relative.startswith("..") else relative


def join_problems(problems: Sequence[object]) -> str:
    """Several problems as one text, one line each."""
    lines = "".join(f"\n  {problem}" for problem in problems)
    return f"{len(problems)} problems:{lines}"


def expand_home(name: str | os.PathLike[str], where: str | None = None) -> Path:
    """``name`` with ``~`` and ``~user`` replaced by the home directory.

    Raises UsageError with ``where`` if there is no such user: the name may come from a file.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{os.fspath(name)}: there is no such user or home directory",
            where=where,
            hint="Use the full path",
        ) from None


@contextlib.contextmanager
def add_location(where: object) -> Iterator[None]:
    """A context that adds ``where`` to errors of bertft that have no location."""
    try:
        yield
    except BertftError as error:
        error.where = error.where or str(where)
        raise


def missing_file_problem(name: str, setting: str) -> Problem | None:
    """Why ``name``, the value of ``setting``, is not a file, with the closest file in its folder.

    None if it is a file.
    """
    path, where = expand_home(name, setting), f"{setting}={name}"
    if path.is_file():
        return None
    if "," in name and all(map(_is_file_name, name.split(","))):
        hint = "Join them into one file"
        if setting.startswith("data."):
            hint = (
                f"Read them as one split with {setting}=[{name}]. To compare them, use bertft train"
                f" -m {setting}={name}"
            )
        elif setting == "input":
            hint = f"Read them one after another with input=[{name}]"
        return Problem(where, "expected one file, got several", hint)
    if path.is_dir():
        return Problem(where, "is a folder, not a file", _suggest_file(path.name, path))
    if path.exists():
        stdin_hint = ", or set input=- to read standard input"
        return Problem(
            where,
            "is a pipe or a device, not a file",
            f"Write its content to a file{stdin_hint if setting == 'input' else ''}",
        )
    if path.parent.is_dir():
        return Problem(where, "there is no such file", _suggest_file(path.name, path.parent))
    return Problem(
        where,
        f"there is no folder {path.parent}",
        f"Relative paths start at the current directory, {Path.cwd()}",
    )


def _is_file_name(name: str) -> bool:
    return expand_home(name.strip()).is_file()


def _suggest_file(name: str, folder: Path) -> str:
    """The file most like ``name``, else the files with its extension."""
    files = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    same_extension = [file for file in files if Path(file).suffix == Path(name).suffix]
    return suggest(name, files if closest_name(name, files) else same_extension)


def closest_name(word: object, choices: Iterable[object]) -> str | None:
    """The choice most like ``word``, ignoring case, ``-`` and ``_``; None if none is similar.

    A choice that begins with ``word`` comes first (deberta → deberta_v3_base), then the only choice
    that contains it as a whole word (ner → sample_ner), then the choice with the most letters in
    common.
    """
    if len(str(word)) > _MAX_NAME_LENGTH:  # not a misspelled name
        return None
    texts = [text for choice in choices if len(text := str(choice)) <= _MAX_NAME_LENGTH]
    names = {_normalize_name(text): text for text in texts}
    name, cutoff = _normalize_name(word), _CUTOFF
    candidates = list(names)
    if len(name) >= _MIN_ABBREVIATION and name not in names:
        longer_names = [other for other in names if other.startswith(name)]
        containing_names = [other for other in names if name in other.split("_")]
        if longer_names or len(containing_names) == 1:
            candidates, cutoff = longer_names or containing_names, 0.0
    matches = difflib.get_close_matches(name, candidates, n=1, cutoff=cutoff)
    return names[matches[0]] if matches else None


def suggest(word: object, choices: Iterable[object]) -> str:
    """A hint: the closest choice, else all of them; empty if there are no choices."""
    names = [str(choice) for choice in choices]
    closest = closest_name(word, names)
    if closest is not None:
        return f"Did you mean '{closest}'?"
    return f"One of: {format_list(names)}" if names else ""


def end_sentence(text: str) -> str:
    """``text`` with a full stop, so that another sentence can follow."""
    return text if text.endswith(("?", ".")) else f"{text}."


def first_line(error: object) -> str:
    """The first line of an error's text that is not empty; else the name of its type."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def format_list(
    names: Iterable[object],
    max_items: int = _MAX_LIST_ITEMS,
    max_name_length: int = _MAX_NAME_LENGTH,
) -> str:
    """``a, b, c`` with shortened names; the names after ``max_items`` are counted."""
    words = [str(name) for name in names]
    text = ", ".join(shorten(word, max_name_length) for word in words[:max_items])
    more = len(words) - max_items
    return text if more <= 0 else f"{text}, ... ({more:,} more)"


def shorten(text: str, max_length: int = _MAX_NAME_LENGTH) -> str:
    """``text`` on one line; after ``max_length`` characters, the rest is counted."""
    more = len(text) - max_length
    # A name with a line break must not look like a separate line.
    shown = text[:max_length].replace("\r", "\\r").replace("\n", "\\n")
    return shown if more <= 0 else f"{shown}… ({more:,} more characters)"


def quote_value(value: object, max_length: int = _MAX_NAME_LENGTH) -> str:
    """``repr`` of a value from a file, shortened."""
    if isinstance(value, str) and len(value) > max_length:
        return f"{value[:max_length]!r}… ({len(value) - max_length:,} more characters)"
    return shorten(repr(value), max_length + 2)


def describe_value(value: object) -> str:
    """A value of a wrong type in the words of JSON: ``the number 3``, ``null``, ``a list``."""
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return "a string"
    kinds = ((dict, "an object"), ((list, tuple), "a list"))
    names = (name for kind, name in kinds if isinstance(value, kind))
    return next(names, f"of type {type(value).__name__}")


def invalid_entry(name: str, value: object) -> str:
    """The problem with an invalid entry of a file that bertft wrote."""
    return f"invalid value for '{name}' (got {quote_value(value)})"


def _normalize_name(word: object) -> str:
    return str(word).casefold().replace("-", "_")
