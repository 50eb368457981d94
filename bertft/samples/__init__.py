"""The bundled samples: small English data sets that come with bertft, for use without a network.

    bertft/samples/<name>/<split>.jsonl      one row per line, the same columns in every row

The files are generated: ``python -m tools.make_samples`` in the repository writes them. A new
sample is a new folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bertft.config.choices import SPLITS
from bertft.errors import UsageError
from bertft.utils.messages import suggest

__all__ = ["load_sample", "sample_names"]

_FOLDER = Path(__file__).parent


def sample_names() -> tuple[str, ...]:
    """Names of the bundled samples, in alphabetical order."""
    return tuple(sorted(file.parent.name for file in _FOLDER.glob("*/train.jsonl")))


def load_sample(name: str, split: str) -> dict[str, list[Any]]:
    """The rows of one split, as columns of equal length.

    Raises:
        UsageError: there is no such sample or split.
    """
    if name not in sample_names():
        raise UsageError(
            f"no bundled sample {name!r}",
            where="data.sample",
            hint=suggest(name, sample_names()),
        )
    if split not in SPLITS:
        raise UsageError(
            f"a bundled sample has no split {split!r}",
            where=f"data.sample={name}",
            hint=suggest(split, SPLITS),
        )
    with (_FOLDER / name / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {column: [row[column] for row in rows] for column in rows[0]}
