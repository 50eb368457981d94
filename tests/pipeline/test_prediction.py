"""Predictions of the rows of one input."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from bertft.config.data import DataConfig
from bertft.data.rows_in_memory import open_rows
from bertft.pipeline.prediction import RowPredictor


def test_more_rows_are_left_out_than_there_are():
    task_model = SimpleNamespace(
        task=SimpleNamespace(max_prediction_rows=None),
        precision=SimpleNamespace(device=torch.device("cpu")),
    )
    loaded = SimpleNamespace(task_model=task_model, info=SimpleNamespace(max_length=8))
    rows = open_rows(["a", "b", "c"], DataConfig(name="d", task="classification"), None)
    predictor = RowPredictor(loaded, rows, skip_rows=100)
    assert list(predictor.iter_blocks()) == []
    accounting = predictor.accounting()
    assert accounting["read"] == 3 and accounting["used"] == 0
    assert accounting["unused"] == {"left out (skip_rows)": 3}
