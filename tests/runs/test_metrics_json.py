"""A result that does not fit together is refused when it is read."""

from __future__ import annotations

import copy
import json

import pytest

from bertft.errors import DataError
from bertft.runs.metrics_json import read_metrics_json

METRICS = {
    "best": {"metric": "accuracy", "value": 0.5, "step": 4},
    "validation": {"accuracy": 0.5, "loss": 0.7},
    "test": None,
    "train": {
        "seconds": 1.0, "rows_per_second": 2.0, "tokens_per_second": 3.0,
        "peak_memory_bytes": None, "steps": 4, "loss": 0.7,
    },
    "parameters": dict.fromkeys(("total", "trainable", "head", "method", "kept", "exported"), 1),
}  # fmt: skip


def write(path, **changes):
    content = copy.deepcopy(METRICS) | changes
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_result_is_read(tmp_path):
    assert read_metrics_json(write(tmp_path / "metrics.json")) == METRICS
    without = write(tmp_path / "metrics.json", validation=None)
    assert read_metrics_json(without)["validation"] is None


@pytest.mark.parametrize(
    ("changes", "split"),
    [
        ({"best": {"metric": "forged", "value": 0.5, "step": 4}}, "validation"),
        ({"validation": {"loss": 0.7}}, "validation"),
        ({"test": {"loss": 0.7}}, "test"),
    ],
)
def test_every_split_has_the_metric_of_best(tmp_path, changes, split):
    with pytest.raises(DataError, match=split) as raised:
        read_metrics_json(write(tmp_path / "metrics.json", **changes))
    assert raised.value.status == 2


def test_values_of_modules_are_numbers(tmp_path):
    valid = {"low_rank": {"rank": {"0.query": 3.0}}}
    assert (
        read_metrics_json(write(tmp_path / "m.json", module_values=valid))["module_values"] == valid
    )
    for damaged in (
        None,
        3,
        {"low_rank": 3},
        {"low_rank": {"rank": [3]}},
        {"a": {"b": {"c": "x"}}},
    ):
        with pytest.raises(DataError, match="module_values"):
            read_metrics_json(write(tmp_path / "m.json", module_values=damaged))
