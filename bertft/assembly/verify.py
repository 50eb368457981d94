"""Is a run still what was written? Every sealed file is hashed again, and the rest is read.

manifest.json                                     read
config.yaml, metrics.json, metrics.jsonl,         read; of a finished run: sha256 in the manifest
timings.jsonl                                     (a torn last line is what a kill leaves)
check_rows.jsonl                                  sha256 in the manifest
base                                              sha256 in the manifest; in the run: files.json
checkpoints/step-N, last, best                    files.json; where the names point
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertft.assembly import base
from bertft.assembly.calibrate import recorded
from bertft.assembly.check_rows import read_check_rows
from bertft.assembly.checkpoint import read_facts, unlike
from bertft.assembly.manifest import read_manifest
from bertft.config.regular_file import read_regular
from bertft.config.resumed import config_of_run
from bertft.errors import BertftError, DataError
from bertft.models.source import local_folder
from bertft.runs import pointers
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.files import check
from bertft.runs.folder import RunFolder
from bertft.runs.result import read_result

__all__ = ["Finding", "findings"]


@dataclass(frozen=True)
class Finding:
    """``problems`` of the file or folder ``name``, none if it is as it was; ``note``: aside."""

    name: str
    problems: tuple[str, ...] = ()
    note: str = ""


def findings(run: RunFolder) -> Iterator[Finding]:
    """What there is to say of each file of ``run``, in the order of a look through the folder."""
    try:
        manifest = read_manifest(run)
    except DataError:
        manifest = {}  # told below; what it would prove is not known

    def sealed(path: Path, read: Callable[[], Any]) -> Finding:
        finding = _read(path.name, read)
        if finding.problems or not whole:
            return finding
        return _read(path.name, lambda: run.check_seal(path))

    seal = _read("manifest.json", lambda: (read_manifest(run), run.seal()))
    whole = not seal.problems  # else told once, there
    yield sealed(run.config, lambda: config_of_run(run.path))
    yield seal
    if run.finished or (whole and run.seal() is not None):
        yield sealed(run.metrics, lambda: (read_result(run.metrics), recorded(run)))
    for log in (run.metrics_log, run.timings_log):
        if log.exists() or run.finished or Checkpoints(run.checkpoints).steps():
            yield sealed(log, lambda log=log: _lines(log, run.finished))  # type: ignore[misc]
    if manifest.get("check_rows") is not None or run.check_rows.exists():
        yield _read("check_rows.jsonl", lambda: _check_rows(run, manifest.get("check_rows")))
    if "base" in manifest:
        yield _base(run, manifest)
    yield from _checkpoints(run, manifest)


def _read(name: str, read: Callable[[], Any]) -> Finding:
    try:
        read()
    except BertftError as error:
        return Finding(name, (error.what,))
    return Finding(name)


def _lines(path: Path, finished: bool) -> None:
    try:
        *lines, end = read_regular(path).split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not isinstance(json.loads(line), dict):
                raise DataError(f"line {number} is no object")
    except (ValueError, RecursionError):
        raise DataError(f"line {number} cannot be read as JSON") from None
    if end and finished:
        raise DataError("its last line is cut short")


def _check_rows(run: RunFolder, digest: str | None) -> None:
    read_check_rows(run.check_rows, config_of_run(run.path).data, digest)


def _base(run: RunFolder, manifest: dict[str, Any]) -> Finding:
    try:
        source = base.recorded(manifest, run)
    except BertftError as error:
        return Finding("base", (error.what,))
    if source.kind != base.OWN:
        here = local_folder(source) is not None
        return Finding(
            "base", note=source.load if here else f"{source.name} is not on this machine"
        )
    return Finding("base", tuple(check(run.base)))


def _fits(path: Path, manifest: dict[str, Any]) -> tuple[str, ...]:
    """What a checkpoint says of its task is what the manifest says."""
    try:
        facts = read_facts(path)
    except BertftError as error:
        return (error.what,)
    return tuple(f"its {name} is not that of manifest.json" for name in unlike(facts, manifest))


def _results(run: RunFolder) -> dict[str, Any]:
    """The steps that the pointers of a finished run must name."""
    try:
        told = read_result(run.metrics) if run.finished else {}
        return {"best": told["best"]["step"], "last": told["train"]["steps"]} if told else {}
    except BertftError:
        return {}  # told with the file


def _checkpoints(run: RunFolder, manifest: dict[str, Any]) -> Iterator[Finding]:
    checkpoints, expected = Checkpoints(run.checkpoints), _results(run)
    steps = checkpoints.steps()
    for step in steps:
        path = checkpoints.path(step)
        yield Finding(f"checkpoints/{path.name}", tuple(check(path)) or _fits(path, manifest))
    for name in ("last", "best"):
        try:
            pointed = pointers.target(run.checkpoints, name)
        except DataError as error:
            yield Finding(f"checkpoints/{name}", (error.what,))
            continue
        told = expected.get(name)
        if pointed is not None and pointed not in steps:
            yield Finding(f"checkpoints/{name}", (f"points at step-{pointed}, which is missing",))
        elif pointed is not None and told not in (None, pointed):
            yield Finding(
                f"checkpoints/{name}", (f"points at step-{pointed}, metrics.json tells {told}",)
            )
        elif pointed is not None:
            yield Finding(f"checkpoints/{name}", note=f"step-{pointed}")
        elif told is not None or (name == "last" and steps):
            yield Finding(f"checkpoints/{name}", ("is missing",))
    if run.finished and not steps:
        yield Finding("checkpoints", ("there is none",))
