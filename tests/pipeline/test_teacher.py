"""The teacher's own features stand for the student's, feature by feature."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.features import featurize
from bertft.data.rows import BadRows, RowError, Rows
from bertft.data.splits import Splits
from bertft.errors import DataError, UsageError
from bertft.models import loading
from bertft.models.source import ModelSource
from bertft.pipeline.teacher_features import build_teacher_features
from bertft.pipeline.training_table import StudentData


class Task:
    """Rows of length 0 give no feature; nor do those that the tokenizer is unable to read."""

    needs_labels, name = False, "task"

    def make_encoder(self, unread, max_length):
        def encode(columns):
            remaining = [
                at for at, text in enumerate(columns["text"]) if text and text not in unread
            ]
            return {
                "input_ids": [np.arange(2, dtype=np.int32) for _ in remaining],
                "row": remaining,
            }

        return encode

    def cache_key(self):
        return "task"

    def no_feature_error(self, max_length):
        return RowError("no feature")


def tables(monkeypatch, texts, unread):
    monkeypatch.setattr("bertft.tasks.feature_tables.tokenizer_hash", str)
    table = pa.table({"text": texts, "line": list(range(1, len(texts) + 1))})
    rows = Rows(table, BadRows("a.csv"))
    features = {"train": featurize(rows, Task().make_encoder((), 9), [], None)}
    splits = Splits(rows, None, None, None, False, None)
    saved = SimpleNamespace(task_model=SimpleNamespace(tokenizer=unread))
    student = StudentData(Task(), None, 9, splits, features, None, None)
    result = build_teacher_features(saved, student, 9)
    assert rows.bad.counts == Counter(), "counted with the student's features alone"
    return result


def test_a_row_that_neither_reads_is_left_out_for_both(monkeypatch):
    """It was settled with the student's features, by data.on_bad_row and data.max_skipped."""
    assert len(tables(monkeypatch, ["a", "", "b"], ())["train"]) == 2


def test_a_row_that_the_teacher_alone_does_not_read(monkeypatch):
    """Its answers would be learnt for other rows."""
    with pytest.raises(DataError, match=r"a\.csv:3: .* 1 train rows .* of only one"):
        tables(monkeypatch, ["a", "", "b", "c"], ("b",))


def test_a_teacher_that_a_folder_names_is_not_fetched(monkeypatch):
    monkeypatch.setattr(loading, "local_model_folder", lambda _: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(UsageError, match="recorded models are not downloaded automatically"):
        loading.download_model(
            ModelSource("a/b", "hub", "a/b"), "method.distill.teacher", cached_only=True
        )
