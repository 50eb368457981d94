"""files.json: whatever is not as it was sealed is seen, and nothing outside is read."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from crash_runs import writer
from hypothesis import given, settings
from hypothesis import strategies as st

from bertft.runs.files_json import (
    FILES_JSON,
    find_damage,
    has_optional_files,
    has_training_state,
    remove_optional_files,
    write_files_json,
)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "step-7"
    path.mkdir()
    writer(7)(path)
    write_files_json(path)
    return path


def listing(folder):
    return json.loads((folder / FILES_JSON).read_text(encoding="utf-8"))


def relist(folder, change):
    content = listing(folder)
    change(content)
    (folder / FILES_JSON).write_text(json.dumps(content))


def test_what_is_listed(folder):
    content = listing(folder)
    assert list(content) == ["files", "optional"]
    assert content["optional"] == ["state.json"]
    assert list(content["files"]) == [
        "adapter.bin", "labels.json", "state.json", "tokenizer/vocab.txt",
    ]  # fmt: skip
    assert content["files"]["adapter.bin"] == {
        "bytes": 5000, "sha256": hashlib.sha256(b"\x07" * 5000).hexdigest(),
    }  # fmt: skip
    assert find_damage(folder) == []


def test_sealing_again_changes_nothing(folder):
    before = (folder / FILES_JSON).read_bytes()
    write_files_json(folder)
    assert (folder / FILES_JSON).read_bytes() == before


def test_the_state_may_be_gone(folder):
    assert has_training_state(folder)
    remove_optional_files(folder)
    assert not (folder / "state.json").exists()
    assert find_damage(folder) == []
    assert not has_training_state(folder)
    assert not has_optional_files(folder)


def test_a_folder_without_state_has_none(tmp_path):
    (tmp_path / "a").write_text("a")
    write_files_json(tmp_path)
    assert has_optional_files(tmp_path)
    assert not has_training_state(tmp_path)


def test_a_flipped_bit_in_any_byte_of_the_listing_is_seen(folder):
    path = folder / FILES_JSON
    data = path.read_bytes()
    for work_folder in range(len(data)):
        changed = bytearray(data)
        changed[work_folder] ^= 1 << work_folder * 5 % 8
        path.write_bytes(changed)
        assert find_damage(folder), f"byte {work_folder}, {data[work_folder : work_folder + 1]!r}"


def test_every_length_of_the_listing_is_seen(folder):
    data = (folder / FILES_JSON).read_bytes()
    for length in range(len(data) - 1):  # what follows the last brace is a line end
        (folder / FILES_JSON).write_bytes(data[:length])
        assert find_damage(folder)


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/hostname", "tokenizer/../../secret", "C:\\x", "C:x", "..\\secret",
     "./labels.json", "tokenizer//vocab.txt", "tokenizer/", "", ".", "..", "a\0b", "\ud800",
     "files.json"],
)  # fmt: skip
def test_names_that_lead_out_are_refused(folder, name):
    (folder.parent / "secret").write_bytes(b"")
    entry = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    relist(folder, lambda content: content["files"].update({name: entry}))
    problems = find_damage(folder)
    assert len(problems) == 1
    assert problems[0].startswith("files.json: ")
    assert "invalid file name" in problems[0]


def test_links_are_refused_even_to_the_same_bytes(folder, tmp_path):
    os.rename(folder / "adapter.bin", tmp_path / "adapter.bin")
    os.symlink(tmp_path / "adapter.bin", folder / "adapter.bin")
    assert find_damage(folder) == ["adapter.bin: is a link, or in a folder that is a link"]
    os.replace(tmp_path / "adapter.bin", folder / "adapter.bin")
    os.rename(folder / "tokenizer", tmp_path / "tokenizer")
    os.symlink(tmp_path / "tokenizer", folder / "tokenizer")
    assert find_damage(folder)[0] == "tokenizer/vocab.txt: is a link, or in a folder that is a link"
    os.unlink(folder / "tokenizer")
    os.rename(tmp_path / "tokenizer", folder / "tokenizer")
    assert find_damage(folder) == []
    os.rename(folder / FILES_JSON, tmp_path / FILES_JSON)
    os.symlink(tmp_path / FILES_JSON, folder / FILES_JSON)
    assert find_damage(folder) == ["files.json: is a link"]


def test_nothing_is_removed_through_a_link(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "more").mkdir()
    for work_folder in (tmp_path / "elsewhere", folder / "more"):
        (work_folder / "state.json").write_text("{}")
    write_files_json(folder)
    (folder / "more" / "state.json").unlink()
    (folder / "more").rmdir()
    os.symlink(tmp_path / "elsewhere", folder / "more")
    remove_optional_files(folder)
    assert (tmp_path / "elsewhere" / "state.json").is_file()


def test_a_pipe_is_not_waited_for(folder):
    (folder / "labels.json").unlink()
    os.mkfifo(folder / "labels.json")
    assert find_damage(folder) == ["labels.json: is not a regular file"]
    with pytest.raises(ValueError, match=r"not a regular file"):
        write_files_json(folder)


def test_what_was_added_is_seen(folder):
    (folder / ".DS_Store").write_bytes(b"left by a file manager")
    assert find_damage(folder) == []
    (folder / "tokenizer" / "added_tokens.json").write_text("{}")
    (folder / "model.bin").write_bytes(b"")
    assert find_damage(folder) == [
        "model.bin: is not in files.json", "tokenizer/added_tokens.json: is not in files.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("optional"),
        lambda c: c.update(more=1),
        lambda c: c.update(files=[]),
        lambda c: c.update(optional={}),
        lambda c: c["optional"].append("adapter.bin"),
        lambda c: c["optional"].append("more/state.json"),
        lambda c: c["optional"].append(["state.json"]),
        lambda c: c["files"].update({"adapter.bin": 5000}),
        lambda c: c["files"]["adapter.bin"].pop("sha256"),
        lambda c: c["files"]["adapter.bin"].update(bytes="5000"),
        lambda c: c["files"]["adapter.bin"].update(bytes=5000.0),
        lambda c: c["files"]["adapter.bin"].update(bytes=True),
        lambda c: c["files"]["adapter.bin"].update(bytes=-1),
        lambda c: c["files"]["adapter.bin"].update(sha256=None),
        lambda c: c["files"]["adapter.bin"].update(sha256="0" * 63),
        lambda c: c["files"]["adapter.bin"].update(sha256="A" * 64),
    ],
)
def test_a_listing_of_another_form_is_refused(folder, change):
    relist(folder, change)
    problems = find_damage(folder)
    assert len(problems) == 1
    assert problems[0].startswith("files.json: ")


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"\xef\xbb\xbf{}", b"NaN", b"[" * 200_000, b"9" * 10_000, b"\0" * 10]
)
def test_a_listing_that_is_no_json(folder, data):
    (folder / FILES_JSON).write_bytes(data)
    assert len(find_damage(folder)) == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.long)])
def test_any_listing_is_answered(tmp_path, count):
    contents = given(files=values | st.dictionaries(st.text(), values), optional=values)
    settings(max_examples=count, deadline=None)(contents(any_listing))(tmp_path)


def any_listing(folder, files, optional):
    (folder / FILES_JSON).write_text(json.dumps({"files": files, "optional": optional}))
    problems = find_damage(folder)
    assert all(isinstance(problem, str) for problem in problems)
    assert problems or not files


def test_a_folder_that_is_gone(tmp_path):
    assert find_damage(tmp_path / "absent") == ["files.json: is missing"]
