"""``bertft eval``: evaluate a model, or a file of predictions, on labelled rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertft.config.command_configs import EvalConfig, EvalRequest
from bertft.config.registry import TASKS
from bertft.data.question_ids import QuestionIds, shared_id
from bertft.data.readers.text_files import (
    RepeatedKeyError,
    open_text,
    reject_repeated_keys,
    resolve_existing_file,
)
from bertft.data.rows import Rows, format_accounting
from bertft.data.splits import load_splits
from bertft.errors import DataError, UsageError
from bertft.report.console import plain_console
from bertft.report.tables import score_tables
from bertft.runs.run_folder import RunFolder
from bertft.utils.atomic_io import atomic_write_json, convert_write_errors
from bertft.utils.messages import display_path, format_list, quote_value, shorten
from bertft.utils.status import IMPORT_STATUS, show_status
from bertft.utils.terminal import print_escaped, print_warning

__all__ = [
    "run",
    "score_predictions",
]


_ROWS_FILE = "rows.json"
_MAX_SHOWN_IDS = 3
_FORMAT_HINT = 'Example: {"question 1": "an answer", "question 2": ""}'


def score_predictions(config: EvalConfig) -> tuple[dict[str, float], str, dict[str, Any]]:
    """The metrics, the name of the main metric, and the counts of the rows with their source.

    ``missing_predictions`` counts questions without an answer, ``unknown_predictions`` answers
    without a question. If several questions have the same id in their file, the answer to this id
    counts for each of them that has no answer of its own. DataError if the file is invalid or a
    question has no id.
    """
    assert config.predictions is not None and config.data is not None
    predictions = _read_predictions(config.predictions)
    rows = dict(load_splits(config.data, (config.split,), training=False).items())[config.split]
    if not rows.has_labels:
        raise UsageError(
            f"the {config.split} split has no answers to score against",
            where="split",
            hint="Use rows with answers, or another split",
        )
    question_ids = _question_ids(rows)
    answer_ids = _answer_ids(question_ids, predictions, rows.source, config.predictions)
    missing_ids = [
        question_id
        for question_id, answer_id in zip(question_ids, answer_ids, strict=True)
        if answer_id is None
    ]
    if len(missing_ids) == len(question_ids):
        raise DataError(
            f"has no answer to any of the {len(question_ids):,} questions"
            f" ({format_list(missing_ids, _MAX_SHOWN_IDS)})",
            where=config.predictions,
            hint="Its keys must be the ids of the questions",
        )
    if missing_ids:
        print_warning(
            f"{config.predictions} has no answer to {len(missing_ids):,} of"
            f" {len(question_ids):,} questions, which score 0"
            f" ({format_list(missing_ids, _MAX_SHOWN_IDS)})"
        )
    if unknown_ids := predictions.keys() - set(answer_ids):
        shown_ids = format_list(sorted(unknown_ids), _MAX_SHOWN_IDS)
        print_warning(
            f"{config.predictions}: {len(unknown_ids):,} of {len(predictions):,} answers are"
            f" ignored, because no question has their ids ({shown_ids})"
        )
    score = TASKS.implementation(config.data.task, "score_predictions")
    texts = [None if answer_id is None else predictions[answer_id] for answer_id in answer_ids]
    metrics, metric_name = score(texts, rows, config.data)
    counts = {
        "source": rows.source,
        **rows.accounting(),
        "missing_predictions": len(missing_ids),
        "unknown_predictions": len(unknown_ids),
    }
    return metrics, metric_name, counts


def _read_predictions(name: str) -> dict[str, str]:
    path = resolve_existing_file(name, "predictions")
    try:
        with open_text(path, "utf-8", "\n") as file:
            text = file.read()
            text.encode()  # undecodable bytes become surrogates
            content = json.loads(text, object_pairs_hook=reject_repeated_keys)
    except UnicodeError:
        raise DataError("is not UTF-8", where=name, hint="Save it as UTF-8") from None
    except RepeatedKeyError as error:
        raise DataError(str(error), where=name, hint="Keep one answer per id") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON ({error})", where=name, hint=_FORMAT_HINT) from error
    if not isinstance(content, dict):
        raise DataError(
            f"expected a JSON object (question id: answer), got {quote_value(content)}",
            where=name,
            hint=_FORMAT_HINT,
        )
    for key, value in content.items():
        if not isinstance(value, str):
            raise DataError(
                f"the answer to {shorten(key)} is {quote_value(value)}, expected a string",
                where=name,
                hint=_FORMAT_HINT,
            )
    return content


def _question_ids(rows: Rows) -> list[str]:
    """An id of its own for every row. DataError if a row has no id."""
    values: list[str | None] = rows.column("id")
    if None in values:
        raise DataError(
            "the question has no id",
            where=rows.location(values.index(None)),
            hint="Add a column 'id', which matches answers to questions",
        )
    ids = QuestionIds()
    names = [ids.assign(value, number) for number, value in enumerate(values, start=1)]
    for note in [*rows.bad.notes, *ids.notes()]:
        print_warning(f"{rows.source}: {note}")
    return names


def _answer_ids(
    question_ids: Sequence[str], predictions: Mapping[str, str], source: str, file: str
) -> list[str | None]:
    """The key of the answer to each question; None if it has none.

    ``source`` has the questions, ``file`` the answers.
    """
    known_ids, shared_count = set(question_ids), 0
    answer_ids: list[str | None] = []
    for question_id in question_ids:
        answer_id: str | None = question_id
        while answer_id is not None and answer_id not in predictions:
            answer_id = shared_id(answer_id, known_ids)
        answer_ids.append(answer_id)
        shared_count += answer_id not in (None, question_id)
    if shared_count:
        questions = "1 question" if shared_count == 1 else f"{shared_count:,} questions"
        print_warning(
            f"{source}: {questions} with the id of an earlier question; the one answer to this id"
            f" in {file} is scored for each of them"
        )
    return answer_ids


def run(config: EvalRequest, folder: Path) -> None:
    """Print the result and write it to ``folder``: metrics.json, rows.json and report.html.

    metrics.json has the metrics under the name of the split, rows.json the counts of the rows. A
    file of predictions has no report.
    """
    run_folder = RunFolder(folder)
    run_folder.ensure_no_run()
    if config.predictions is not None:  # needs neither a model nor torch
        metrics, metric_name, counts = score_predictions(config)
        _write_metrics(config, run_folder, metrics, counts)
        for table in score_tables(metrics, metric_name, config.split, counts["used"]):
            plain_console().print(table)
        _print_accounting(config, counts)
    else:
        show_status(IMPORT_STATUS)
        from bertft.cli.commands.eval_run import score_run
        from bertft.report.eval_report import evaluation_tables, write_evaluation_report

        evaluation = score_run(config)
        _write_metrics(config, run_folder, evaluation.metrics, evaluation.counts)
        for table in evaluation_tables(evaluation):
            plain_console().print(table)
        _print_accounting(config, evaluation.counts)
        if config.report:
            with convert_write_errors(run_folder.path):
                path = write_evaluation_report(evaluation, run_folder.path, print_warning)
            print_escaped(f"report: {display_path(path)}")
    print_escaped(f"metrics: {display_path(run_folder.metrics_path)}")


def _write_metrics(
    config: EvalRequest,
    run_folder: RunFolder,
    metrics: Mapping[str, float],
    counts: Mapping[str, Any],
) -> None:
    with convert_write_errors(run_folder.path):
        run_folder.path.mkdir(parents=True, exist_ok=True)
        atomic_write_json(run_folder.path / _ROWS_FILE, {config.split: counts})
    run_folder.write_metrics({config.split: metrics})


def _print_accounting(config: EvalRequest, counts: Mapping[str, Any]) -> None:
    print_escaped(format_accounting(f"{config.split} ({counts['source']})", counts))
