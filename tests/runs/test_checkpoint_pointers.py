"""``last`` and ``best``: a link, a file, a copy; and what is refused."""

from __future__ import annotations

import os
import shutil

import pytest
from crash_runs import no_links, writer

from bertft.errors import DataError
from bertft.runs import checkpoint_pointers


@pytest.mark.parametrize(
    ("name", "step"),
    [("step-0", 0), ("step-250", 250), ("step-007", None), ("step-", None), ("step--1", None),
     ("step-1/..", None), ("step-\u0661", None), ("step-5\n", None), ("Step-5", None), ("5", None)],
)  # fmt: skip
def test_names(name, step):
    assert checkpoint_pointers.parse_step_name(name) == step
    assert step is None or checkpoint_pointers.format_step_name(step) == name


def test_only_folders_count(tmp_path):
    for name in ("step-20", "step-3", "step-x", ".step-40.tmp-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-5").write_text("")
    (tmp_path / "step-6").symlink_to("step-3")
    assert checkpoint_pointers.list_steps(tmp_path) == [3, 20]
    assert checkpoint_pointers.list_steps(tmp_path / "absent") == []


@pytest.mark.parametrize(
    "to", ["..", "../other", "/etc", "step-5/../..", "./step-5", "best", "step-05", "step-5/"]
)
@pytest.mark.parametrize("by", ["link", "file"])
def test_a_pointer_that_leads_elsewhere(tmp_path, by, to):
    (tmp_path / "step-5").mkdir()
    if by == "link":
        os.symlink(to, tmp_path / "last")
    else:
        (tmp_path / "last.json").write_text(f'{{"checkpoint": "{to}"}}')
    with pytest.raises(
        DataError, match=r"last(\.json)?: points to '.*', which is not a checkpoint"
    ):
        checkpoint_pointers.read_pointer(tmp_path, "last")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"checkpoint": 5}', "{", '"step-5"', "NaN"])
def test_a_pointer_file_that_is_none(tmp_path, text):
    (tmp_path / "last.json").write_text(text)
    with pytest.raises(DataError, match=r"last\.json"):
        checkpoint_pointers.read_pointer(tmp_path, "last")


def test_a_bad_pointer_is_reported_and_the_newest_found(checkpoints):
    (checkpoints.folder / "last").unlink()
    os.symlink("../../elsewhere", checkpoints.folder / "last")
    warnings: list[str] = []
    assert checkpoints.find_checkpoint("last", warn=warnings.append) == checkpoints.checkpoint_path(
        20
    )
    assert len(warnings) == 1
    assert "points to '../../elsewhere'" in warnings[0]
    os.unlink(checkpoints.folder / "best")
    os.symlink("/etc", checkpoints.folder / "best")
    with pytest.raises(DataError, match=r"which is not a checkpoint"):
        checkpoints.find_checkpoint("best")


def test_a_copied_run(checkpoints, tmp_path):
    """scp and cp -L follow links: the pointers become folders."""
    copy = type(checkpoints)(tmp_path / "copy" / "checkpoints", keep=1)
    shutil.copytree(checkpoints.folder.parent, tmp_path / "copy")
    assert (copy.folder / "last").is_dir()
    assert not (copy.folder / "last").is_symlink()
    assert copy.find_checkpoint("last") == copy.checkpoint_path(20)
    assert copy.find_checkpoint("best") == copy.checkpoint_path(10)
    copy.save(30, writer(30), best=True)
    assert sorted(os.listdir(copy.folder)) == ["best", "last", "step-20", "step-30"]
    assert os.readlink(copy.folder / "best") == os.readlink(copy.folder / "last") == "step-30"


def test_a_copy_of_nothing_next_to_it(checkpoints):
    (checkpoints.folder / "last").unlink()
    (checkpoints.folder / "last").mkdir()
    for files in (None, b"{}"):
        if files is not None:
            (checkpoints.folder / "last" / "files.json").write_bytes(files)
        with pytest.raises(DataError, match=r"not a copy of a checkpoint|cannot be read"):
            checkpoint_pointers.read_pointer(checkpoints.folder, "last")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("before", ["nothing", "link", "file", "copy"])
def test_swaps_leave_one_pointer(checkpoints, monkeypatch, before, links):
    folder = checkpoints.folder
    (folder / "last").unlink()
    if before == "link":
        os.symlink("step-10", folder / "last")
    elif before == "file":
        (folder / "last.json").write_text('{"checkpoint": "step-10"}')
    elif before == "copy":
        shutil.copytree(folder / "step-10", folder / "last")
    assert checkpoint_pointers.read_pointer(folder, "last") == (None if before == "nothing" else 10)
    if not links:
        monkeypatch.setattr(os, "symlink", no_links)
    checkpoint_pointers.swap_pointer(folder, "last", 20)
    assert checkpoint_pointers.read_pointer(folder, "last") == 20
    left = [name for name in os.listdir(folder) if "last" in name]
    assert left == (["last"] if links else ["last.json"])
    assert (folder / "last").is_symlink() == links
