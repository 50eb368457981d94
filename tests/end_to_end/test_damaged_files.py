"""Small files of a run, a merged folder, an adapter and a sweep, damaged in hundreds of ways.

Whoever reads one ends with an error of ours, whose text is one line, or does not mind the change:
never with another exception. What commands make of such an error is shown elsewhere.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import run_bertft

from bertft.config.overrides import rewrite_overrides
from bertft.config.resume import read_run_config
from bertft.errors import BertftError
from bertft.pipeline.adapter_folder import AdapterFolder
from bertft.pipeline.calibration import read_calibration
from bertft.pipeline.check_rows import read_check_rows
from bertft.pipeline.checkpoint import read_checkpoint_info, read_training_state
from bertft.pipeline.manifest import recorded_data
from bertft.pipeline.model_info import read_model_info
from bertft.pipeline.verify import verify_files
from bertft.report.compare.read import read_runs
from bertft.report.result_rows import group_results
from bertft.report.sweep import read_jobs, write_summary
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.manifest import read_manifest
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder

RUN = ("classification", "method=lora")
WRONG = (None, [], {}, 3, -1, 10**30, 1.5, 1e308, True, "x", "", ["x"], {"x": []}, "../../x")
SOME, MANY = 4, 16  # places of a JSON file that are changed, drawn by the seed


def whole(content: bytes) -> Iterator[bytes]:
    """The file as it is after an accident, or of another kind."""
    half = len(content) // 2
    yield from (b"", content[:half], content[:-2], content + content, b"\x00" * 64, b"\xff\xfe\xfd")
    yield from (b"[]", b"{}", b"null", b"3", b'"x"', b"NaN", b"[[1]]", b"[" * 100_000, b"\n\n\n")
    yield from (b'{"a": 1' + b"9" * 5_000 + b"}", content.replace(b":", b";", 3), os.urandom(200))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else []
    pairs = enumerate(value[:3]) if isinstance(value, list) else pairs
    for key, item in pairs:
        yield (*path, key)
        yield from places(item, (*path, key))


def inside(content: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """One place of a JSON file missing, or of another type."""
    value = json.loads(content)
    every = list(places(value))
    for path in rng.sample(every, min(count, len(every))):
        changed = copy.deepcopy(value)
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        if rng.random() < 0.25:
            del parent[path[-1]]
        else:
            parent[path[-1]] = rng.choice(WRONG)
        yield json.dumps(changed).encode()


def damaged(file: Path, rng: random.Random, count: int) -> Iterator[bytes]:
    content = file.read_bytes()
    every = list(whole(content))
    yield from every if count == MANY else rng.sample(every, 2 * count)
    if file.suffix == ".json":
        yield from inside(content, rng, count)
    elif file.suffix == ".jsonl":
        first, _, rest = content.partition(b"\n")
        yield from (line + b"\n" + rest for line in inside(first, rng, count))
    elif file.suffix == ".yaml":
        lines = content.splitlines(keepends=True)
        for at in rng.sample(range(len(lines)), count // 2):
            odd = rng.choice((b": [1\n", b": {a: 1}\n", b": &a x\n", b": ${oc.env:HOME}\n", b""))
            key = lines[at].partition(b":")[0]
            yield b"".join([*lines[:at], key + odd if odd else b"", *lines[at + 1 :]])


def survives(
    file: Path, reads: list[Callable[[], Any]], rng: random.Random, many: int
) -> tuple[int, int]:
    """How often the file was damaged, and how often that was an error."""
    content, count, errors = file.read_bytes(), 0, 0
    recorded: list[BertftError] = []
    try:
        for change in damaged(file, rng, many):
            file.write_bytes(change)
            for read in reads:
                count += 1
                try:
                    read()
                except BertftError as error:
                    errors += 1
                    recorded.append(error)
                except Exception as error:
                    raise AssertionError(f"{file.name}: {change[:200]!r}: {error!r}") from error
    finally:
        file.write_bytes(content)
    assert all(error.status in (2, 4) and len(str(error)) < 2_000 for error in recorded)
    return count, errors


@pytest.fixture
def rng() -> random.Random:
    return random.Random(20)


@pytest.fixture(params=[SOME, pytest.param(MANY, marks=pytest.mark.long)])
def many(request) -> int:
    """Some kinds of damage per file, all of them under the marker ``long``."""
    return request.param


def test_the_files_of_a_run(copied, rng, many):
    run = copied(*RUN)
    folder = RunFolder(run)
    best = (run / "checkpoints" / "best").resolve()
    data_config = read_run_config(run).data
    data = recorded_data(data_config, read_manifest(folder))
    reads: dict[Path, list[Callable[[], Any]]] = {
        run / "config.yaml": [
            lambda: read_run_config(run),
            lambda: rewrite_overrides("eval", [f"run={run}", "data.max_length=9"]),
        ],
        run / "manifest.json": [
            lambda: recorded_data(data_config, read_manifest(folder)),
        ],
        run / "metrics.json": [
            lambda: read_metrics_json(folder.metrics_path), lambda: read_calibration(folder),
        ],
        run / "check_rows.jsonl": [
            lambda: read_check_rows(folder.check_rows_path, data),
        ],
        best / "files.json": [lambda: CheckpointStore(run / "checkpoints").find_checkpoint("best")],
        best / "bertft.json": [lambda: read_checkpoint_info(best)],
    }  # fmt: skip
    for file, read_functions in reads.items():
        count, errors = survives(file, read_functions, rng, many)
        assert count >= 8, file.name
        assert errors > count // 10, (file.name, count, errors)


def test_the_files_of_a_model(copied, rng, work_dir, many):
    assert run_bertft("merge", f"run={copied(*RUN)}", "out=merged").status == 0
    merged = work_dir / "merged"
    survives(merged / "bertft.json", [lambda: read_model_info(merged)], rng, many)


def test_the_files_of_an_adapter(copied, rng, work_dir, many):
    words = ("export", f"run={copied(*RUN)}", "out=adapter")
    assert run_bertft(*words).status == 0
    adapter = work_dir / "adapter"
    for name in ("adapter_config.json", "bertft.json"):
        count, errors = survives(adapter / name, [lambda: AdapterFolder(adapter)], rng, many)
        assert errors > count // 10


def test_the_files_of_a_sweep(copied, rng, work_dir, many):
    """A damaged job is a row that failed; the others stay in the table."""
    for name in ("one", "two"):
        shutil.copytree(copied(*RUN) if name == "one" else work_dir / "sweep" / "one",
                        work_dir / "sweep" / name, symlinks=True)  # fmt: skip
        job = {"overrides": {"seed": name}, "error": None}
        (work_dir / "sweep" / name / "job.json").write_text(json.dumps(job))

    def table() -> None:
        lines = group_results(read_jobs(work_dir / "sweep"))
        write_summary(work_dir / "sweep", lines)
        assert sum(line.runs + line.failed for line in lines) == 2

    for name in ("job.json", "metrics.json"):
        _, errors = survives(work_dir / "sweep" / "one" / name, [table], rng, many)
        assert errors == 0, "one damaged file ends no sweep"


def test_verify_and_compare_name_what_is_cut_or_empty(copied):
    run = copied(*RUN)
    for name in (
        "config.yaml",
        "manifest.json",
        "metrics.json",
        "metrics.jsonl",
        "check_rows.jsonl",
    ):
        content = (run / name).read_bytes()
        cut = content[: len(content) // 2]
        for change in (b"", cut, b"[]\n", b"\xff\x00"):
            (run / name).write_bytes(change)
            assert any(file.name == name and file.problems for file in verify_files(RunFolder(run)))
            if name == "config.yaml" and change == cut:
                continue  # half of a YAML file may be a whole one
            if name in ("config.yaml", "manifest.json", "metrics.json"):
                with pytest.raises(BertftError):
                    read_runs([str(run)], str)
        (run / name).write_bytes(content)


def test_the_state_of_a_checkpoint(copied, rng, many):
    best = (copied(*RUN) / "checkpoints" / "last").resolve()
    _, errors = survives(best / "state.json", [lambda: read_training_state(best)], rng, many)
    assert errors
