"""Whole or not at all, and JSON that every reader takes."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess

import pytest
from crash_runs import tree
from hypothesis import given, settings
from hypothesis import strategies as st

from bertft.errors import DataError, SystemResourceError
from bertft.utils import atomic_io, failpoints
from bertft.utils.safe_files import read_json, read_json_object
from bertft.utils.system_errors import find_os_error


def test_an_error_at_any_point_leaves_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "a.json"
    points: list[str] = []
    with failpoints.install_hook(points.append):
        atomic_io.atomic_write_text(path, "old")
    assert points == [
        "create a.json", "write a.json", "sync a.json", "rename a.json", f"sync {tmp_path.name}/",
    ]  # fmt: skip
    for failing in points:

        def hook(name, failing=failing):
            if name == failing:
                raise OSError(errno.ENOSPC, "No space left on device")

        atomic_io.atomic_write_text(path, "old")
        with failpoints.install_hook(hook), pytest.raises(OSError, match=r"No space"):
            atomic_io.atomic_write_text(path, "new")
        renamed = failing == points[-1]
        assert tree(tmp_path) == {"a.json": b"new" if renamed else b"old"}


def test_the_file_and_its_name_reach_the_disk(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    atomic_io.atomic_write_bytes(tmp_path / "a", b"a")
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "a").symlink_to("elsewhere")
    atomic_io.atomic_write_bytes(tmp_path / "a", b"ours")
    assert tree(tmp_path) == {"elsewhere": b"theirs", "a": b"ours"}


def test_the_temporary_file_is_no_link(tmp_path):
    (tmp_path / "theirs").write_text("mine")
    atomic_io.temporary_path(tmp_path / "file").symlink_to(tmp_path / "theirs")
    atomic_io.atomic_write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "theirs").read_text() == "mine"
    assert (tmp_path / "file").read_bytes() == b"new" and not (tmp_path / "file").is_symlink()


def test_removal_does_not_follow_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("theirs")
    (tmp_path / "old" / "below").mkdir(parents=True)
    (tmp_path / "old" / "below" / "link").symlink_to(tmp_path / "elsewhere")
    atomic_io.remove_path(tmp_path / "old")
    assert tree(tmp_path) == {"elsewhere": "/", "elsewhere/a": b"theirs"}


def test_only_temporaries_of_the_dead_are_cleaned(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    remaining = [
        "a.tmp-1",
        ".a.tmp-x",
        ".a.tmp",
        f".a.tmp-{os.getppid()}",
        ".a.tmp-1.json",
        ".b.tmp-1",
    ]
    gone = [f".a.tmp-{ended.pid}", f".a.tmp-{os.getpid()}", f".a.tmp-{10**30}"]
    for name in (*remaining, *gone):
        (tmp_path / name).write_text("")
    (tmp_path / f".other.tmp-{ended.pid}").write_text("")
    atomic_io.remove_stale_temporaries(tmp_path, "a")
    assert sorted(os.listdir(tmp_path)) == sorted([*remaining, f".other.tmp-{ended.pid}"])
    atomic_io.remove_stale_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(remaining)


def test_what_is_not_finite_becomes_null(tmp_path):
    value = {"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf}, "d": True}
    atomic_io.atomic_write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [None, 1.5, [None]], "b": {"c": None}, "d": True,
    }  # fmt: skip


def test_people_can_read_it_and_odd_names_survive(tmp_path):
    atomic_io.atomic_write_json(tmp_path / "a.json", {"label": "酒店", "b": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "label": "酒店",\n "b": 1\n}\n'
    odd = os.fsdecode(b"caf\xe9.csv")
    atomic_io.atomic_write_json(tmp_path / "a.json", [odd, "酒店"])
    assert read_json(tmp_path / "a.json") == [odd, "酒店"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(plain)
def test_numbers_and_texts_read_back_equal(value):
    back = json.loads(atomic_io.to_json_text(value))
    assert back == value
    assert repr(back) == repr(value)  # 1, 1.0 and True are equal, and so are 0.0 and -0.0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "cannot be read as JSON"),
        (b"[1, NaN]", "NaN is not a JSON number"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "cannot be read as JSON"),
        (b"[]", "expected an object, got list"),
        (b"null", "expected an object, got NoneType"),
    ],
)
def test_what_is_no_json(tmp_path, data, why):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(DataError) as content:
        read_json_object(path)
    assert content.value.where == str(path)
    assert why in content.value.what


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"is missing"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(DataError, match="not a regular file"):
        read_json(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_json(tmp_path / "pipe")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(DataError, match=r"is larger than 268,435,456 bytes"):
        read_json(tmp_path / "huge.json")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("No space left on device (os error 28)", errno.ENOSPC),
        ("Error while serializing: I/O error: Read-only file system (os error 30)", errno.EROFS),
        ('IoError(Os { code: 28, kind: StorageFull, message: "..." })', errno.ENOSPC),
        ("code: 28", None),
        ("os error", None),
    ],
)
def test_errors_reported_as_text(text, number):
    content = find_os_error(Exception(text))
    assert (content and content.errno) == number


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "Make room"), (errno.EDQUOT, "Make room"), (errno.EROFS, "writable"),
     (errno.EACCES, "writable"), (errno.ENOENT, "unmounted"), (errno.EIO, "Check the disk")],
)  # fmt: skip
def test_the_environment_failed(tmp_path, number, hint):
    with (
        pytest.raises(SystemResourceError) as content,
        atomic_io.convert_write_errors(tmp_path / "a"),
    ):
        raise OSError(number, os.strerror(number))
    assert content.value.status == 4
    assert str(content.value).startswith(
        f"{tmp_path / 'a'}: cannot be written ({os.strerror(number)})"
    )
    assert hint in str(content.value)


def test_a_file_named_by_its_content_is_complete_or_absent(tmp_path):
    def write(file):
        file.write(b"content")
        assert next(path.name for path in tmp_path.iterdir()).startswith(".key-")
        return "key.name"

    def fail(file):
        file.write(b"con")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        atomic_io.atomic_write_named(tmp_path, "key", fail)
    assert not list(tmp_path.iterdir())
    path = atomic_io.atomic_write_named(tmp_path, "key", write)
    assert path == tmp_path / "key.name" and path.read_bytes() == b"content"
    assert list(tmp_path.iterdir()) == [path]
