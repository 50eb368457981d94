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
from contextlib import suppress
from pathlib import Path
from typing import Any

from bertft.config.messages import listing, nearest
from bertft.config.regular_file import read_regular_text
from bertft.errors import DataError, UsageError
from bertft.runs.atomic import clean, environment, json_text, sync_folder, write_json, write_text
from bertft.runs.faults import point
from bertft.runs.files import sha256
from bertft.runs.json_file import read_object

__all__ = ["RunFolder"]

_SHOWN = 4
_PATH = 300  # characters of a path that is shown, so that it can be copied


class RunFolder:
    """The run in ``path``, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run begun in ``path``. UsageError names the nearest folders that hold one."""
        folder = cls(path)
        if folder.begun:
            return folder
        what = "holds no run" if folder.path.is_dir() else "is no folder"
        raise UsageError(what, where=str(path), hint=_others(folder.path))

    def create(self, config_text: str, manifest: Mapping[str, Any]) -> None:
        """Begin a run. UsageError if the folder holds one; EnvironmentFailed if it is not ours."""
        self.refuse_a_run()
        with environment(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            clean(self.path)
            write_text(self.config, config_text)
            point("create checkpoints/")
            self.checkpoints.mkdir(exist_ok=True)
            write_json(self.manifest, dict(manifest))
            sync_folder(self.path.parent)

    def refuse_a_run(self) -> None:
        """UsageError if a new run cannot be begun here."""
        where = str(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise UsageError("is no folder", where=where, hint="Give another hydra.run.dir")
        if self.finished:
            raise UsageError(
                "holds a finished run" if self.begun else "holds the results of another command",
                where=where, hint="Give another hydra.run.dir",
            )  # fmt: skip
        if self.begun:
            raise UsageError(
                "holds a run already", where=where,
                hint=f"Go on with resume={where} or give another hydra.run.dir",
            )  # fmt: skip
        if self.manifest.exists() or any(_entries(self.checkpoints)):
            raise UsageError(
                "holds what is left of a run: its config.yaml or manifest.json is missing",
                where=where, hint="Give another hydra.run.dir",
            )  # fmt: skip

    def refuse_links(self) -> None:
        """UsageError where writing into the run would write elsewhere, or wait for ever.

        A folder that somebody else made may hold a link or a named pipe in place of what a run
        appends to or fills.
        """
        tracking = self.path / "tracking"
        folders = [self.checkpoints, self.plots, self.base, tracking]
        folders += [each for each in _entries(tracking) if each.is_dir()]
        files = [self.metrics_log, self.timings_log, self.log]
        for each in (*folders, *files):
            if not os.path.lexists(each):
                continue
            mode = each.lstat().st_mode
            if not (stat.S_ISDIR(mode) if each in folders else stat.S_ISREG(mode)):
                kind = "link" if stat.S_ISLNK(mode) else "special file"
                raise UsageError(
                    f"is a {kind}: bertft writes to regular files and folders of the run alone",
                    where=str(each), hint="Replace it with what it stands for",
                )  # fmt: skip

    @property
    def begun(self) -> bool:
        return self.config.is_file() and self.manifest.is_file()

    @property
    def finished(self) -> bool:
        return self.metrics.is_file()

    def read_manifest(self) -> dict[str, Any]:
        """DataError if it is missing or damaged."""
        return read_object(self.manifest)

    def read_config_text(self) -> str:
        """DataError if it is missing or no UTF-8."""
        return read_regular_text(self.config)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json. What is not finite becomes null."""
        with environment(self.metrics):
            write_json(self.metrics, dict(metrics))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, which finishes the run; the manifest seals first what it rests on.

        ``"sealed": {name: sha256}`` means something only while metrics.json is there.
        """
        text = json_text(dict(metrics))
        with environment(self.path):
            digests = {self.metrics.name: hashlib.sha256(text.encode()).hexdigest()}
            for file in self._rest:
                digests[file.name] = sha256(file)
            write_json(self.manifest, {**self.read_manifest(), "sealed": digests})
            write_text(self.metrics, text)

    def seal(self) -> dict[str, str] | None:
        """What ``finish`` put into the manifest; None if it did not. DataError if it is damaged."""
        manifest = self.read_manifest()
        if "sealed" not in manifest:
            return None
        told, names = manifest["sealed"], {file.name for file in (self.metrics, *self._rest)}
        if (
            isinstance(told, dict)
            and set(told) == names
            and all(isinstance(each, str) for each in told.values())
        ):
            return told
        raise DataError("its seal is damaged", where=str(self.manifest))

    def check_seal(self, file: Path) -> None:
        """DataError where ``file`` is not what the run was finished with."""
        if (self.seal() or {}).get(file.name) not in (None, sha256(file)):
            raise DataError(
                "its sha256 is not the recorded one", where=str(file),
                hint="Restore it from a copy",
            )  # fmt: skip

    @property
    def _rest(self) -> tuple[Path, ...]:
        """What is sealed beside metrics.json."""
        return self.config, self.metrics_log, self.timings_log

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def metrics_log(self) -> Path:
        """A line of JSON an event; the same for the same run on the same machine."""
        return self.path / "metrics.jsonl"

    @property
    def timings_log(self) -> Path:
        """A line of JSON an event: what differs from one machine or hour to the next."""
        return self.path / "timings.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    @property
    def report(self) -> Path:
        """The run to look at: one page that needs no other file and no network."""
        return self.path / "report.html"

    @property
    def check_rows(self) -> Path:
        """Validation rows on which a merge is compared with the adapter."""
        return self.path / "check_rows.jsonl"

    @property
    def base(self) -> Path:
        """The base model, where it is to be had nowhere else: a random one."""
        return self.path / "base"


def _others(path: Path) -> str:
    """A hint: the run that ``path`` lies in, those in it, or the nearest beside it."""
    around = [each for each in path.absolute().parents[:3] if RunFolder(each).begun]
    if around:
        return f"Did you mean the run around it, {around[0]}?"
    inside = list(_runs(path))
    if not inside:
        inside = [run for each in _entries(path) if each.is_dir() for run in _runs(each)]
    if inside:
        return f"Runs in it: {listing(inside, _SHOWN, _PATH)}"
    beside = {run.name: run for run in _runs(path.absolute().parent)}
    near = nearest(path.name, beside)
    if near is not None:
        return f"Did you mean {path.parent / near}?"
    if beside:
        return f"Runs beside it: {listing(list(beside), _SHOWN)}"
    return "A run is a folder with config.yaml and manifest.json, as bertft train leaves it"


def _runs(folder: Path) -> Iterator[Path]:
    return (each for each in _entries(folder) if RunFolder(each).begun)


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []
