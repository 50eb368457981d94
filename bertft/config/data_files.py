"""The names of data files, without reading them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["file_extension", "inherited_format"]


def file_extension(name: str | Path) -> str:
    """The extension that decides the format of a file, in lower case."""
    return Path(name).suffix.lower()


def inherited_format(recorded: str | None, train: str | None, name: str) -> str | None:
    """data.format for a file ``name`` that replaces the files of a run.

    It is the ``recorded`` format if the training file ``train`` has the same extension. Otherwise
    the format of ``name`` is detected.
    """
    if recorded is None or train is None or file_extension(train) != file_extension(name):
        return None
    return recorded
