"""SIGKILL at every point in turn: what was saved stays whole, and going on ends the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from crash_runs import no_links, raised, save, tensor_writer, tree, writer

from bertft.errors import UsageError
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.files_json import find_damage
from bertft.runs.run_folder import RunFolder
from bertft.utils import failpoints
from bertft.utils.safe_files import read_regular_text

CRASH = Path(__file__).with_name("crash_runs.py")
SCENARIOS = [
    "best",
    "other",
    "best+files",
    "best+tensors",
    "best+damaged",
    "best+copied",
    "other+files+copied",
    "best+first",
    "other+first+files",
]


def crash(*words) -> list[int]:
    done = subprocess.run(
        [sys.executable, CRASH, *map(str, words)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)["statuses"]


def begin(run: Path, scenario: str) -> None:
    """The run folder before the save that will be cut off."""
    options = scenario.split("+")[1:]
    run.mkdir()
    if "first" in options:
        return
    write = tensor_writer if "tensors" in options else writer
    checkpoints = CheckpointStore(run / "checkpoints", keep=1)
    with pytest.MonkeyPatch.context() as patch:
        if "files" in options:
            patch.setattr(os, "symlink", no_links)
        checkpoints.save(10, write(10), best=True)
        checkpoints.save(20, write(20), best=False)
    if "damaged" in options:
        shutil.copytree(checkpoints.checkpoint_path(20), checkpoints.checkpoint_path(30))
        (checkpoints.checkpoint_path(30) / "adapter.bin").write_bytes(b"cut")
    if "copied" in options:
        for name in ("last", "best"):
            copied = checkpoints.find_checkpoint(name)
            (checkpoints.folder / name).unlink(missing_ok=True)
            (checkpoints.folder / f"{name}.json").unlink(missing_ok=True)
            shutil.copytree(copied, checkpoints.folder / name)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whole_or_absent(in_memory, scenario):
    start, work, through = in_memory / "start", in_memory / "work", in_memory / "through"
    begin(start, scenario)
    before = tree(start / "checkpoints" / "step-20")
    shutil.copytree(start, through, symlinks=True)
    points: list[str] = []
    with failpoints.install_hook(points.append):
        save(through, scenario)
    statuses = crash("kill", start, work, scenario)
    assert statuses == [signal.SIGKILL] * len(points) + [0]

    seen = set()
    for number in range(1, len(statuses) + 1):
        run = work / str(number)
        checkpoints = CheckpointStore(run / "checkpoints", keep=1)
        warnings: list[str] = []
        last = raised(
            UsageError,
            lambda: checkpoints.find_checkpoint("last", with_state=True, warn=warnings.append),  # noqa: B023
        )
        if isinstance(last, UsageError):
            assert "first" in scenario
            assert last.what == "no checkpoint was saved yet"
            seen.add(None)
        else:
            seen.add(last.name)
            assert find_damage(last) == []
            assert warnings == []
            if "first" not in scenario:
                assert tree(checkpoints.checkpoint_path(20)) == before
                best = checkpoints.find_checkpoint("best")
                assert best.name in ("step-10", "step-30")
        save(run, scenario)
        assert tree(run) == tree(through), f"after a kill at point {number}"
    assert seen == ({None, "step-30"} if "first" in scenario else {"step-20", "step-30"})


def test_killed_twice(in_memory):
    start, work, through = in_memory / "start", in_memory / "work", in_memory / "through"
    begin(start, "best")
    shutil.copytree(start, through, symlinks=True)
    save(through, "best")
    statuses = crash("twice", start, work, "best")
    assert statuses.count(signal.SIGKILL) > 100
    for number in range(1, len(statuses) + 1):
        run = work / str(number)
        actual = CheckpointStore(run / "checkpoints").find_checkpoint("last", with_state=True)
        assert actual.name in ("step-20", "step-30")
        save(run, "best")
        assert tree(run) == tree(through)


def test_a_run_is_started_or_not(tmp_path):
    start, work = tmp_path / "start", tmp_path / "work"
    start.mkdir()
    (start / "job.json").write_text("{}")
    statuses = crash("kill", start, work, "create")
    assert len(statuses) > 10
    begun = []
    for number in range(1, len(statuses) + 1):
        folder = RunFolder(work / str(number))
        begun.append(folder.has_run)
        if not folder.has_run:
            folder.create("seed: 1\n", {"version": "0.1.0"})
        assert read_regular_text(folder.config_path) == "seed: 1\n"
        assert folder.read_manifest() == {"version": "0.1.0"}
    assert begun == sorted(begun)
    assert set(begun) == {False, True}
    assert set(tree(work / "1")) == {"job.json", "config.yaml", "manifest.json", "checkpoints"}


def test_the_environment_names_the_point(tmp_path):
    code = (
        "import sys; from pathlib import Path; from bertft.runs.run_folder import RunFolder\n"
        "from bertft.errors import BertftError\n"
        "try: RunFolder(Path(sys.argv[1])).create('', {})\n"
        "except BertftError as error: print(error); sys.exit(error.status)"
    )

    def run(name, fault):
        return subprocess.run(
            [sys.executable, "-c", code, tmp_path / name],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": str(CRASH.parents[2]),
                failpoints.FAULT_VARIABLE: fault,
            },
        )

    killed = run("a", "kill:2")
    assert killed.returncode == -signal.SIGKILL
    assert killed.stderr == "fault: killed at point 2, write config.yaml\n"
    assert list(tree(tmp_path / "a").values()) == [b""]
    assert run("b", "").returncode == 0
    assert run("c", "kill:999").returncode == 0
    wrong = run("d", "kill:0")
    assert (wrong.returncode, wrong.stdout) == (
        2,
        "BERTFT_FAULT: invalid value 'kill:0'. Use kill:<number>\n",
    )


def test_every_byte_is_on_the_disk_before_it_has_its_name(checkpoints, monkeypatch):
    """A power cut cannot be had in a test; the order of the system calls can."""
    points: list[str] = []
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda file: synced.add(os.fstat(file).st_ino))
    with failpoints.install_hook(points.append):
        path = checkpoints.save(30, writer(30), best=True)
    assert {file.stat().st_ino for file in (path.parent, path, *path.rglob("*"))} <= synced
    new = f".step-30.tmp-{os.getpid()}"
    named = points.index("rename step-30")
    files = ("adapter.bin", "tokenizer/", "vocab.txt", "labels.json", "state.json", "files.json")
    for name in (*files, f"{new}/"):
        assert f"sync {name}" in points[:named], name
    assert points.index("write files.json") > max(points.index(f"sync {n}") for n in files[:-1])
    assert points[named + 1] == "sync checkpoints/"
    rest = points[named + 2 :]
    assert rest[:6] == [
        "link best",
        "rename best",
        "sync checkpoints/",
        "link last",
        "rename last",
        "sync checkpoints/",
    ]
    assert rest[6] == "rename step-10 away"
    assert all(point.startswith("remove ") for point in rest[7:])
