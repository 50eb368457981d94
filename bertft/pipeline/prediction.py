"""Predict rows as a stream: rows → blocks → features → logits → one dict per row, in order.

``bertft predict`` and ``Predictor.predict`` use the same ``RowPredictor``. Memory is bounded by a
block, whose rows are sorted by length for the forward passes. The blocks of a file depend on its
rows and the kind of device alone, so that a file has the same predictions in every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bertft.data.features import FeatureTable, NoFeaturesError
from bertft.data.prediction_rows import (
    InputErrors,
    InputRow,
    PredictionInput,
    iter_row_blocks,
    rows_to_table,
)
from bertft.data.rows import BadRows, RowError, Rows, decode_line, raise_or_skip
from bertft.errors import DataError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.tasks.feature_tables import build_unlabelled_features
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import predict_logits
from bertft.training.memory import return_free_memory
from bertft.utils.status import advance_status

__all__ = ["RowPredictor", "kept_key", "output_columns"]


@dataclass(frozen=True)
class _BlockSize:
    """The rows or characters that end a block."""

    rows: int
    characters: int


# About 64k tokens, some seconds on a CPU; a GPU needs more rows to sort by length.
_BLOCK_SIZES = {"cpu": _BlockSize(4_096, 1 << 18), "cuda": _BlockSize(16_384, 1 << 22)}


class RowPredictor:
    """Predicts the rows of one input.

    Args:
        loaded: the model.
        rows: the input.
        on_bad_row: ``error``: raise at the first invalid row, after the rows before it; ``skip``:
            an invalid row has ``error`` and null values, and every row has its ``line``.
        skip_rows: the number of rows at the start that are left out.

    Attributes:
        count: the rows predicted so far, invalid ones included.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: PredictionInput,
        on_bad_row: str = "error",
        skip_rows: int = 0,
    ) -> None:
        self._model, self._max_length = loaded.task_model, loaded.info.max_length
        self._task: BaseTask = loaded.task_model.task
        self._rows, self._skips = rows, on_bad_row == "skip"
        self._skip_rows = skip_rows
        self._errors = InputErrors(rows.name, rows.unit, rows.locations)
        self._kept_keys = [kept_key(name, self._task, rows) for name in rows.kept_names]
        self._invalid_counts: Counter[str] = Counter()
        self.count = 0

    def iter_blocks(self) -> Iterator[list[dict[str, Any]]]:
        """The predictions in the order of the rows, in blocks.

        Raises:
            DataError: a row is invalid and ``on_bad_row`` is ``error``.
        """
        device = self._model.precision.device.type
        size = _BLOCK_SIZES.get(device, _BLOCK_SIZES["cpu"])
        max_rows = min(size.rows, self._task.max_prediction_rows or size.rows)
        for block in iter_row_blocks(
            self._rows, self._errors, max_rows, size.characters, self._skip_rows
        ):
            invalid = None if self._skips else _first_invalid(block)
            valid_rows = block if invalid is None else block[:invalid]
            if valid_rows:
                predictions = self._predict_block(valid_rows)
                self.count += len(predictions)
                yield predictions
            if invalid is not None:
                self._raise_error(block[invalid])
        if self.count == 0 and not self._errors.read:
            raise DataError("there are no rows", where=self._rows.name)

    def accounting(self) -> dict[str, Any]:
        """Where the rows of the input went, as in ``Rows.accounting``."""
        invalid, left_out = self._invalid_counts, self._skip_rows
        if self._errors.read:  # 0: the reader does not count
            left_out = min(left_out, self._errors.read)
        return {
            "read": left_out + self.count,
            "used": self.count - invalid.total(),
            "skipped": dict(invalid),
            "unused": {"left out (skip_rows)": left_out},
            "dropped": dict(self._errors.dropped),
            "blank_lines": self._errors.blank_lines,
        }

    @property
    def invalid_counts(self) -> Counter[str]:
        """The number of invalid rows so far, by reason."""
        return self._invalid_counts

    def kept_types(self, types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
        """Key in the output → type of a kept column; ``types`` has the types by column name.

        The type of a column without an entry is text.
        """
        return {
            key: types.get(name, pa.string())
            for key, name in zip(self._kept_keys, self._rows.kept_names, strict=True)
            if key != "id" or "id" not in self._rows.schema.arrow_schema.names
        }

    @property
    def notes(self) -> list[str]:
        """Notes of the reader, complete after the last block."""
        return self._errors.notes

    def check_complete(self) -> None:
        """Check that every row has a prediction. Raises RuntimeError, a bug, otherwise."""
        expected = max(0, self._errors.read - self._skip_rows)
        if self._errors.read and self.count != expected:  # some readers do not count
            raise RuntimeError(
                f"{self._rows.name}: {expected:,} rows read, but {self.count:,} predictions written"
            )

    def _predict_block(self, block: Sequence[InputRow]) -> list[dict[str, Any]]:
        """One prediction per row of ``block``."""
        valid_rows = [row for row in block if row.error is None]
        predictions = iter(self._predict_valid(valid_rows))
        results = []
        for row in block:
            kept_values = dict(
                zip(self._kept_keys, row.kept_values or [None] * len(self._kept_keys), strict=True)
            )
            prediction = next(predictions) if row.error is None else row.error
            if isinstance(prediction, RowError):
                self._invalid_counts[prediction.reason] += 1
                row_id = {} if prediction.row_id is None else {"id": prediction.row_id}
                empty = dict.fromkeys(self._task.output_fields)
                result = {**kept_values, **row_id, **empty, "error": prediction.detail}
            else:
                result = {**kept_values, **prediction}
            results.append({**self._location(row), **result} if self._skips else result)
        return results

    def _location(self, row: InputRow) -> dict[str, Any]:
        """The line of a row, with its file if there are several."""
        line, file_index = decode_line(row.line)
        if not self._rows.locations:
            return {"line": line}
        return {"file": self._rows.locations[file_index][0], "line": line}

    def _predict_valid(self, rows: Sequence[InputRow]) -> list[dict[str, Any] | RowError]:
        """A prediction per row, or the error of a row that has no features."""
        if not rows:
            return []
        table = Rows(
            rows_to_table(rows, self._rows.schema),
            BadRows(self._rows.name, self._rows.unit, self._rows.locations),
        )
        features = self._build_features(table)
        predictions: list[dict[str, Any]] = []
        has_features = np.zeros(len(rows), bool)
        if features is not None:
            has_features = features.rows_with_features()
            logits = self._logits(features, int(has_features.sum()))
            predictions += self._task.decode_predictions(logits, features)
        if len(predictions) != has_features.sum():
            raise RuntimeError(
                f"{self._rows.name}: {has_features.sum():,} rows read, but {len(predictions):,}"
                " predictions written"
            )
        error = self._task.no_feature_error(self._max_length)
        ids = table.column("id") if "id" in table.columns else [None] * len(rows)
        results: list[dict[str, Any] | RowError] = []
        remaining = iter(predictions)
        for is_predicted, row_id in zip(has_features, ids, strict=True):
            if is_predicted:
                results.append(next(remaining))
            else:
                row_error = RowError(error.reason, error.detail, hint=error.hint)
                row_error.row_id = row_id
                results.append(row_error)
        return results

    def _build_features(self, rows: Rows) -> FeatureTable | None:
        """The features; None if no row has any and invalid rows are skipped."""
        policy = "skip" if self._skips else "error"
        try:
            return build_unlabelled_features(
                rows, self._task, self._model.tokenizer, self._max_length, None, policy
            )
        except NoFeaturesError:
            if not self._skips:
                raise
            return None

    def _logits(self, features: FeatureTable, row_count: int) -> np.ndarray:
        rows_per_feature = row_count / len(features)  # a long text has several features
        logits = predict_logits(
            self._model.runner,
            features,
            self._model.precision,
            transform=self._task.predict_transform,
            on_batch=lambda size: advance_status(size * rows_per_feature),
        )
        return_free_memory()
        return logits

    def _raise_error(self, row: InputRow) -> None:
        """Raise the DataError of an invalid row."""
        assert row.error is not None
        bad = BadRows(self._rows.name, self._rows.unit, self._rows.locations)
        bad.add(row.line, row.error)
        raise_or_skip([bad], "error")


def output_columns(task: BaseTask, rows: PredictionInput, has_errors: bool) -> list[str]:
    """The columns of a table of predictions: kept ones, then one per value of a prediction.

    ``has_errors``: whether there are also ``line`` and ``error`` (on_bad_row=skip), and the
    ``file`` of the line if there are several.
    """
    kept_keys = [kept_key(name, task, rows) for name in rows.kept_names]
    ids = ["id"] if "id" in rows.schema.arrow_schema.names and "id" not in kept_keys else []
    columns = [*kept_keys, *ids, *_prediction_keys(task)]
    location = ["file", "line"] if rows.locations else ["line"]
    return [*location, *columns, "error"] if has_errors else columns


def _prediction_keys(task: BaseTask) -> list[str]:
    """The keys of a prediction in a table: ``scores`` has one column per class."""
    keys = []
    for name in task.output_fields:
        if name == "scores" and task.class_names is not None:
            keys += [f"{name}.{class_name}" for class_name in task.class_names]
        else:
            keys.append(name)
    return keys


def kept_key(name: str, task: BaseTask, rows: PredictionInput) -> str:
    """The key of a kept column in the output: another one if a prediction has the same key."""
    reserved = {"line", "error", *task.output_fields, *_prediction_keys(task)}
    if rows.locations:
        reserved.add("file")
    return f"input_{name}" if name in reserved else name


def _first_invalid(block: Sequence[InputRow]) -> int | None:
    return next((number for number, row in enumerate(block) if row.error is not None), None)
