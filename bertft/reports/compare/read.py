"""Folders → finished runs that can be compared, as results with the settings in which they differ.

A folder is a run, or holds some: a sweep, or a day of outputs. A run that is named must be
finished; of those that a folder holds the unfinished are left out and told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertft.assembly.manifest import read_manifest
from bertft.config.flat import flat
from bertft.config.messages import shortened
from bertft.config.resumed import config_of_run
from bertft.config.shown import SHOWN
from bertft.errors import UsageError
from bertft.reports.lines import JobResult
from bertft.runs.folder import RunFolder
from bertft.runs.result import read_result

__all__ = ["ReadRun", "comparable", "read_runs"]

# Settings that decide nothing about a result, and what stands apart (seed) or in a name of its own.
_NO_MATTER = (
    "check", "experiment", "resume", "data.cache", "trainer.checkpoint_every", "trainer.device",
    "trainer.keep_checkpoints", "trainer.log_every", *SHOWN,
)  # fmt: skip


@dataclass(frozen=True)
class ReadRun:
    """``result`` has the settings in which the runs differ, the seed with them."""

    folder: RunFolder
    manifest: Mapping[str, Any]
    result: JobResult

    @property
    def rows(self) -> str:
        """The fingerprint of its validation rows."""
        return str(self.validation["fingerprint"])

    @property
    def validation(self) -> Mapping[str, Any]:
        """What its manifest records of the validation rows."""
        split: Mapping[str, Any] = self.manifest["data"]["splits"]["validation"]
        return split


def read_runs(paths: Sequence[str], warn: Callable[[str], None]) -> list[ReadRun]:
    """Every run in ``paths``, each once. UsageError or DataError for what is none."""
    found: dict[Path, RunFolder] = {}
    for path in paths:
        for folder in _folders(Path(path).expanduser(), warn):
            found.setdefault(folder.path.resolve(), folder)
    folders = list(found.values())
    manifests = [read_manifest(folder) for folder in folders]
    settings = [_settings(folder) for folder in folders]
    _name_rows(settings, manifests)
    return [
        ReadRun(folder, manifest, JobResult(folder.path, apart, None, _metrics(folder)))
        for folder, manifest, apart in zip(folders, manifests, _differing(settings), strict=True)
    ]


def comparable(runs: Sequence[ReadRun]) -> None:
    """UsageError unless all have one task and one metric, and there are two at least.

    The f1 of two classes is that of the second: it must be the same class in all.
    """
    if len(runs) < 2:
        raise UsageError("one run alone compares with nothing", where="runs", hint="Add another")
    for what, of in (("task", _task), ("metric", _metric), ("positive class", _positive)):
        first = runs[0]
        for other in runs[1:]:
            if of(other) != of(first):
                plural = f"{what}es" if what.endswith("s") else f"{what}s"
                raise UsageError(
                    f"the runs have different {plural}: {of(first)} in {first.folder.path},"
                    f" {of(other)} in {other.folder.path}",
                    where="runs", hint=f"Compare those of one {what}",
                )  # fmt: skip


def _task(run: ReadRun) -> str:
    return str(run.manifest["task"])


def _metric(run: ReadRun) -> str:
    assert run.result.metrics is not None
    return str(run.result.metrics["best"]["metric"])


def _positive(run: ReadRun) -> str:
    """The class whose F1 the metric is; empty for every other metric."""
    labels = run.manifest.get("labels") or []
    of_two = _task(run) == "classification" and _metric(run) == "f1" and len(labels) == 2
    return shortened(str(labels[1])) if of_two else ""


def _folders(path: Path, warn: Callable[[str], None]) -> Iterator[RunFolder]:
    own = RunFolder(path)
    if own.begun:
        if not own.finished:
            raise UsageError(
                "is not finished", where=str(path), hint=f"Go on with bertft train resume={path}"
            )
        yield own
        return
    inner = sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
    begun = [folder for folder in map(RunFolder, inner) if folder.begun]
    if not begun:
        RunFolder.open(path)  # says what it is not, and what lies near
    done = [folder for folder in begun if folder.finished]
    if not done:
        raise UsageError(f"none of its {len(begun)} runs is finished", where=str(path))
    for folder in begun:
        if not folder.finished:
            warn(f"{folder.path} is not finished and left out")
    yield from done


def _metrics(folder: RunFolder) -> dict[str, Any]:
    """metrics.json, with all that a comparison reads."""
    told = read_result(folder.metrics)
    if told["best"]["value"] is None or told["best"]["step"] is None:
        raise UsageError(
            "was never scored on validation rows", where=str(folder.path),
            hint="Train it with data.validation",
        )  # fmt: skip
    return told


def _settings(folder: RunFolder) -> dict[str, str]:
    """Dotted name → value of all that decides the result."""
    config = replace(config_of_run(folder.path), experiment=None)
    return {name: value for name, value in flat(config).items() if name not in _NO_MATTER}


def _name_rows(settings: list[dict[str, str]], manifests: Sequence[Mapping[str, Any]]) -> None:
    """Equal rows read from several paths are called by the first of them."""
    first: dict[tuple[str, str], str] = {}
    for each, manifest in zip(settings, manifests, strict=True):
        for split, told in manifest["data"]["splits"].items():
            name = f"data.{split}"
            if name in each:
                each[name] = first.setdefault((split, told["fingerprint"]), each[name])


def _differing(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Each one's seed, method and what is not the same in all; what one lacks is empty."""
    names = dict.fromkeys(name for each in settings for name in each)
    kept = [
        name
        for name in names
        if name in ("seed", "method.name") or len({each.get(name) for each in settings}) > 1
    ]
    return [{name: each.get(name, "") for name in kept} for each in settings]
