"""The run folder: the paths of its files and the state of the run.

    config.yaml  manifest.json     both exist as soon as a run has started; the manifest is last
    metrics.json                   exists if the run is finished
    metrics.jsonl  timings.jsonl  log.txt  checkpoints/  check_rows.jsonl  base/
    report.html  plots/            the report; bertft does not read it

The other commands read only this folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bertft.errors import DataError, UsageError
from bertft.utils.atomic_io import (
    atomic_write_json,
    atomic_write_text,
    convert_write_errors,
    fsync_folder,
    remove_stale_temporaries,
    to_json_text,
)
from bertft.utils.failpoints import failpoint
from bertft.utils.messages import closest_name, format_list
from bertft.utils.safe_files import DAMAGED_FILE_HINT, file_sha256, read_json_object

__all__ = [
    "LOCKED",
    "RunFolder",
    "continue_hint",
    "exclusive_lock",
]


try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

LOCKED = "another process is writing to this folder"
_MAX_SHOWN = 4  # runs in a hint
_MAX_PATH_LENGTH = 300  # characters of a path that is shown, so that it can be copied


@contextmanager
def exclusive_lock(folder: Path, other_folder: str | None = None) -> Iterator[None]:
    """Lock ``folder``, which is created if needed. UsageError if another process holds the lock.

    ``other_folder`` is the setting that selects another folder, if the user can do that.
    """
    if fcntl is None or (folder.exists() and not folder.is_dir()):  # ensure_no_run reports it
        yield
        return
    with convert_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                LOCKED,
                where=str(folder),
                hint="Wait until it ends"
                + (f", or set another {other_folder}" if other_folder else ""),
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def continue_hint(sweep_folder: Path) -> str:
    """How to continue the sweep, search or cross-validation in ``sweep_folder``, as a hint."""
    return f"Repeat the command with hydra.sweep.dir={sweep_folder} to continue"


class RunFolder:
    """The run in ``path``, which may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run in ``path``. UsageError with the closest run folders if ``path`` is not one."""
        folder = cls(path)
        if folder.has_run:
            return folder
        problem = "is not a run folder" if folder.path.is_dir() else "is not a folder"
        if not folder.path.exists():
            problem = "there is no such folder"
        raise UsageError(problem, where=str(path), hint=_nearby_runs_hint(folder.path))

    def create(self, config_text: str, manifest: Mapping[str, Any]) -> None:
        """Start a run: create the folder, config.yaml and manifest.json.

        Raises UsageError if the folder contains a run, SystemResourceError if it is not writable.
        """
        self.ensure_no_run()
        with convert_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            remove_stale_temporaries(self.path)
            atomic_write_text(self.config_path, config_text)
            failpoint("create checkpoints/")
            self.checkpoints_dir.mkdir(exist_ok=True)
            atomic_write_json(self.manifest_path, dict(manifest))
            fsync_folder(self.path.parent)

    def ensure_no_run(self) -> None:
        """UsageError if a new run cannot be started in the folder."""
        where = str(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise UsageError("is not a folder", where=where, hint="Set another hydra.run.dir")
        if self.is_finished:
            raise UsageError(
                "contains a finished run"
                if self.has_run
                else "contains results of another command",
                where=where,
                hint="Set another hydra.run.dir",
            )
        if self.has_run:
            raise UsageError(
                "already contains a run",
                where=where,
                hint=f"Resume it with resume={where}, or set another hydra.run.dir",
            )
        if self.manifest_path.exists() or any(_list_entries(self.checkpoints_dir)):
            raise UsageError(
                "contains an incomplete run: its config.yaml or manifest.json is missing",
                where=where,
                hint="Set another hydra.run.dir",
            )

    def ensure_no_links(self) -> None:
        """UsageError if the folder has a link or a special file in place of an output of the run.

        Writing to it would change files elsewhere, or wait forever.
        """
        tracking = self.path / "tracking"
        folders = [self.checkpoints_dir, self.plots_dir, self.base_dir, tracking]
        folders += [entry for entry in _list_entries(tracking) if entry.is_dir()]
        files = [self.metrics_log_path, self.timings_log_path, self.log_path]
        for entry in (*folders, *files):
            if not os.path.lexists(entry):
                continue
            mode = entry.lstat().st_mode
            if not (stat.S_ISDIR(mode) if entry in folders else stat.S_ISREG(mode)):
                kind = "link" if stat.S_ISLNK(mode) else "special file"
                raise UsageError(
                    f"is a {kind}: bertft only writes to regular files and folders of the run",
                    where=str(entry),
                    hint="Replace it with a regular file or folder, or remove it",
                )

    @property
    def has_run(self) -> bool:
        return self.config_path.is_file() and self.manifest_path.is_file()

    @property
    def is_finished(self) -> bool:
        return self.metrics_path.is_file()

    def read_manifest(self) -> dict[str, Any]:
        """The content of manifest.json. DataError if it is missing or damaged."""
        return read_json_object(self.manifest_path)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json. Non-finite numbers become null."""
        with convert_write_errors(self.metrics_path):
            atomic_write_json(self.metrics_path, dict(metrics))

    def write_result(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, which marks the run as finished.

        Before that, the manifest gets the sha256 of metrics.json and of the other sealed files:
        ``"sealed": {name: sha256}``. It is only valid if metrics.json exists.
        """
        text = to_json_text(dict(metrics))
        with convert_write_errors(self.path):
            digests = {self.metrics_path.name: hashlib.sha256(text.encode()).hexdigest()}
            for file in self._sealed_files:
                digests[file.name] = file_sha256(file)
            atomic_write_json(self.manifest_path, {**self.read_manifest(), "sealed": digests})
            atomic_write_text(self.metrics_path, text)

    def read_seal(self) -> dict[str, str] | None:
        """The sha256 of the sealed files; None if the manifest has none.

        Raises DataError if the entry is damaged.
        """
        manifest = self.read_manifest()
        if "sealed" not in manifest:
            return None
        digests = manifest["sealed"]
        names = {file.name for file in (self.metrics_path, *self._sealed_files)}
        if (
            isinstance(digests, dict)
            and set(digests) == names
            and all(isinstance(digest, str) for digest in digests.values())
        ):
            return digests
        raise DataError(
            "the entry 'sealed' is damaged",
            where=str(self.manifest_path),
            hint=DAMAGED_FILE_HINT,
        )

    def verify_seal(self, file: Path) -> None:
        """DataError if ``file`` has changed since the run was finished."""
        if (self.read_seal() or {}).get(file.name) not in (None, file_sha256(file)):
            raise DataError(
                "its sha256 is not the recorded one",
                where=str(file),
                hint=DAMAGED_FILE_HINT,
            )

    @property
    def _sealed_files(self) -> tuple[Path, ...]:
        """The sealed files in addition to metrics.json."""
        return self.config_path, self.metrics_log_path, self.timings_log_path

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.json"

    @property
    def metrics_log_path(self) -> Path:
        """One line of JSON per event; reproducible on the same machine."""
        return self.path / "metrics.jsonl"

    @property
    def timings_log_path(self) -> Path:
        """One line of JSON per event: times, which are not reproducible."""
        return self.path / "timings.jsonl"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def plots_dir(self) -> Path:
        return self.path / "plots"

    @property
    def report_path(self) -> Path:
        """The report: one HTML page that needs no other file and works offline."""
        return self.path / "report.html"

    @property
    def row_statistics_path(self) -> Path:
        """Statistics of each validation row, a cache for comparisons; it may be missing."""
        return self.path / "row_scores.npz"

    @property
    def check_rows_path(self) -> Path:
        """Validation rows on which a merge is compared with the adapter."""
        return self.path / "check_rows.jsonl"

    @property
    def base_dir(self) -> Path:
        """A copy of the base model, if no other folder, package or Hub revision contains it."""
        return self.path / "base"


def _nearby_runs_hint(path: Path) -> str:
    """A hint: the run around ``path``, the runs in it, or the closest run in the same folder."""
    enclosing = [entry for entry in path.absolute().parents[:3] if RunFolder(entry).has_run]
    if enclosing:
        return f"Did you mean {enclosing[0]}?"
    inner_runs = list(_iter_runs(path))
    if not inner_runs:
        inner_runs = [
            run for entry in _list_entries(path) if entry.is_dir() for run in _iter_runs(entry)
        ]
    if inner_runs:
        return f"Runs in it: {format_list(inner_runs, _MAX_SHOWN, _MAX_PATH_LENGTH)}"
    sibling_runs = {run.name: run for run in _iter_runs(path.absolute().parent)}
    closest = closest_name(path.name, sibling_runs)
    if closest is not None:
        return f"Did you mean {path.parent / closest}?"
    if sibling_runs:
        return f"Runs in the same folder: {format_list(list(sibling_runs), _MAX_SHOWN)}"
    return "A run folder contains config.yaml and manifest.json, which bertft train writes"


def _iter_runs(folder: Path) -> Iterator[Path]:
    return (entry for entry in _list_entries(folder) if RunFolder(entry).has_run)


def _list_entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []
