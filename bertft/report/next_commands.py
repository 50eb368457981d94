"""The commands that usually follow a run, complete and quoted for a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["next_commands"]


def next_commands(
    folder: str | Path,
    *,
    prefix: bool = False,
    merged: str = "merged",
    rows: str = "new.jsonl",
    other: str | Path | None = None,
) -> dict[str, str]:
    """Purpose → command.

    Args:
        folder: The run folder.
        prefix: Whether the run has a prefix, for which ``merge`` needs a setting.
        merged: Name of a new folder for ``merge``.
        rows: File of rows to predict.
        other: Folder of another run; None: without ``compare``.
    """
    run, out, rows_word = (
        shlex.quote(word) for word in (f"run={folder}", f"out={merged}", f"input={rows}")
    )
    commands = {
        "evaluate": f"bertft eval {run}",
        "write a transformers folder": (
            f"bertft merge {run} {out}{' prefix=separate' if prefix else ''}"
        ),
        "predict": f"bertft predict {run} {rows_word} output=predictions.jsonl",
    }
    if other is not None:
        words = shlex.join((str(folder), str(other)))
        commands["compare with another run"] = f"bertft compare {words}"
    return commands
