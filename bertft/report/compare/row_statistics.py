"""The statistics of each validation row at a run's best checkpoint, from which metrics follow.

    row_scores.npz     in the run folder: rows int64 [R], terms fp64 [R, K], key, digest,
                       answers uint8: ``RowAnswers`` as JSON; empty if the task has none

Training writes the file. For a run without it, the best checkpoint is evaluated once, as ``bertft
eval`` does. The file is a cache: it is used as long as its key fits the checkpoint and the rows. If
the folder is not writable, the statistics are computed each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertft.config.resume import read_run_config
from bertft.data.features import FeatureTable
from bertft.errors import BertftError, UsageError
from bertft.pipeline.calibration import read_calibration
from bertft.pipeline.manifest import recorded_data
from bertft.pipeline.open_model import open_model
from bertft.pipeline.recorded_rows import load_split
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.files_json import FILES_JSON
from bertft.runs.manifest import read_manifest
from bertft.runs.run_folder import RunFolder
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.task import BaseTask, build_task
from bertft.training.evaluate import evaluation_outputs
from bertft.utils.atomic_io import atomic_write_bytes
from bertft.utils.messages import format_list
from bertft.utils.safe_files import open_regular_file, read_json_object
from bertft.utils.status import show_status

__all__ = [
    "RowStatistics",
    "load_row_statistics",
    "read_row_statistics",
    "store_row_statistics",
]

_MAX_CACHE_BYTES = 1 << 30  # uncompressed
_VERSION = 1  # increase it when the meaning of a task's statistics changes
_SPLIT = "validation"


@dataclass(frozen=True)
class RowStatistics:
    """``statistics`` [R, K] of the ``rows`` [R] for ``task.metrics_from_statistics``.

    ``fingerprint`` identifies the validation rows, of which ``rows`` are numbers. ``answers`` are
    those on these rows, if the task has them.
    """

    rows: np.ndarray
    statistics: np.ndarray
    task: BaseTask
    fingerprint: str = ""
    answers: RowAnswers | None = None

    @property
    def has_metric(self) -> bool:
        """Whether the task can compute its selection metric from the statistics."""
        weights = np.ones((1, len(self.rows)))
        return self.task.metric in self.task.metrics_from_statistics(self.statistics, weights)

    def metric(self, weights: np.ndarray) -> np.ndarray:
        """The selection metric [B] for rows that occur ``weights`` [B, R] times."""
        return self.task.metrics_from_statistics(self.statistics, weights)[self.task.metric]


def load_row_statistics(
    run: RunFolder,
    device: str = "auto",
    log: Callable[[str], None] = lambda _: None,
    trust_remote_code: bool = False,
) -> RowStatistics:
    """Read the cache in the run folder, or evaluate the best checkpoint.

    Args:
        run: A finished run.
        device: Where to evaluate.
        log: Is called with a line of text before the evaluation.
        trust_remote_code: Whether code of the base model may run.

    Raises:
        DataError: If the validation rows have changed since training, or a file is damaged.
        UsageError: If the run has no validation rows, or the task cannot compute the metric from
            statistics of rows.
        BertftError: If the run cannot be opened.
    """
    recorded = _read_record(run)
    task, stored = recorded.task, _read_stored(run, recorded)
    if stored is None or not stored.has_answers:
        log(f"{run.path}: computing the validation outputs of {recorded.best.name}")
        try:
            stored = _compute_statistics(run, device, log, trust_remote_code)
        except BertftError:
            if stored is None:
                raise  # else the file is of a version that did not write answers
        else:
            with contextlib.suppress(OSError):
                _write_cache(run.row_statistics_path, recorded.key, stored)
    statistics = _to_statistics(stored, recorded)
    if not statistics.has_metric:
        raise _unsupported_metric_error(task, run)
    return statistics


def read_row_statistics(run: RunFolder) -> RowStatistics | None:
    """The statistics in the run folder; None if there are none of its best checkpoint.

    Raises:
        DataError: If a file of the run is damaged.
        UsageError: If the run has no validation rows.
    """
    recorded = _read_record(run)
    stored = _read_stored(run, recorded)
    if stored is None:
        return None
    statistics = _to_statistics(stored, recorded)
    return statistics if statistics.has_metric else None


def store_row_statistics(
    run: RunFolder, task: BaseTask, logits: np.ndarray, features: FeatureTable
) -> None:
    """Write the statistics of a run that has just been trained, for ``bertft compare``.

    Args:
        run: The finished run.
        task: Its task, with the tuned threshold if there is one.
        logits: The outputs of its best checkpoint on ``features``, its validation rows.
    """
    stored = _score_rows(task, logits, features)
    if stored is not None:
        _write_cache(run.row_statistics_path, _read_record(run).key, stored)


@dataclass(frozen=True)
class _Stored:
    """The content of the file. ``has_answers``: not of a version that wrote no answers."""

    rows: np.ndarray
    terms: np.ndarray
    answers: RowAnswers | None
    has_answers: bool = True


def _score_rows(task: BaseTask, logits: np.ndarray, features: FeatureTable) -> _Stored | None:
    arrays = task.per_row_statistics(logits, features)
    return None if arrays is None else _Stored(*arrays, task.row_answers(logits, features))


def _to_statistics(stored: _Stored, recorded: _Record) -> RowStatistics:
    fingerprint = recorded.split["fingerprint"]
    return RowStatistics(stored.rows, stored.terms, recorded.task, fingerprint, stored.answers)


@dataclass(frozen=True)
class _Record:
    """What a run records of its best checkpoint and its validation rows (``split``)."""

    task: BaseTask
    best: Path
    split: Mapping[str, Any]
    key: str


def _read_record(run: RunFolder) -> _Record:
    config, manifest = read_run_config(run.path), read_manifest(run)
    task = build_task(recorded_data(config.data, manifest), manifest["labels"])
    split = manifest["data"]["splits"].get(_SPLIT)
    if split is None:
        raise UsageError(
            "has no validation rows", where=str(run.path), hint="Train with data.validation=<file>"
        )
    best = CheckpointStore(run.checkpoints_dir).find_checkpoint("best")
    # Part of the key, because a threshold changes predictions.
    calibration = json.dumps(read_calibration(run), sort_keys=True)
    key = _cache_key(best, split["fingerprint"], manifest["precision"], task.metric, calibration)
    return _Record(task, best, split, key)


def _read_stored(run: RunFolder, recorded: _Record) -> _Stored | None:
    arrays = _read_cache(run.row_statistics_path, recorded.key)
    if arrays is None:
        return None
    rows, terms, content = arrays
    if not _fits(recorded.task, rows, terms, recorded.split["rows"]):
        return None
    if content is None:
        return _Stored(rows, terms, None, has_answers=False)
    if content.dtype != np.uint8 or content.ndim != 1:
        return None
    try:
        answers = RowAnswers.from_bytes(content.tobytes(), len(rows)) if len(content) else None
    except ValueError:
        return None
    return _Stored(rows, terms, answers)


def _compute_statistics(
    run: RunFolder, device: str, log: Callable[[str], None], trust_remote_code: bool
) -> _Stored:
    loaded = open_model(str(run.path), device=device, trust_remote_code=trust_remote_code)
    task_model, task = loaded.task_model, loaded.task_model.task
    rows = load_split(loaded, _SPLIT)
    log(f"{run.path}: validation rows from {format_list(rows.files, 3, 200) or rows.source}")
    table = loaded.build_features(_SPLIT, rows)
    show_status("evaluating", total=len(table))
    outputs = evaluation_outputs(task_model.runner, task, table, task_model.precision)
    stored = _score_rows(task, outputs, table)
    if stored is None:
        raise _unsupported_metric_error(task, run)
    return stored


def _unsupported_metric_error(task: BaseTask, run: RunFolder) -> UsageError:
    return UsageError(
        f"{task.name} does not support the bootstrap for {task.metric}",
        where=str(run.path),
        hint="Use draws=0 to compare without confidence intervals",
    )


def _cache_key(checkpoint: Path, *facts: str) -> str:
    """A hash of the checkpoint's files.json, which has the sha256 of its weights, and ``facts``."""
    sealed_files = read_json_object(checkpoint / FILES_JSON)["files"]
    weight_files = {
        name: entry for name, entry in sealed_files.items() if Path(name).stem != "state"
    }
    text = json.dumps([_VERSION, checkpoint.name, weight_files, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_cache(path: Path, key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
    """Rows, statistics and answers (None: an earlier version did not write them).

    None if the file is missing, damaged or has another key.
    """
    try:
        with open_regular_file(path) as opened, np.load(opened, allow_pickle=False) as file:
            if sum(entry.file_size for entry in file.zip.infolist()) > _MAX_CACHE_BYTES:
                return None
            if str(file["key"]) != key:
                return None
            rows, terms, digest = file["rows"], file["terms"], str(file["digest"])
            answers = file.get("answers")
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        MemoryError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return None
    arrays = (rows, terms) if answers is None else (rows, terms, answers)
    return (rows, terms, answers) if digest == _arrays_sha256(*arrays) else None


def _fits(task: BaseTask, rows: np.ndarray, terms: np.ndarray, max_rows: int) -> bool:
    """Whether ``task`` can compute metrics from the arrays, which may come from somebody else."""
    if (
        rows.dtype.kind != "i"
        or rows.ndim != 1
        or terms.ndim != 2
        or terms.dtype.kind not in "fiub"
        or not 0 < len(rows) == len(terms) <= max_rows
        or not np.isfinite(terms).all()
    ):
        return False
    try:
        return bool(task.metrics_from_statistics(terms, np.ones((1, len(rows)))))
    except (IndexError, ValueError):  # a class number that is out of range
        return False


def _arrays_sha256(*arrays: np.ndarray) -> str:
    header = "".join(f"{array.dtype}{array.shape}" for array in arrays).encode()
    return hashlib.sha256(header + b"".join(array.tobytes() for array in arrays)).hexdigest()


def _write_cache(path: Path, key: str, stored: _Stored) -> None:
    buffer, rows, terms = io.BytesIO(), stored.rows, stored.terms
    content = b"" if stored.answers is None else stored.answers.to_bytes()
    answers = np.frombuffer(content, np.uint8)
    np.savez_compressed(
        buffer,
        key=np.array(key),
        rows=rows,
        terms=terms,
        answers=answers,
        digest=np.array(_arrays_sha256(rows, terms, answers)),
    )
    atomic_write_bytes(path, buffer.getvalue())
