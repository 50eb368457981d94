"""Reads finished runs for a comparison, with the settings that differ between them.

A path is a run folder, or a folder of runs (a sweep, for example). A run folder must be finished;
unfinished runs in a folder of runs are skipped with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertft.config.registry import TASKS
from bertft.config.resume import read_run_config
from bertft.config.schema import settings_without_effect
from bertft.config.serialize import flatten_settings
from bertft.errors import UsageError
from bertft.report.result_rows import JobResult, differing_settings
from bertft.runs.manifest import Manifest, read_manifest
from bertft.runs.metrics_json import RunMetrics, read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import shorten

__all__ = ["FinishedRun", "check_comparable", "iter_finished_runs", "read_runs"]

# Settings that are not compared: they do not change the result, or other settings imply them.
_IRRELEVANT_SETTINGS = (
    "experiment",
    "data.cache",
    "trainer.checkpoint_every",
    "trainer.device",
    "trainer.keep_checkpoints",
    "trainer.log_every",
    *settings_without_effect(),
)


@dataclass(frozen=True)
class FinishedRun:
    """``result`` has the settings that differ between the runs, including the seed."""

    folder: RunFolder
    manifest: Manifest
    result: JobResult

    @property
    def validation_fingerprint(self) -> str:
        """The fingerprint of the validation rows."""
        return str(self.validation_split["fingerprint"])

    @property
    def validation_split(self) -> Mapping[str, Any]:
        """The entry of the validation rows in the manifest."""
        split: Mapping[str, Any] = self.manifest["data"]["splits"]["validation"]
        return split


def read_runs(paths: Sequence[str], warn: Callable[[str], None]) -> list[FinishedRun]:
    """The runs in ``paths``, without duplicates. UsageError or DataError for a path without one."""
    folders_by_path: dict[Path, RunFolder] = {}
    for path in paths:
        for folder in iter_finished_runs(Path(path).expanduser(), warn):
            folders_by_path.setdefault(folder.path.resolve(), folder)
    folders = list(folders_by_path.values())
    manifests = [read_manifest(folder) for folder in folders]
    settings = [_relevant_settings(folder) for folder in folders]
    _unify_row_sources(settings, manifests)
    results = [
        JobResult(folder.path, differing, None, _read_metrics(folder))
        for folder, differing in zip(folders, _keep_differing(settings), strict=True)
    ]
    return list(map(FinishedRun, folders, manifests, results))


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """UsageError unless there are at least two runs with one task, metric and positive class."""
    if len(runs) < 2:
        raise UsageError(
            "a comparison needs at least two runs", where="runs", hint="Add another run folder"
        )
    for what, get_value in (
        ("task", _task),
        ("metric", _metric),
        ("positive class", _positive_class),
    ):
        first = runs[0]
        for other in runs[1:]:
            if get_value(other) != get_value(first):
                plural = f"{what}es" if what.endswith("s") else f"{what}s"
                raise UsageError(
                    f"the runs have different {plural}: {get_value(first)} in {first.folder.path},"
                    f" {get_value(other)} in {other.folder.path}",
                    where="runs",
                    hint=f"Compare runs with the same {what}",
                )


def _task(run: FinishedRun) -> str:
    return str(run.manifest["task"])


def _has_one_class_per_row(run: FinishedRun) -> bool:
    return _task(run) in TASKS and TASKS[_task(run)].label == "class"


def _metric(run: FinishedRun) -> str:
    assert run.result.metrics is not None
    return str(run.result.metrics["best"]["metric"])


def _positive_class(run: FinishedRun) -> str:
    """The class that the metric f1 of two classes refers to; empty for other metrics."""
    labels = run.manifest.get("labels") or []
    if not (_has_one_class_per_row(run) and _metric(run) == "f1" and len(labels) == 2):
        return ""
    return shorten(str(labels[1]))


def iter_finished_runs(path: Path, warn: Callable[[str], None]) -> Iterator[RunFolder]:
    """The run in ``path``, or the finished runs in this folder of runs.

    Raises:
        UsageError: The run is not finished, or there is no finished run.
    """
    run = RunFolder(path)
    if run.has_run:
        if not run.is_finished:
            raise UsageError(
                "is not finished", where=str(path), hint=f"Resume it: bertft train resume={path}"
            )
        yield run
        return
    subfolders = sorted(filter(Path.is_dir, path.iterdir())) if path.is_dir() else []
    started = [folder for folder in map(RunFolder, subfolders) if folder.has_run]
    if not started:
        RunFolder.open(path)  # raises an error that suggests folders nearby
    finished = [folder for folder in started if folder.is_finished]
    if not finished:
        raise UsageError(
            f"none of the {len(started)} runs in it is finished",
            where=str(path),
            hint="Resume them with bertft train resume=<run>",
        )
    for folder in started:
        if not folder.is_finished:
            warn(f"{folder.path} is not finished and is skipped")
    yield from finished


def _read_metrics(folder: RunFolder) -> RunMetrics:
    """The content of metrics.json. UsageError if the run has no validation metric."""
    result = read_metrics_json(folder.metrics_path)
    if result["best"]["value"] is None or result["best"]["step"] is None:
        raise UsageError(
            "has no validation metrics",
            where=str(folder.path),
            hint="Train with data.validation=<file>",
        )
    return result


def _relevant_settings(folder: RunFolder) -> dict[str, str]:
    """Dotted name → value of every setting with an effect on the result."""
    config = replace(read_run_config(folder.path), experiment=None)
    return {
        name: value
        for name, value in flatten_settings(config).items()
        if name not in _IRRELEVANT_SETTINGS
    }


def _unify_row_sources(
    settings: list[dict[str, str]], manifests: Sequence[Mapping[str, Any]]
) -> None:
    """If runs read equal rows from different paths, give all the first path (in place)."""
    first_paths: dict[tuple[str, str], str] = {}
    for run_settings, manifest in zip(settings, manifests, strict=True):
        for split, recorded_split in manifest["data"]["splits"].items():
            name = f"data.{split}"
            if name in run_settings:
                run_settings[name] = first_paths.setdefault(
                    (split, recorded_split["fingerprint"]), run_settings[name]
                )


def _keep_differing(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The seed, the method and all settings that differ. A setting that a run lacks is empty."""
    names = differing_settings(settings, always=("seed", "method.name"))
    return [{name: run_settings.get(name, "") for name in names} for run_settings in settings]
