"""bertft.json: one reader for checkpoints, merged folders and adapters."""

from __future__ import annotations

import json

import pytest

from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import DataError
from bertft.pipeline.model_info import ModelInfo, parse_threshold, read_model_info

COMPLETE = {
    "task": "classification", "labels": ["a", "b"], "max_length": 64, "step": 12,
    "answering": {"stride": 32}, "prefix": {"length": 3}, "threshold": {"a": 0.25, "b": 0.5},
}  # fmt: skip


def write(folder, content):
    (folder / "bertft.json").write_text(json.dumps(content))


def test_all_entries_are_read(tmp_path):
    write(tmp_path, COMPLETE)
    assert read_model_info(tmp_path, required=("task", "step")) == ModelInfo(
        "classification",
        ["a", "b"],
        64,
        12,
        {"stride": 32},
        PrefixConfig(length=3),
        {"a": 0.25, "b": 0.5},
    )


def test_without_the_file_nothing_is_recorded(tmp_path):
    assert read_model_info(tmp_path) == ModelInfo()
    with pytest.raises(DataError, match=r"bertft\.json"):
        read_model_info(tmp_path, required=("step",))


def test_an_entry_of_a_later_version_needs_an_update(tmp_path):
    write(tmp_path, {**COMPLETE, "later": 1})
    with pytest.raises(DataError, match=r"bertft\.json: has the entry 'later'.*Update bertft"):
        read_model_info(tmp_path)


def test_entries_that_a_version_did_not_record_are_none(tmp_path):
    write(tmp_path, {"max_length": None})
    assert read_model_info(tmp_path) == ModelInfo()
    with pytest.raises(DataError, match=r"bertft\.json: has no 'step'"):
        read_model_info(tmp_path, required=("step",))
    write(tmp_path, {"max_length": 8, "step": None})
    with pytest.raises(DataError, match="invalid value for 'step'"):
        read_model_info(tmp_path, required=("step",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", 1), ("task", "poetry"), ("labels", "yes"), ("labels", ["a", "a"]),
        ("labels", ["a", " "]), ("labels", [1]), ("max_length", 0), ("max_length", True),
        ("max_length", 1 << 31), ("step", -1), ("step", 1.0), ("answering", {"colour": "red"}),
        ("answering", {"train": "rows.csv"}), ("answering", []), ("prefix", {"odd": 1}),
        ("prefix", []), ("threshold", 1.0), ("threshold", {}), ("threshold", {"a": "0.5"}),
    ],
)  # fmt: skip
def test_an_invalid_entry_is_an_error_that_names_the_file(tmp_path, name, value):
    write(tmp_path, {**COMPLETE, name: value})
    with pytest.raises(DataError) as caught:
        read_model_info(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/bertft.json: ")


@pytest.mark.parametrize("content", [{}, [], {"task": "classification"}])
def test_a_file_without_max_length_is_an_error(tmp_path, content):
    write(tmp_path, content)
    with pytest.raises(DataError, match=r"bertft\.json"):
        read_model_info(tmp_path)


def test_huge_values_are_shortened_in_the_message(tmp_path):
    for name, value in (("max_length", 10**400), ("task", "x" * 400), ("threshold", 10**400)):
        write(tmp_path, {**COMPLETE, name: value})
        with pytest.raises(DataError, match=name) as caught:
            read_model_info(tmp_path)
        assert len(caught.value.what) < 200


def test_thresholds():
    assert parse_threshold(None, "f") is None and parse_threshold(0.5, "f") == 0.5
    with pytest.raises(DataError, match="f: invalid threshold 2"):
        parse_threshold(2, "f")
