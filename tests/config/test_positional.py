"""Words without ``=``, and a file of one's own without ``data=files``."""

from __future__ import annotations

import pytest

from bertft.config.positional import expand_positional
from bertft.errors import UsageError


@pytest.mark.parametrize(
    ("command", "words", "expanded"),
    [
        ("train", ["a.csv"], ["data.train=a.csv", "data=files"]),
        ("train", ["a.csv", "seed=1"], ["data.train=a.csv", "data=files", "seed=1"]),
        ("train", ["data.train=a.csv"], ["data=files", "data.train=a.csv"]),
        ("train", ["data=squad", "data.train=a.json"], ["data=squad", "data.train=a.json"]),
        ("train", ["experiment=e", "data.train=a"], ["experiment=e", "data.train=a"]),
        ("train", ["resume=run", "data.train=a"], ["resume=run", "data.train=a"]),
        ("train", ["a.csv", "resume=auto"], ["data.train=a.csv", "data=files", "resume=auto"]),
        ("train", ["method=lora", "~loss"], ["method=lora", "~loss"]),
        ("train", ["method", "trainer.epochs"], ["method", "trainer.epochs"]),
        ("eval", ["run"], ["run=run"]),
        (
            "eval",
            ["run", "b.csv", "split=test"],
            ["run=run", "data.validation=b.csv", "split=test"],
        ),
        ("predict", ["run", "new.csv"], ["run=run", "input=new.csv"]),
        ("merge", ["run", "out"], ["run=run", "out=out"]),
        ("export", ["out=o", "run"], ["run=run", "out=o"]),
        ("verify", ["run"], ["run=run"]),
        ("init", ["a.csv"], ["train=a.csv"]),
        ("init", ["a.csv", "b.yaml"], ["train=a.csv", "output=b.yaml"]),
        ("init", ["b.yaml"], ["output=b.yaml"]),
        ("inspect", ["a.csv", "data.label=y"], ["data.train=a.csv", "data.label=y"]),
        ("inspect", ["-"], ["data.train=-"]),
        ("train", ["a.csv", "config=b.yaml"], ["data.train=a.csv", "config=b.yaml"]),
        ("compare", ["a", "b", "draws=0"], ["runs=[a,b]", "draws=0"]),
    ],
)
def test_words_become_settings(command, words, expanded):
    assert expand_positional(command, words) == expanded


@pytest.mark.parametrize(
    ("command", "words", "wrong"),
    [
        ("predict", ["a", "b", "c"], "c"),
        ("train", ["a.csv", "b.csv"], r"data\.validation=b\.csv"),
        ("doctor", ["a"], "only settings"),
        ("inspect", ["a.csv", "b.csv"], r"as data\.train=\[a\.csv,b\.csv\]"),
        ("predict", ["run=a", "new.csv"], r"or write input=new\.csv"),
        ("eval", ["a", "run=b"], "run"),
        ("compare", ["a", "runs=[b]"], "runs"),
    ],
)
def test_what_cannot_be_meant_is_refused(command, words, wrong):
    with pytest.raises(UsageError, match=wrong):
        expand_positional(command, words)
