"""Which runs can be compared."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bertft.errors import UsageError
from bertft.report.compare.read import check_comparable


def run(labels, metric="f1", task="classification"):
    result = SimpleNamespace(metrics={"best": {"metric": metric}})
    manifest = {"task": task, "labels": labels}
    return SimpleNamespace(result=result, manifest=manifest, folder=SimpleNamespace(path="a"))


def test_f1_of_two_classes_needs_one_positive_class():
    check_comparable([run(["neg", "pos"]), run(["neg", "pos"])])
    check_comparable([run(["neg", "pos"], "accuracy"), run(["pos", "neg"], "accuracy")])
    check_comparable(
        [
            run(["O", "B-x"], task="token_classification"),
            run(["B-x", "O"], task="token_classification"),
        ]
    )
    with pytest.raises(UsageError, match="different positive classes: pos in a, neg in a"):
        check_comparable([run(["neg", "pos"]), run(["pos", "neg"])])
