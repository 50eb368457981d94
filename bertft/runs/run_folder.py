"""A run folder: where each file of a run lies, and whether it holds a run.

    config.yaml  manifest.json     the run is begun: both are there, the manifest written last
    metrics.json                   the run is finished
    metrics.jsonl  timings.jsonl  log.txt  checkpoints/  check_rows.jsonl  base/
    report.html  plots/            what it came to, to look at; nothing reads them

Other commands take such a folder and need nothing else.
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
from bertft.utils.safe_files import file_sha256, read_json_object, read_regular_text

__all__ = [
    "RunFolder",
    "exclusive_lock",
]


try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if it is not there. UsageError where another process does."""
    if fcntl is None or (folder.exists() and not folder.is_dir()):  # which others tell
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
                "another process is training in it",
                where=str(folder),
                hint="Wait for it to end, or give another hydra.run.dir",
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


_MAX_SHOWN = 4
_MAX_PATH_LENGTH = 300  # characters of a path that is shown, so that it can be copied


class RunFolder:
    """The run in ``path``, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run begun in ``path``. UsageError names the nearest folders that hold one."""
        folder = cls(path)
        if folder.has_run:
            return folder
        problem = "holds no run" if folder.path.is_dir() else "is no folder"
        raise UsageError(problem, where=str(path), hint=_nearby_runs_hint(folder.path))

    def create(self, config_text: str, manifest: Mapping[str, Any]) -> None:
        """Begin a run. UsageError if the folder holds one; EnvironmentFailed if it is not ours."""
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
        """UsageError if a new run cannot be begun here."""
        where = str(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise UsageError("is no folder", where=where, hint="Give another hydra.run.dir")
        if self.is_finished:
            raise UsageError(
                "holds a finished run" if self.has_run else "holds the results of another command",
                where=where,
                hint="Give another hydra.run.dir",
            )
        if self.has_run:
            raise UsageError(
                "holds a run already",
                where=where,
                hint=f"Go on with resume={where} or give another hydra.run.dir",
            )
        if self.manifest_path.exists() or any(_list_entries(self.checkpoints_dir)):
            raise UsageError(
                "holds what is left of a run: its config.yaml or manifest.json is missing",
                where=where,
                hint="Give another hydra.run.dir",
            )

    def ensure_no_links(self) -> None:
        """UsageError where writing into the run would write elsewhere, or wait for ever.

        A folder that somebody else made may hold a link or a named pipe in place of what a run
        appends to or fills.
        """
        tracking = self.path / "tracking"
        folders = [self.checkpoints_dir, self.plots_dir, self.base_dir, tracking]
        folders += [each for each in _list_entries(tracking) if each.is_dir()]
        files = [self.metrics_log_path, self.timings_log_path, self.log_path]
        for entry in (*folders, *files):
            if not os.path.lexists(entry):
                continue
            mode = entry.lstat().st_mode
            if not (stat.S_ISDIR(mode) if entry in folders else stat.S_ISREG(mode)):
                kind = "link" if stat.S_ISLNK(mode) else "special file"
                raise UsageError(
                    f"is a {kind}: bertft writes to regular files and folders of the run alone",
                    where=str(entry),
                    hint="Replace it with what it stands for",
                )

    @property
    def has_run(self) -> bool:
        return self.config_path.is_file() and self.manifest_path.is_file()

    @property
    def is_finished(self) -> bool:
        return self.metrics_path.is_file()

    def read_manifest(self) -> dict[str, Any]:
        """DataError if it is missing or damaged."""
        return read_json_object(self.manifest_path)

    def read_config_text(self) -> str:
        """DataError if it is missing or no UTF-8."""
        return read_regular_text(self.config_path)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json. What is not finite becomes null."""
        with convert_write_errors(self.metrics_path):
            atomic_write_json(self.metrics_path, dict(metrics))

    def write_result(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, which finishes the run; the manifest seals first what it rests on.

        ``"sealed": {name: sha256}`` means something only while metrics.json is there.
        """
        text = to_json_text(dict(metrics))
        with convert_write_errors(self.path):
            digests = {self.metrics_path.name: hashlib.sha256(text.encode()).hexdigest()}
            for file in self._sealed_files:
                digests[file.name] = file_sha256(file)
            atomic_write_json(self.manifest_path, {**self.read_manifest(), "sealed": digests})
            atomic_write_text(self.metrics_path, text)

    def read_seal(self) -> dict[str, str] | None:
        """What ``write_result`` put into the manifest; None if it did not. DataError if it is
        damaged.
        """
        manifest = self.read_manifest()
        if "sealed" not in manifest:
            return None
        digests, names = (
            manifest["sealed"],
            {file.name for file in (self.metrics_path, *self._sealed_files)},
        )
        if (
            isinstance(digests, dict)
            and set(digests) == names
            and all(isinstance(digest, str) for digest in digests.values())
        ):
            return digests
        raise DataError("its seal is damaged", where=str(self.manifest_path))

    def verify_seal(self, file: Path) -> None:
        """DataError where ``file`` is not what the run was finished with."""
        if (self.read_seal() or {}).get(file.name) not in (None, file_sha256(file)):
            raise DataError(
                "its sha256 is not the recorded one",
                where=str(file),
                hint="Restore it from a copy",
            )

    @property
    def _sealed_files(self) -> tuple[Path, ...]:
        """What is sealed beside metrics.json."""
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
        """A line of JSON an event; the same for the same run on the same machine."""
        return self.path / "metrics.jsonl"

    @property
    def timings_log_path(self) -> Path:
        """A line of JSON an event: what differs from one machine or hour to the next."""
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
        """The run to look at: one page that needs no other file and no network."""
        return self.path / "report.html"

    @property
    def check_rows_path(self) -> Path:
        """Validation rows on which a merge is compared with the adapter."""
        return self.path / "check_rows.jsonl"

    @property
    def base_dir(self) -> Path:
        """The base model, where it is to be had nowhere else: a random one."""
        return self.path / "base"


def _nearby_runs_hint(path: Path) -> str:
    """A hint: the run that ``path`` lies in, those in it, or the nearest beside it."""
    enclosing = [entry for entry in path.absolute().parents[:3] if RunFolder(entry).has_run]
    if enclosing:
        return f"Did you mean the run around it, {enclosing[0]}?"
    inner_runs = list(_iter_runs(path))
    if not inner_runs:
        inner_runs = [
            run for each in _list_entries(path) if each.is_dir() for run in _iter_runs(each)
        ]
    if inner_runs:
        return f"Runs in it: {format_list(inner_runs, _MAX_SHOWN, _MAX_PATH_LENGTH)}"
    sibling_runs = {run.name: run for run in _iter_runs(path.absolute().parent)}
    closest = closest_name(path.name, sibling_runs)
    if closest is not None:
        return f"Did you mean {path.parent / closest}?"
    if sibling_runs:
        return f"Runs beside it: {format_list(list(sibling_runs), _MAX_SHOWN)}"
    return "A run is a folder with config.yaml and manifest.json, as bertft train leaves it"


def _iter_runs(folder: Path) -> Iterator[Path]:
    return (entry for entry in _list_entries(folder) if RunFolder(entry).has_run)


def _list_entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []
