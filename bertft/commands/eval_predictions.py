"""Score answers to questions that came from elsewhere: a JSON object, id → text ('' is none).

A question without an answer in it scores 0, as in the official scripts, also where "no answer"
would have been right. Scores need no offsets, so no row is left out for a misplaced answer.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from bertft.assembly.warn import print_warning
from bertft.config.commands import EvalConfig
from bertft.data.rows import Rows
from bertft.data.sniff import RepeatedKeyError, reject_repeated_keys
from bertft.data.sources import load_splits
from bertft.data.text_files import resolve_existing_file, open_text
from bertft.errors import DataError, UsageError
from bertft.tasks.qa.scores import score_answers, summarize_scores

__all__ = ["score_predictions"]

_MAX_SHOWN_IDS = 3


def score_predictions(config: EvalConfig) -> tuple[dict[str, float], str, dict[str, Any]]:
    """The metrics, the one that counts, and the accounting of the rows with their source.

    ``missing_predictions`` counts questions without an answer, ``unknown_predictions`` answers
    without a question. DataError where the file has another form, or a question has no id.
    """
    assert config.predictions is not None and config.data is not None
    predictions = _read_predictions(config.predictions)
    rows = dict(load_splits(config.data, (config.split,), training=False).items())[config.split]
    if not rows.has_labels:
        raise UsageError(
            f"the {config.split} split has no answers to score against", where="split",
            hint="Give rows with answers, or another split",
        )  # fmt: skip
    question_ids = _question_ids(rows)
    missing_ids = [name for name in question_ids if name not in predictions]
    if len(missing_ids) == len(question_ids):
        raise DataError(
            f"none of the {len(question_ids):,} questions has an answer in it, such as"
            f" {', '.join(missing_ids[:_MAX_SHOWN_IDS])}",
            where=config.predictions, hint="Its keys must be the ids of the questions",
        )  # fmt: skip
    if missing_ids:
        print_warning(
            f"{config.predictions}: {len(missing_ids):,} of {len(question_ids):,} questions have no answer in"
            f" it and score 0, such as {', '.join(missing_ids[:_MAX_SHOWN_IDS])}"
        )
    if unknown_ids := predictions.keys() - set(question_ids):
        print_warning(f"{config.predictions}: {len(unknown_ids):,} × answer without a question in the rows")
    references = rows.column("label")
    answerable = np.array([bool(reference) for reference in references])
    scores = score_answers([predictions.get(name, "") for name in question_ids], references, config.data.scorer)
    answered = np.array([name in predictions for name in question_ids])
    scores = {name: np.where(answered, values, 0.0) for name, values in scores.items()}
    counts = {
        "source": rows.source, **rows.accounting(),
        "missing_predictions": len(missing_ids), "unknown_predictions": len(unknown_ids),
    }  # fmt: skip
    return summarize_scores(scores, answerable, config.data.unanswerable), "f1", counts


def _read_predictions(name: str) -> dict[str, str]:
    path = resolve_existing_file(name, "predictions")
    try:
        with open_text(path, "utf-8", "\n") as file:
            content = json.load(file, object_pairs_hook=reject_repeated_keys)
    except RepeatedKeyError as error:
        raise DataError(str(error), where=name, hint="Keep one answer per id") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error})", where=name) from error
    if not isinstance(content, dict):
        raise DataError("no JSON object of ids and texts", where=name)
    for key, value in content.items():
        if not isinstance(value, str):
            raise DataError(f"the answer to {key} is {value!r}, not a text", where=name)
    return content


def _question_ids(rows: Rows) -> list[str]:
    """Each row's id, all different."""
    names: list[str | None] = rows.column("id")
    if None in names:
        raise DataError(
            "has no id", where=rows.location(names.index(None)),
            hint="Answers find their questions by a column called id",
        )  # fmt: skip
    ids = [name for name in names if name is not None]
    duplicates = [name for name, count in Counter(ids).items() if count > 1]
    if duplicates:
        raise DataError(
            f"the id {duplicates[0]} stands {ids.count(duplicates[0])} times", where=rows.source
        )
    return ids
