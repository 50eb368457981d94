"""``bertft predict``: one JSON object per row, in the order of the rows.

An invalid row is an error before anything is computed. With on_bad_row=skip, an object with
``error`` takes the place of its prediction, so that there is always one object per row.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import pyarrow as pa

from bertft.config.command_configs import PredictConfig
from bertft.data.features import FeatureTable, NoFeaturesError
from bertft.data.rows import Rows, format_accounting, format_reasons
from bertft.data.splits import load_inputs
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.open_model import open_from_settings
from bertft.tasks.task import BaseTask, build_unlabelled_features
from bertft.training.evaluate import predict_logits
from bertft.utils.atomic_io import atomic_open, convert_write_errors
from bertft.utils.terminal import is_output_closed, print_escaped, print_warning, supports_unicode

__all__ = ["run"]

# Characters that a terminal interprets.
_CONTROL_CHARACTERS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_DATA_PREFIX = re.compile(r"data\.(?=(text|separator|quoting|encoding|on_bad_row|header)\b)")


_OUTPUT_HINT = "Set output=<file>"


def run(config: PredictConfig, _: Path) -> None:
    """Write the predictions; nothing else goes to stdout."""
    if config.output != "-":
        _check_output_path(Path(config.output).expanduser(), Path(config.input).expanduser())
    loaded = open_from_settings(config, config.precision, warn=print_warning)
    task_model, data = loaded.task_model, loaded.data
    if loaded.unnamed_tags:
        print_warning(
            f"{loaded.unnamed_tags}. Name them in their order: labels=[O,B-PER,I-PER,...]"
        )
    # on_bad_row of the run is for its training rows.
    data = replace(data, on_bad_row=config.on_bad_row)
    for name in ("text", "separator", "quoting", "encoding", "header"):
        if (value := getattr(config, name)) is not None:
            data = replace(data, **{name: value})
    if config.threshold is not None:
        task_model.task.set_threshold(config.threshold)
    skip = config.on_bad_row == "skip"
    with _rename_data_settings():
        rows = load_inputs(config.input, data)
        for note in rows.bad.notes:
            print_warning(f"{rows.source}: {_DATA_PREFIX.sub('', note)}")
        table = _build_features(rows, loaded, skip)
    predictions: Iterator[dict[str, Any]] = iter(())
    if table is not None:
        logits = predict_logits(
            task_model.runner,
            table,
            task_model.precision,
            transform=task_model.task.predict_transform,
        )
        predictions = task_model.task.decode_predictions(logits, table)
    if skip:  # one object per row, each with the line of its row
        predictions = _merge_bad_rows(predictions, table, rows, task_model.task)
    count = 0
    with _open_output(config.output) as file:
        for prediction in predictions:
            line = json.dumps(prediction, ensure_ascii=not supports_unicode(file))
            # JSON itself escapes only the first 32; the value that is read back is the same.
            file.write(
                _CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", line) + "\n"
            )
            count += 1
            if is_output_closed(file):
                return
        if count != rows.bad.read:
            raise RuntimeError(
                f"{rows.source}: {rows.bad.read:,} rows read, but {count:,} predictions written"
            )
    if rows.bad.counts:
        reasons = format_reasons(rows.bad.counts)
        print_warning(f"{rows.source}: {reasons}: they have an error in place of a prediction")
    accounting = format_accounting(rows.source, rows.accounting())
    output_prefix = "" if config.output == "-" else f"{config.output}: "
    print_escaped(f"{output_prefix}{count:,} predictions; {accounting}", stderr=True)


def _build_features(rows: Rows, loaded: LoadedModel, skip: bool) -> FeatureTable | None:
    """The features of the rows; None if all rows are invalid and skipped."""
    if not len(rows) and rows.bad.read:
        return None
    task, length = loaded.task_model.task, loaded.info.max_length
    policy = "skip" if skip else "error"
    try:
        return build_unlabelled_features(
            rows, task, loaded.task_model.tokenizer, length, None, policy
        )
    except NoFeaturesError:
        if not skip or rows.bad.all_errors is None:
            raise
        row_error = task.no_feature_error(length)
        rows.bad.all_errors.extend((line, row_error.detail) for line in rows.column("line"))
        rows.bad.counts[row_error.reason] += len(rows)
        return None


def _merge_bad_rows(
    predictions: Iterator[dict[str, Any]], table: FeatureTable | None, rows: Rows, task: BaseTask
) -> Iterator[dict[str, Any]]:
    """Predictions with the ``line`` of their row; null and ``error`` for invalid rows."""
    lines = [] if table is None else _predicted_lines(table)
    predicted = (
        (line, {"line": line, **fields}) for line, fields in zip(lines, predictions, strict=True)
    )
    empty_prediction, ids = dict.fromkeys(task.prediction_fields), _ids_of_bad_rows(rows)
    bad = (
        (line, {"line": line, **ids.get(line, {}), **empty_prediction, "error": error})
        for line, error in sorted(rows.bad.all_errors or ())
    )
    for _, prediction in heapq.merge(predicted, bad, key=lambda pair: pair[0]):
        yield prediction


def _ids_of_bad_rows(rows: Rows) -> dict[int, dict[str, str]]:
    """``{"id": ...}`` by line, for the invalid rows that have an id."""
    ids = dict(rows.bad.ids)
    if "id" in rows.columns:  # rows that were read but have no features
        bad = {line for line, _ in rows.bad.all_errors or ()}
        pairs = zip(rows.column("line"), rows.column("id"), strict=True) if bad else ()
        ids |= {line: name for line, name in pairs if line in bad and name is not None}
    return {line: {"id": name} for line, name in ids.items()}


def _predicted_lines(table: FeatureTable) -> list[int]:
    """The line numbers of the rows that have a prediction, in order."""
    rows = np.flatnonzero(table.rows_with_features())
    lines: list[int] = table.rows.arrow_column("line").take(pa.array(rows)).to_pylist()
    return lines


@contextlib.contextmanager
def _rename_data_settings() -> Iterator[None]:
    """Rename data.<setting> in errors: the settings of predict are not in the group ``data``."""
    try:
        yield
    except DataError as error:
        message, hint = (text and _DATA_PREFIX.sub("", text) for text in (error.what, error.hint))
        raise DataError(message or "", where=error.where, hint=hint) from error


def _check_output_path(path: Path, input_path: Path) -> None:
    """UsageError, before anything is computed, if the output file cannot be written."""
    if path.is_dir():
        raise UsageError("is a folder", where=f"output={path}", hint="Use a file in it")
    if input_path.is_file() and path.exists() and path.samefile(input_path):
        raise UsageError("is also the input", where=f"output={path}", hint="Use another file")
    if not path.parent.is_dir():
        raise UsageError(
            f"there is no folder {path.parent}", where=f"output={path}", hint="Create it first"
        )


@contextlib.contextmanager
def _open_output(name: str) -> Iterator[TextIO]:
    """stdout, or a file that is written atomically, or an existing pipe or device."""
    if name == "-":
        if is_output_closed(sys.stdout):
            raise UsageError("standard output is closed", where="output=-", hint=_OUTPUT_HINT)
        yield sys.stdout
        return
    path = Path(name).expanduser().resolve()
    is_special = path.exists() and not path.is_file()
    output = path.open("w", encoding="utf-8") if is_special else atomic_open(path)
    with convert_write_errors(path), output as file:
        yield cast(TextIO, file)
