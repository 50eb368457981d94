"""A home directory of an unknown user is reported with the setting that names it."""

from __future__ import annotations

import pytest

import bertft
from bertft.errors import UsageError
from bertft.models.source import find_model_source
from bertft.utils.messages import expand_home, missing_file_problem

NAME = "~nobody-has-this-name/x"


@pytest.mark.parametrize(
    ("read", "where"),
    [
        (lambda: expand_home(NAME, "out"), "out"),
        (lambda: missing_file_problem(NAME, "data.train"), "data.train"),
        (lambda: find_model_source(NAME), "model.path"),
        (lambda: find_model_source(NAME, setting="model.tokenizer"), "model.tokenizer"),
        (lambda: bertft.load(NAME), "run"),
        (lambda: bertft.Run(NAME), "run"),
    ],
)
def test_an_unknown_home(read, where):
    with pytest.raises(UsageError, match="no such user or home directory") as caught:
        read()
    assert caught.value.where == where and NAME in caught.value.what


def test_a_known_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/a.csv") == tmp_path / "a.csv"
