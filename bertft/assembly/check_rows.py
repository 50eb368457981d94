"""Rows on which what is written is compared with what it was made from.

A run keeps about 64 of its validation rows for that. Of a model from elsewhere nothing is known but
its task: there, rows of an embedded sample stand in, of two texts where the task takes texts, so
that both token types occur. They have no labels that mean anything to the model, and so no metrics.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data.rows import Rows
from bertft.data.sources import load_sample
from bertft.errors import DataError
from bertft.runs.atomic import environment, write_text

__all__ = ["COUNT", "made_rows", "read_check_rows", "write_check_rows"]

COUNT = 64

# The sample and its columns that stand in for the rows of a task; of all others a pair of texts.
_SAMPLES = {
    "question_answering": ("qa", None),
    "token_classification": ("ner", "words"),
    "masked_lm": ("sentiment", "text"),
}


def write_check_rows(file: Path, rows: Rows) -> str:
    """Leave ``COUNT`` of ``rows``, spread over all of them, as JSON lines; their sha256."""
    content = _spread(rows).to_pylist()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    with environment(file):
        write_text(file, text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_check_rows(file: Path) -> Rows:
    """DataError if they are missing or damaged."""
    try:
        # Not splitlines: a text may hold U+2028 and its kin.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        rows = [json.loads(line) for line in lines]
        return Rows(pa.Table.from_pylist(rows), str(file))
    except (OSError, ValueError, RecursionError, AttributeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"the rows to check a merge with cannot be read ({error})", where=str(file),
            hint="They are written when training begins; restore the run folder",
        ) from error  # fmt: skip


def made_rows(task: str) -> Rows:
    """``COUNT`` rows that a model of ``task`` can answer, always the same."""
    sample, text = _SAMPLES.get(task, ("pair", ["text", "text_pair"]))
    data = DataConfig(name="made", source="sample", sample=sample, task=task, text=text)
    rows = load_sample(data, "validation")
    return Rows(_spread(rows), rows.source)


def _spread(rows: Rows) -> pa.Table:
    count = min(COUNT, len(rows))
    spread = np.zeros(len(rows), dtype=bool)
    spread[np.arange(count) * len(rows) // count] = True
    return rows.keep(spread).slice(0, count)
