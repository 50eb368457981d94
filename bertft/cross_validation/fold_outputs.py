"""What the run of a fold predicts for the rows of its fold, which it has not seen.

    out_of_fold.npz     in the run folder of the fold: predictions (JSON), statistics of rows,
                        probabilities, key, digest

The job of the fold writes the file after training. It is a cache: it is used as long as its key
fits the best checkpoint, and computed again otherwise.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertft.errors import DataError
from bertft.pipeline.calibration import read_calibration
from bertft.pipeline.open_model import open_model
from bertft.pipeline.recorded_rows import load_split
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.files_json import FILES_JSON
from bertft.runs.run_folder import RunFolder
from bertft.tasks.class_probabilities import ClassProbabilities
from bertft.training.evaluate import evaluation_transform, predict_logits
from bertft.utils.atomic_io import atomic_write_bytes
from bertft.utils.safe_files import open_regular_file
from bertft.utils.status import show_status

__all__ = ["FoldOutputs", "load_fold_outputs"]

_FILE = "out_of_fold.npz"
_VERSION = 1
_MAX_BYTES = 1 << 32  # uncompressed


@dataclass(frozen=True)
class FoldOutputs:
    """The outputs on the R rows of a fold.

    Attributes:
        lines: int64 [R], ascending: the numbers of the rows (``bertft.data.rows.encode_line``).
        predictions: as ``bertft predict`` writes them, after the label of the row.
        statistic_lines: int64 [S], ascending: the rows that have statistics.
        statistics: fp64 [S, K] for ``BaseTask.metrics_from_statistics``; S = 0: the task has none.
        classes: probabilities and labels; None for a task without classes.
    """

    lines: np.ndarray
    predictions: Sequence[dict[str, Any]]
    statistic_lines: np.ndarray
    statistics: np.ndarray
    classes: ClassProbabilities | None


def load_fold_outputs(
    run: RunFolder, device: str = "auto", trust_remote_code: bool = False
) -> FoldOutputs:
    """Read the file in the run folder, or compute and write it.

    Raises:
        DataError: the rows have changed since training, or a file of the run is damaged.
        BertftError: the run cannot be opened.
    """
    key = _outputs_key(run)
    outputs = _read(run.path / _FILE, key)
    if outputs is None:
        outputs = _compute(run, device, trust_remote_code)
        _write(run.path / _FILE, key, outputs)
    return outputs


def _outputs_key(run: RunFolder) -> str:
    """A hash of the files of the best checkpoint and of the calibration."""
    best = CheckpointStore(run.checkpoints_dir).find_checkpoint("best")
    with open_regular_file(best / FILES_JSON) as file:
        content = hashlib.sha256(file.read()).hexdigest()
    calibration = json.dumps(read_calibration(run), sort_keys=True)
    text = json.dumps([_VERSION, best.name, content, calibration])
    return hashlib.sha256(text.encode()).hexdigest()


def _compute(run: RunFolder, device: str, trust_remote_code: bool) -> FoldOutputs:
    show_status("loading the model of the fold")
    loaded = open_model(str(run.path), device=device, trust_remote_code=trust_remote_code)
    rows = load_split(loaded, "test")
    features = loaded.build_features("test", rows)
    task_model, task = loaded.task_model, loaded.task_model.task
    show_status("predicting the rows of the fold", total=len(features))
    logits = predict_logits(
        task_model.runner,
        features,
        task_model.precision,
        transform=evaluation_transform(task),
        columns=task.label_columns,
    )
    if not np.isfinite(logits).all():
        raise DataError(
            "the model predicts numbers that are not finite",
            where=str(run.path),
            hint="Lower trainer.learning_rate, or set trainer.precision=fp32",
        )
    lines = np.array(rows.column("line"), np.int64)
    labels, predictions = task.decode_labels(features), task.decode_predictions(logits, features)
    statistic_rows, statistics = task.per_row_statistics(logits, features) or ([], np.zeros((0, 0)))
    return FoldOutputs(
        lines[features.rows_with_features()],
        [label | prediction for label, prediction in zip(labels, predictions, strict=True)],
        lines[np.asarray(statistic_rows, np.int64)],
        statistics,
        task.class_probabilities(logits, features),
    )


def _write(path: Path, key: str, outputs: FoldOutputs) -> None:
    # ASCII: also a lone surrogate survives
    content = np.frombuffer(json.dumps(list(outputs.predictions)).encode(), np.uint8)
    arrays = {
        "lines": outputs.lines,
        "predictions": content,
        "statistic_lines": outputs.statistic_lines,
        "statistics": outputs.statistics,
    }
    classes = outputs.classes
    if classes is not None:
        arrays |= {"probabilities": classes.probabilities, "labels": classes.labels}
        if classes.sizes is not None:
            arrays["sizes"] = classes.sizes
    content_of_file: dict[str, Any] = {
        "key": np.array(key),
        "digest": np.array(_digest(arrays)),
        **arrays,
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content_of_file)
    atomic_write_bytes(path, buffer.getvalue())


def _read(path: Path, key: str) -> FoldOutputs | None:
    """The outputs; None if the file is missing, damaged or has another key."""
    try:
        with open_regular_file(path) as opened, np.load(opened, allow_pickle=False) as file:
            if sum(entry.file_size for entry in file.zip.infolist()) > _MAX_BYTES:
                return None
            if str(file["key"]) != key:
                return None
            digest = str(file["digest"])
            arrays = {name: file[name] for name in file.files if name not in ("key", "digest")}
        if digest != _digest(arrays):
            return None
        classes = None
        if "probabilities" in arrays:
            classes = ClassProbabilities(
                arrays["probabilities"], arrays["labels"], arrays.get("sizes")
            )
        return FoldOutputs(
            arrays["lines"],
            json.loads(arrays["predictions"].tobytes()),
            arrays["statistic_lines"],
            arrays["statistics"],
            classes,
        )
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return None


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
