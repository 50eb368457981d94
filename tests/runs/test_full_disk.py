"""A disk that is full, read-only or gone: status 4, and what was saved is as it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_runs import raised, tree, writer

from bertft.errors import SystemResourceError
from bertft.utils import failpoints

CRASH = Path(__file__).with_name("crash_runs.py")


class Failing:
    """Fails at point ``first``, and at all later ones if ``on``."""

    def __init__(self, number: int, first: int, on: bool) -> None:
        self.number, self.first, self.on, self.met = number, first, on, 0

    def __call__(self, name: str) -> None:
        self.met += 1
        if self.met == self.first or (self.on and self.met > self.first):
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("on", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "Make room"), (errno.EROFS, "writable"), (errno.EACCES, "writable")],
)
def test_an_error_at_any_point(checkpoints, number, advice, on):
    folder = checkpoints.folder
    start = folder.parent.parent / "start"
    shutil.copytree(folder, start, symlinks=True)
    points: list[str] = []
    with failpoints.install_hook(points.append):
        checkpoints.save(30, writer(30), best=True)
    end = tree(folder)
    content = 0
    for first in range(1, len(points) + 1):
        shutil.rmtree(folder)
        shutil.copytree(start, folder, symlinks=True)
        with failpoints.install_hook(Failing(number, first, on)):
            error = raised(SystemResourceError, lambda: checkpoints.save(30, writer(30), best=True))
        if isinstance(error, SystemResourceError):
            content += 1
            assert error.status == 4
            assert os.strerror(number) in str(error)
            assert advice in str(error)
            actual = checkpoints.find_checkpoint("last", with_state=True)
            assert actual.name in ("step-20", "step-30")
            assert f"{actual.name} is intact: resume from it with resume={folder.parent}" in str(
                error
            )
            assert tree(folder / "step-20") == tree(start / "step-20")
            if not on and points[first - 1].startswith(("create", "write")):
                assert tree(folder) == tree(start)
        assert checkpoints.find_checkpoint("best").name in ("step-10", "step-30")
        checkpoints.save(30, writer(30), best=True)
        assert tree(folder) == end
    assert content > 20


def test_what_cannot_be_replaced_stays(checkpoints):
    """A best without state is made anew in its place; its weights must outlive the attempt."""
    checkpoints.save(30, writer(30), best=False)
    before = tree(checkpoints.checkpoint_path(10))
    assert "state.json" not in before

    def hook(name):
        if name == "rename step-10":
            raise OSError(errno.EIO, "Input/output error")

    with (
        failpoints.install_hook(hook),
        pytest.raises(SystemResourceError, match=r"Check the disk"),
    ):
        checkpoints.save(10, writer(10), best=True)
    assert tree(checkpoints.checkpoint_path(10)) == before
    assert checkpoints.find_checkpoint("best") == checkpoints.checkpoint_path(10)


def test_nothing_to_resume_from(tmp_path):
    from bertft.runs.checkpoints import CheckpointStore

    with (
        failpoints.install_hook(Failing(errno.ENOSPC, 1, False)),
        pytest.raises(SystemResourceError, match=r"Make room on the disk. No checkpoint was saved"),
    ):
        CheckpointStore(tmp_path / "checkpoints").save(5, writer(5), best=True)


@pytest.mark.parametrize("gone", ["run", "checkpoints"])
def test_a_folder_that_is_gone(checkpoints, gone):
    folder = checkpoints.folder

    def vanishes(new):
        shutil.rmtree(folder if gone == "checkpoints" else folder.parent)
        writer(30)(new)

    for write in (vanishes, writer(30)):
        with pytest.raises(SystemResourceError) as content:
            checkpoints.save(30, write, best=True)
        assert "No such file or directory" in str(content.value)
        assert "moved, removed or unmounted" in str(content.value)
    assert not folder.exists()


def test_a_real_file_system_that_fills_up(tmp_path):
    """Its writers are Python's, safetensors' and the tokenizers'; then it becomes read-only."""
    mounted = f"mount -t tmpfs -o size=600k none {tmp_path} && exec {sys.executable} {CRASH} fill"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run(
            [*command, f"mount -t tmpfs none {tmp_path}"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*command, f"{mounted} {tmp_path / 'run'}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for name in ("plain", "tensors", "tokenizer"):
        assert "step 20 cannot be written (No space left on device" in result["told"][name], name
        assert "step-10 is intact" in result["told"][name]
    assert "step 30 cannot be written (Read-only file system" in result["told"]["readonly"]
    assert result["names"] == ["best", "last", "step-10"]
    assert result["last"] == "step-20"
