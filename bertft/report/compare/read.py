"""Folders → finished runs that can be compared, as results with the settings in which they differ.

A folder is a run, or holds some: a sweep, or a day of outputs. A run that is named must be
finished; of those that a folder holds the unfinished are left out and told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bertft.config.resume import read_run_config
from bertft.config.schema import settings_without_effect
from bertft.config.serialize import flatten_settings
from bertft.errors import UsageError
from bertft.pipeline.manifest import read_manifest
from bertft.report.result_rows import JobResult
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import shorten

__all__ = ["FinishedRun", "check_comparable", "read_runs"]

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
    """``result`` has the settings in which the runs differ, the seed with them."""

    folder: RunFolder
    manifest: Mapping[str, Any]
    result: JobResult

    @property
    def validation_fingerprint(self) -> str:
        """The fingerprint of its validation rows."""
        return str(self.validation_split["fingerprint"])

    @property
    def validation_split(self) -> Mapping[str, Any]:
        """What its manifest records of the validation rows."""
        split: Mapping[str, Any] = self.manifest["data"]["splits"]["validation"]
        return split


def read_runs(paths: Sequence[str], warn: Callable[[str], None]) -> list[FinishedRun]:
    """Every run in ``paths``, each once. UsageError or DataError for what is none."""
    folders_by_path: dict[Path, RunFolder] = {}
    for path in paths:
        for folder in _folders(Path(path).expanduser(), warn):
            folders_by_path.setdefault(folder.path.resolve(), folder)
    folders = list(folders_by_path.values())
    manifests = [read_manifest(folder) for folder in folders]
    settings = [_relevant_settings(folder) for folder in folders]
    _unify_row_sources(settings, manifests)
    return [
        FinishedRun(folder, manifest, JobResult(folder.path, apart, None, _read_metrics(folder)))
        for folder, manifest, apart in zip(
            folders, manifests, _differing_settings(settings), strict=True
        )
    ]


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """UsageError unless all have one task and one metric, and there are two at least.

    The f1 of two classes is that of the second: it must be the same class in all.
    """
    if len(runs) < 2:
        raise UsageError("one run alone compares with nothing", where="runs", hint="Add another")
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
                    hint=f"Compare those of one {what}",
                )


def _task(run: FinishedRun) -> str:
    return str(run.manifest["task"])


def _metric(run: FinishedRun) -> str:
    assert run.result.metrics is not None
    return str(run.result.metrics["best"]["metric"])


def _positive_class(run: FinishedRun) -> str:
    """The class whose F1 the metric is; empty for every other metric."""
    labels = run.manifest.get("labels") or []
    of_two = _task(run) == "classification" and _metric(run) == "f1" and len(labels) == 2
    return shorten(str(labels[1])) if of_two else ""


def _folders(path: Path, warn: Callable[[str], None]) -> Iterator[RunFolder]:
    run = RunFolder(path)
    if run.has_run:
        if not run.is_finished:
            raise UsageError(
                "is not finished", where=str(path), hint=f"Go on with bertft train resume={path}"
            )
        yield run
        return
    inner = sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
    started = [folder for folder in map(RunFolder, inner) if folder.has_run]
    if not started:
        RunFolder.open(path)  # says what it is not, and what lies near
    finished = [folder for folder in started if folder.is_finished]
    if not finished:
        raise UsageError(f"none of its {len(started)} runs is finished", where=str(path))
    for folder in started:
        if not folder.is_finished:
            warn(f"{folder.path} is not finished and left out")
    yield from finished


def _read_metrics(folder: RunFolder) -> dict[str, Any]:
    """metrics.json, with all that a comparison reads."""
    result = read_metrics_json(folder.metrics_path)
    if result["best"]["value"] is None or result["best"]["step"] is None:
        raise UsageError(
            "was never scored on validation rows",
            where=str(folder.path),
            hint="Train it with data.validation",
        )
    return result


def _relevant_settings(folder: RunFolder) -> dict[str, str]:
    """Dotted name → value of all that decides the result."""
    config = replace(read_run_config(folder.path), experiment=None)
    return {
        name: value
        for name, value in flatten_settings(config).items()
        if name not in _IRRELEVANT_SETTINGS
    }


def _unify_row_sources(
    settings: list[dict[str, str]], manifests: Sequence[Mapping[str, Any]]
) -> None:
    """Equal rows read from several paths are called by the first of them."""
    first: dict[tuple[str, str], str] = {}
    for run_settings, manifest in zip(settings, manifests, strict=True):
        for split, recorded_split in manifest["data"]["splits"].items():
            name = f"data.{split}"
            if name in run_settings:
                run_settings[name] = first.setdefault(
                    (split, recorded_split["fingerprint"]), run_settings[name]
                )


def _differing_settings(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Each one's seed, method and what is not the same in all; what one lacks is empty."""
    names = dict.fromkeys(name for each in settings for name in each)
    differing = [
        name
        for name in names
        if name in ("seed", "method.name") or len({each.get(name) for each in settings}) > 1
    ]
    return [{name: each.get(name, "") for name in differing} for each in settings]
