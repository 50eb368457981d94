"""What each validation row adds to a run's metrics, at its best checkpoint.

    row_scores.npz     in the run folder: rows int64 [R], terms fp64 [R, K], key, digest

A run does not keep these, so its best checkpoint is evaluated once, as ``bertft eval`` does, and
the file serves as long as the checkpoint and the rows are those that it was made of. Where the
folder cannot be written they are made again each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertft.assembly.calibrate import recorded
from bertft.assembly.features import features_of
from bertft.assembly.manifest import read_manifest, recorded_data
from bertft.assembly.opened import open_saved
from bertft.assembly.split_rows import split_rows
from bertft.config.regular_file import open_regular
from bertft.config.resumed import config_of_run
from bertft.data.features import cache_folder
from bertft.errors import UsageError
from bertft.runs.atomic import write_bytes
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.files import FILES
from bertft.runs.folder import RunFolder
from bertft.runs.json_file import read_object
from bertft.tasks import build
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import predict_logits, scored

__all__ = ["RowScores", "row_scores"]

_FILE = "row_scores.npz"
_LARGEST = 1 << 30  # bytes, unpacked
_VERSION = 1  # raise it whenever a task's terms change their meaning
_SPLIT = "validation"


@dataclass(frozen=True)
class RowScores:
    """``terms`` [R, K] of the ``rows`` [R], of which ``task.of_rows`` makes metrics."""

    rows: np.ndarray
    terms: np.ndarray
    task: BaseTask

    def metric(self, weights: np.ndarray) -> np.ndarray:
        """The metric that chose the checkpoint [B], row r taken ``weights`` [B, R] times."""
        return self.task.of_rows(self.terms, weights)[self.task.metric]


def row_scores(
    run: RunFolder,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    trust: bool = False,
) -> RowScores:
    """From the run's file, or from its best checkpoint; ``say`` is told before that is run.

    DataError where rows are not those of the run any more or a file is damaged; UsageError where
    the task does not tell its metric row by row; whatever opening the run raises.
    """
    config, manifest = config_of_run(run.path), read_manifest(run)
    task = build(recorded_data(config.data, manifest), manifest["labels"])
    told = manifest["data"]["splits"].get(_SPLIT)
    if told is None:
        raise UsageError("has no validation rows", where=str(run.path))
    best = Checkpoints(run.checkpoints).find("best")
    fitted = json.dumps(recorded(run), sort_keys=True)  # a threshold changes what rows are given
    key = _key(best, told["fingerprint"], manifest["precision"], task.metric, fitted)
    found = _read(run.path / _FILE, key)
    if found is None or not _fits(task, *found, told["rows"]):
        say(f"{run.path}: {best.name} answers the validation rows")
        found = _made(run, device, say, trust)
        with contextlib.suppress(OSError):
            _write(run.path / _FILE, key, *found)
    scores = RowScores(*found, task)
    if task.metric not in task.of_rows(scores.terms, np.ones((1, len(scores.rows)))):
        raise _untold(task, run)
    return scores


def _made(
    run: RunFolder, device: str, say: Callable[[str], None], trust: bool
) -> tuple[np.ndarray, np.ndarray]:
    saved = open_saved(str(run.path), device=device, trust=trust)
    adapted, task = saved.adapted, saved.adapted.task
    rows = split_rows(saved, _SPLIT)
    say(f"{run.path}: the rows are those of {', '.join(rows.files) or rows.source}")
    table = features_of(
        {_SPLIT: rows}, task, adapted.tokenizer, saved.facts.max_length,
        cache_folder(saved.data.cache), saved.data.on_bad_row, saved.data.max_skipped,
    )[_SPLIT]  # fmt: skip
    logits = predict_logits(
        adapted.runner, table, adapted.precision,
        prepare=scored(task), outputs=task.outputs, columns=task.label_columns,
    )  # fmt: skip
    found = task.by_row(logits, table)
    if found is None:
        raise _untold(task, run)
    return found


def _untold(task: BaseTask, run: RunFolder) -> UsageError:
    return UsageError(f"{task.name} does not tell {task.metric} row by row", where=str(run.path))


def _key(checkpoint: Path, *facts: str) -> str:
    """Of the sealed files of the checkpoint, which name its weights by sha256, and ``facts``."""
    sealed = read_object(checkpoint / FILES)["files"]
    kept = {name: entry for name, entry in sealed.items() if Path(name).stem != "state"}
    text = json.dumps([_VERSION, checkpoint.name, kept, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    """None where the file is missing, damaged or of something else: it is made anew."""
    try:
        with open_regular(path) as opened, np.load(opened, allow_pickle=False) as file:
            if sum(each.file_size for each in file.zip.infolist()) > _LARGEST:
                return None
            if str(file["key"]) != key:
                return None
            rows, terms, digest = file["rows"], file["terms"], str(file["digest"])
    except (
        OSError, ValueError, KeyError, EOFError, AttributeError, MemoryError, NotImplementedError,
        zipfile.BadZipFile, zlib.error,
    ):  # fmt: skip
        return None
    return (rows, terms) if digest == _digest(rows, terms) else None


def _fits(task: BaseTask, rows: np.ndarray, terms: np.ndarray, recorded: int) -> bool:
    """Whether ``task`` makes metrics of them. The run's author may have written the file."""
    if (
        rows.dtype.kind != "i"
        or rows.ndim != 1
        or terms.ndim != 2
        or terms.dtype.kind not in "fiub"
        or not 0 < len(rows) == len(terms) <= recorded
        or not np.isfinite(terms).all()
    ):
        return False
    try:
        return bool(task.of_rows(terms, np.ones((1, len(rows)))))
    except (IndexError, ValueError):  # a class that there is not
        return False


def _digest(rows: np.ndarray, terms: np.ndarray) -> str:
    told = f"{rows.dtype}{rows.shape}{terms.dtype}{terms.shape}".encode()
    return hashlib.sha256(told + rows.tobytes() + terms.tobytes()).hexdigest()


def _write(path: Path, key: str, rows: np.ndarray, terms: np.ndarray) -> None:
    held = io.BytesIO()
    np.savez_compressed(
        held, key=np.array(key), rows=rows, terms=terms, digest=np.array(_digest(rows, terms))
    )
    write_bytes(path, held.getvalue())
