"""YAML of a folder from elsewhere: plain values within bounds, read as OmegaConf reads them."""

from __future__ import annotations

import itertools
import os
import time

import pytest
from omegaconf import OmegaConf

from bertft.config.values import check_answer_settings, check_recorded_settings
from bertft.errors import DataError
from bertft.utils.safe_files import (
    check_regular_file,
    open_regular_file,
    read_plain_yaml,
    read_regular_bytes,
)

PLAIN = """
a: 1e-3
b: 1.0e-05
c: '1e-5'
d: 2024-01-01
e: [1, 2.5, true, null, ~, .inf, -.5, 1_000, 0x1F]
f: 12e3
g: {h: "\\x1b", i: '质'}
"""


def test_it_reads_what_omegaconf_reads(tmp_path):
    (tmp_path / "plain.yaml").write_text(PLAIN, encoding="utf-8")
    expected = OmegaConf.to_container(OmegaConf.create(PLAIN))
    assert read_plain_yaml(tmp_path / "plain.yaml") == expected


def aliases(levels: int) -> str:
    """Each level holds nine of the one before: 9^levels values in some 30 bytes a level."""
    names = "abcdefghijklmnop"[: levels + 1]
    lines = [f"{names[0]}: &{names[0]} [x]"]
    for before, name in itertools.pairwise(names):
        lines.append(f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (aliases(8), "line 1: anchors and aliases are not supported"),
        ("a: &a [1]\n", "line 1: anchors"), ("a: !!python/name:os.system x\n", "line 1: tags"),
        ("a: !!str 3\n", "line 1: tags"), ("a: 1\na: 2\n", "duplicate key 'a'"),
        ("[a]: 1\n", "a key is not a name"), ("a: '${oc.env:HOME}'\n", "interpolations"),
        ("${x}: 1\n", "interpolations"), (f"a: {'[' * 40}{']' * 40}\n", "levels deep"),
        (f"a: {'[' * 100_000}\n", "cannot be read"), (f"a: {'9' * 5_000}\n", "digits"),
        ("a: [\n", "cannot be read"), ("a: \x00\n", "cannot be read"), ("x" * 600_000, "larger"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_is_not_plain_is_refused_at_once(tmp_path, text, why):
    (tmp_path / "odd.yaml").write_text(text)
    begun = time.process_time()
    with pytest.raises(DataError) as error:
        read_plain_yaml(tmp_path / "odd.yaml")
    assert why in str(error.value) and len(str(error.value)) < 600
    assert time.process_time() - begun < 1


@pytest.mark.skipif(os.name == "nt", reason="no such files")
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "named pipe"), ("link", "named pipe"), ("zero", "device"),
                       (".", "folder")):  # fmt: skip
        for read in (check_regular_file, open_regular_file):
            with pytest.raises(OSError, match=kind):
                read(tmp_path / name)
        with pytest.raises(DataError, match=kind):
            read_regular_bytes(tmp_path / name)
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "to_file").symlink_to("file")
    assert read_regular_bytes(tmp_path / "to_file") == b"1234"
    with pytest.raises(DataError, match="larger than 3 bytes"):
        read_regular_bytes(tmp_path / "file", 3)
    with pytest.raises(DataError, match="is missing"):
        read_regular_bytes(tmp_path / "none")


@pytest.mark.parametrize(
    "content",
    [
        {"train": "/etc/passwd"}, {"cache": "/tmp/x"}, {"source": "hub"}, {"hub": "a/b"}, [1], 3,
        {"odd": 1}, {"stride": "${oc.env:HOME}"}, {"stride": "5"}, {"stride": -1}, {"stride": True},
        {"stride": 10**30}, {"unanswerable": "yes"}, {"no_answer_threshold": 7}, {"stride": [1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_folder_states_how_it_answers_and_nothing_else(content):
    with pytest.raises(ValueError, match=r"."):
        check_answer_settings(content)
    good = {"stride": 5, "unanswerable": False, "no_answer_threshold": 0.25}
    assert check_answer_settings(good) == good and check_answer_settings(None) == {}
    with pytest.raises(ValueError, match="length"):
        check_recorded_settings("method.prefix", {"length": 10**20})
