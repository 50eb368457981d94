"""Generates the bundled samples, ``bertft/samples/<name>/<split>.jsonl``.

    python -m tools.make_samples

``ner``, ``pair``, ``qa`` and ``sentiment`` each define one sample: ``generate(split)`` returns its
columns. ``texts`` has their words and templates, ``grammar`` writes sentences from them. The rows
depend on (name, split) only and are the same on every platform and version of Python.
"""

from __future__ import annotations

import json
from pathlib import Path

from tools.make_samples import ner, pair, qa, sentiment

__all__ = ["SAMPLES", "SPLITS", "jsonl", "write_samples"]

SAMPLES = {"ner": ner, "pair": pair, "qa": qa, "sentiment": sentiment}
SPLITS = ("train", "validation", "test")


def jsonl(name: str, split: str) -> bytes:
    """The content of one file."""
    columns = SAMPLES[name].generate(split)
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def write_samples(folder: Path) -> None:
    """Write every split of every sample below ``folder``."""
    for name in SAMPLES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            (folder / name / f"{split}.jsonl").write_bytes(jsonl(name, split))
