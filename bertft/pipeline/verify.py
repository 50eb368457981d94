"""Verify the files of a run: hash sealed files again, and read the others.

manifest.json                                     read
config.yaml, metrics.json, metrics.jsonl,         read; of a finished run: sha256 in the manifest
timings.jsonl                                     (before the end, the last line may be cut off)
check_rows.jsonl                                  sha256 in the manifest
base                                              sha256 in the manifest; in the run: files.json
checkpoints/step-N, last, best                    files.json; targets of last and best
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bertft.config.resume import read_run_config
from bertft.errors import BertftError, DataError
from bertft.models.source import local_model_folder
from bertft.pipeline import base_model
from bertft.pipeline.calibration import read_calibration
from bertft.pipeline.check_rows import read_check_rows
from bertft.pipeline.checkpoint import mismatched_entries, read_checkpoint_info
from bertft.runs import checkpoint_pointers
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.files_json import find_damage
from bertft.runs.manifest import Manifest, read_manifest
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.utils.safe_files import read_regular_bytes

__all__ = ["FileCheck", "verify_files"]


@dataclass(frozen=True)
class FileCheck:
    """The result for one file or folder.

    Attributes:
        problems: empty if the file is intact.
        note: additional information, such as a path.
    """

    name: str
    problems: tuple[str, ...] = ()
    note: str = ""


def verify_files(run: RunFolder) -> Iterator[FileCheck]:
    """Check each file of ``run`` and yield the results."""
    manifest: Manifest | None = None
    with contextlib.suppress(DataError):  # reported below; without it, seals are not checked
        manifest = read_manifest(run)

    def check_sealed(path: Path, read: Callable[[], Any]) -> FileCheck:
        result = _check_readable(path.name, read)
        if result.problems or not manifest_is_intact:
            return result
        return _check_readable(path.name, lambda: run.verify_seal(path))

    seal = _check_readable("manifest.json", lambda: (read_manifest(run), run.read_seal()))
    manifest_is_intact = not seal.problems  # otherwise reported once, for manifest.json
    yield check_sealed(run.config_path, lambda: read_run_config(run.path))
    yield seal
    if run.is_finished or (manifest_is_intact and run.read_seal() is not None):
        yield check_sealed(
            run.metrics_path, lambda: (read_metrics_json(run.metrics_path), read_calibration(run))
        )
    for log in (run.metrics_log_path, run.timings_log_path):
        if log.exists() or run.is_finished or CheckpointStore(run.checkpoints_dir).steps():
            yield check_sealed(log, partial(_check_json_lines, log, run.is_finished))
    check_rows_digest = None if manifest is None else manifest.get("check_rows")
    if check_rows_digest is not None or run.check_rows_path.exists():
        yield _check_readable("check_rows.jsonl", lambda: _check_rows(run, check_rows_digest))
    if manifest is not None:
        yield _check_base(run, manifest)
    yield from _check_checkpoints(run, manifest)


def _check_readable(name: str, read: Callable[[], Any]) -> FileCheck:
    try:
        read()
    except BertftError as error:
        return FileCheck(name, (error.what,))
    return FileCheck(name)


def _check_json_lines(path: Path, finished: bool) -> None:
    try:
        *lines, last_line = read_regular_bytes(path).split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not isinstance(json.loads(line), dict):
                raise DataError(f"line {number} is not a JSON object")
    except (ValueError, RecursionError):
        raise DataError(f"line {number} cannot be read as JSON") from None
    if last_line and finished:
        raise DataError("the last line is cut off")


def _check_rows(run: RunFolder, digest: str | None) -> None:
    read_check_rows(run.check_rows_path, read_run_config(run.path).data, digest)


def _check_base(run: RunFolder, manifest: Manifest) -> FileCheck:
    try:
        source = base_model.find_recorded_base(manifest, run)
    except BertftError as error:
        return FileCheck("base", (error.what,))
    if source.kind != base_model.STORED_IN_RUN:
        is_local = local_model_folder(source) is not None
        return FileCheck(
            "base", note=source.load if is_local else f"{source.name} is not on this machine"
        )
    return FileCheck("base", tuple(find_damage(run.base_dir)))


def _manifest_mismatches(path: Path, manifest: Manifest | None) -> tuple[str, ...]:
    """Problems in bertft.json of a checkpoint: entries that differ from the manifest."""
    try:
        info = read_checkpoint_info(path)
    except BertftError as error:
        return (error.what,)
    if manifest is None:
        return ()
    return tuple(
        f"{name} differs from manifest.json" for name in mismatched_entries(info, manifest)
    )


def _expected_steps(run: RunFolder) -> dict[str, int | None]:
    """The steps that ``best`` and ``last`` of a finished run must point to."""
    if not run.is_finished:
        return {}
    try:
        metrics = read_metrics_json(run.metrics_path)
    except BertftError:
        return {}  # reported with metrics.json
    return {"best": metrics["best"]["step"], "last": metrics["train"]["steps"]}


def _check_checkpoints(run: RunFolder, manifest: Manifest | None) -> Iterator[FileCheck]:
    checkpoints, expected = CheckpointStore(run.checkpoints_dir), _expected_steps(run)
    steps = checkpoints.steps()
    for step in steps:
        path = checkpoints.checkpoint_path(step)
        yield FileCheck(
            f"checkpoints/{path.name}",
            tuple(find_damage(path)) or _manifest_mismatches(path, manifest),
        )
    for name in ("last", "best"):
        try:
            target_step = checkpoint_pointers.read_pointer(run.checkpoints_dir, name)
        except DataError as error:
            yield FileCheck(f"checkpoints/{name}", (error.what,))
            continue
        expected_step = expected.get(name)
        if target_step is not None and target_step not in steps:
            yield FileCheck(
                f"checkpoints/{name}", (f"points to step-{target_step}, which is missing",)
            )
        elif target_step is not None and expected_step not in (None, target_step):
            yield FileCheck(
                f"checkpoints/{name}",
                (f"points to step-{target_step}, but metrics.json records step {expected_step}",),
            )
        elif target_step is not None:
            yield FileCheck(f"checkpoints/{name}", note=f"step-{target_step}")
        elif expected_step is not None or (name == "last" and steps):
            yield FileCheck(f"checkpoints/{name}", ("is missing",))
    if run.is_finished and not steps:
        yield FileCheck("checkpoints", ("the run has none",))
