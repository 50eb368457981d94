"""An output folder is complete or absent."""

from __future__ import annotations

import os
import subprocess

import pytest

from bertft.errors import UsageError
from bertft.export.transformers_folder import new_output_folder


def test_it_appears_complete(tmp_path):
    out = tmp_path / "made" / "too" / "out"
    with new_output_folder(out) as new:
        (new / "a").write_text("a")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out / "a").read_text() == "a"


def test_a_failure_leaves_nothing(tmp_path):
    def broken(new):
        (new / "a").write_text("a")
        raise RuntimeError

    with pytest.raises(RuntimeError), new_output_folder(tmp_path / "made" / "out") as new:
        broken(new)
    assert os.listdir(tmp_path) == []


def test_temporary_folders_of_a_killed_process_are_deleted(tmp_path):
    """Only those of the same name: other folders are not touched."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f".out.tmp-{ended.pid}", f".out.tmp-{os.getppid()}", f".mine.tmp-{ended.pid}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("")
    with new_output_folder(tmp_path / "out"):
        pass
    remaining = {"out", f".out.tmp-{os.getppid()}", f".mine.tmp-{ended.pid}"}
    assert set(os.listdir(tmp_path)) == remaining


def test_two_processes_write_one_folder(tmp_path):
    """The second is refused, and the folder of the first does not change."""
    out = tmp_path / "out"

    def write_first(new):
        (new / "a").write_text("second")
        out.mkdir()
        (out / "a").write_text("first")

    with pytest.raises(UsageError, match="another command"), new_output_folder(out) as second:
        write_first(second)
    assert (out / "a").read_text() == "first" and os.listdir(tmp_path) == ["out"]
