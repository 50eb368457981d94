"""A folder that is whole or absent, and nothing beside it."""

from __future__ import annotations

import os
import subprocess

import pytest

from bertft.errors import UsageError
from bertft.export.transformers_folder import new_output_folder


def test_it_appears_whole(tmp_path):
    out = tmp_path / "made" / "too" / "out"
    with new_output_folder(out) as new:
        (new / "a").write_text("a")
        assert not out.exists()
    assert [each.name for each in out.parent.iterdir()] == ["out"]
    assert (out / "a").read_text() == "a"


def test_what_fails_leaves_nothing(tmp_path):
    def broken(new):
        (new / "a").write_text("a")
        raise RuntimeError

    with pytest.raises(RuntimeError), new_output_folder(tmp_path / "made" / "out") as new:
        broken(new)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_goes(tmp_path):
    """Of the same name alone: what else lies there is none of ours."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name in (f".out.tmp-{ended.pid}", f".out.tmp-{os.getppid()}", f".mine.tmp-{ended.pid}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("")
    with new_output_folder(tmp_path / "out"):
        pass
    kept = {"out", f".out.tmp-{os.getppid()}", f".mine.tmp-{ended.pid}"}
    assert set(os.listdir(tmp_path)) == kept


def test_two_at_once_write_one_folder(tmp_path):
    """The second is refused, and the first one's stays as it is."""
    out = tmp_path / "out"

    def first_is_sooner(new):
        (new / "a").write_text("second")
        out.mkdir()
        (out / "a").write_text("first")

    with pytest.raises(UsageError, match="another command"), new_output_folder(out) as second:
        first_is_sooner(second)
    assert (out / "a").read_text() == "first" and os.listdir(tmp_path) == ["out"]
