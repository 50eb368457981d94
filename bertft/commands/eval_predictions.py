"""Score answers to questions that came from elsewhere: a JSON object, id → text ('' is none)."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from bertft.assembly.warn import warn
from bertft.config.commands import EvalConfig
from bertft.data.rows import Rows
from bertft.data.sources import load
from bertft.data.text_files import existing, open_text
from bertft.errors import DataError, UsageError
from bertft.tasks.qa.scores import score_each, summary

__all__ = ["score"]

_SHOWN = 3


def score(config: EvalConfig) -> tuple[dict[str, float], str, Rows]:
    """The metrics, the one that counts, and the rows.

    DataError where the file is of another form, or a question has no id or no answer in it.
    """
    assert config.predictions is not None and config.data is not None
    given = _given(config.predictions)
    rows = dict(load(config.data, (config.split,)).items())[config.split]
    if not rows.labelled:
        raise UsageError(
            f"the {config.split} split has no answers to score against", where="split",
            hint="Give rows with answers, or another split",
        )  # fmt: skip
    names = _names(rows)
    missing = [name for name in names if name not in given]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(names):,} questions have no answer in it, such as"
            f" {', '.join(missing[:_SHOWN])}",
            where=config.predictions, hint="Give an empty text where there is none",
        )  # fmt: skip
    if surplus := given.keys() - set(names):
        warn(f"{config.predictions}: {len(surplus):,} answers are to no question of the rows")
    for reason, count in rows.skipped.items():
        warn(f"{rows.source}: left out {count:,} × {reason}")
    golds = rows.column("label")
    answerable = np.array([bool(each) for each in golds])
    scores = score_each([given[name] for name in names], golds, config.data.scorer)
    return summary(scores, answerable, config.data.unanswerable), "f1", rows


def _given(name: str) -> dict[str, str]:
    path = existing(name, "predictions")
    try:
        with open_text(path, "utf-8", "\n") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", where=name) from error
    if not isinstance(content, dict):
        raise DataError("no JSON object of ids and texts", where=name)
    for key, value in content.items():
        if not isinstance(value, str):
            raise DataError(f"the answer to {key} is {value!r}, not a text", where=name)
    return content


def _names(rows: Rows) -> list[str]:
    """Each row's id, all different."""
    names: list[str | None] = rows.column("id")
    if None in names:
        raise DataError(
            "has no id", where=rows.where(names.index(None)),
            hint="Answers find their questions by a column called id",
        )  # fmt: skip
    known = [name for name in names if name is not None]
    twice = [name for name, count in Counter(known).items() if count > 1]
    if twice:
        raise DataError(
            f"the id {twice[0]} stands {known.count(twice[0])} times", where=rows.source
        )
    return known
