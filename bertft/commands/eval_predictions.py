"""Score answers to questions that came from elsewhere: a JSON object, id → text ('' is none).

A question without an answer in it scores 0, as in the official scripts, also where "no answer"
would have been right. Scores need no offsets, so no row is left out for a misplaced answer.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from bertft.assembly.warn import warn
from bertft.config.commands import EvalConfig
from bertft.data.rows import Rows
from bertft.data.sniff import RepeatedKey, unique_keys
from bertft.data.sources import load
from bertft.data.text_files import existing, open_text
from bertft.errors import DataError, UsageError
from bertft.tasks.qa.scores import score_each, summary

__all__ = ["score"]

_SHOWN = 3


def score(config: EvalConfig) -> tuple[dict[str, float], str, dict[str, Any]]:
    """The metrics, the one that counts, and the accounting of the rows with their source.

    ``missing_predictions`` counts questions without an answer, ``unknown_predictions`` answers
    without a question. DataError where the file has another form, or a question has no id.
    """
    assert config.predictions is not None and config.data is not None
    given = _given(config.predictions)
    rows = dict(load(config.data, (config.split,), learn=False).items())[config.split]
    if not rows.labelled:
        raise UsageError(
            f"the {config.split} split has no answers to score against", where="split",
            hint="Give rows with answers, or another split",
        )  # fmt: skip
    names = _names(rows)
    missing = [name for name in names if name not in given]
    if len(missing) == len(names):
        raise DataError(
            f"none of the {len(names):,} questions has an answer in it, such as"
            f" {', '.join(missing[:_SHOWN])}",
            where=config.predictions, hint="Its keys must be the ids of the questions",
        )  # fmt: skip
    if missing:
        warn(
            f"{config.predictions}: {len(missing):,} of {len(names):,} questions have no answer in"
            f" it and score 0, such as {', '.join(missing[:_SHOWN])}"
        )
    if surplus := given.keys() - set(names):
        warn(f"{config.predictions}: {len(surplus):,} × answer without a question in the rows")
    golds = rows.column("label")
    answerable = np.array([bool(each) for each in golds])
    scores = score_each([given.get(name, "") for name in names], golds, config.data.scorer)
    answered = np.array([name in given for name in names])
    scores = {name: np.where(answered, values, 0.0) for name, values in scores.items()}
    counts = {
        "source": rows.source, **rows.accounting(),
        "missing_predictions": len(missing), "unknown_predictions": len(surplus),
    }  # fmt: skip
    return summary(scores, answerable, config.data.unanswerable), "f1", counts


def _given(name: str) -> dict[str, str]:
    path = existing(name, "predictions")
    try:
        with open_text(path, "utf-8", "\n") as file:
            content = json.load(file, object_pairs_hook=unique_keys)
    except RepeatedKey as error:
        raise DataError(str(error), where=name, hint="Keep one answer per id") from error
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
