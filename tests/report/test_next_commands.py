"""The commands that a report proposes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bertft.config.data import DataConfig
from bertft.report.next_commands import new_rows_file, next_commands, predict_merged_command
from bertft.report.page.render import _other_run
from bertft.runs.run_folder import RunFolder


def context(folder, fingerprint):
    splits = {} if fingerprint is None else {"validation": {"fingerprint": fingerprint}}
    manifest = {"data": {"splits": splits}}
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text("{}")
    return SimpleNamespace(run=RunFolder(folder), manifest=manifest)


def test_the_other_run_has_the_same_validation_rows(tmp_path):
    one = context(tmp_path / "one", "a")
    context(tmp_path / "two", "b")
    assert _other_run(one) is None
    context(tmp_path / "three", "a")
    assert _other_run(one) == tmp_path / "three"


def test_runs_without_validation_rows_cannot_be_compared(tmp_path):
    one = context(tmp_path / "one", None)
    context(tmp_path / "two", None)
    assert _other_run(one) is None


def test_a_command_has_settings_for_a_path_that_is_no_positional_argument():
    assert next_commands("rate=1e-3", rows="new.csv")["predict"] == (
        "bertft predict run=rate=1e-3 input=new.csv output=predictions.csv"
    )


@pytest.mark.parametrize(
    ("train", "rows"),
    [
        ("a.csv", "new.csv"),
        ("A.TSV", "new.tsv"),
        ("a.jsonl", "new.jsonl"),
        (None, "new.jsonl"),
        (["a.csv.gz", "b.jsonl"], "new.csv"),
        ("parts", "new.jsonl"),
    ],
)
def test_new_rows_have_the_format_of_the_training_file(train, rows):
    assert new_rows_file(DataConfig(train=train)) == rows


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ({"train": "a.csv"}, "new.csv output=predictions.csv"),
        ({"train": "a.csv", "text": "message"},
         "new.csv output=predictions.csv columns=message"),
        ({"train": "a.tsv", "text": ["a b", "c"], "header": True, "separator": "|"},
         "new.tsv output=predictions.csv 'columns=[a b,c]' \"separator='|'\" header=true"),
        ({"train": "a.txt", "format": "tsv"},
         "new.txt output=predictions.jsonl \"format='tsv'\""),
    ],
)  # fmt: skip
def test_rows_for_a_merged_folder_are_read_as_in_training(data, settings):
    assert predict_merged_command("m", DataConfig(**data)) == f"bertft predict m {settings}"
