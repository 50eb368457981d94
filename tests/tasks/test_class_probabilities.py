"""Labels next to predictions, and probabilities of classes, of each task."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.tasks.shared.word_splitting import join_words
from bertft.tasks.task import build_task


def featurized(task, tokenizer, columns):
    columns["line"] = list(range(1, len(next(iter(columns.values()))) + 1))
    rows = Rows(pa.table(columns), BadRows("a.csv"))
    return featurize(rows, task.make_encoder(tokenizer, 32), [], None)


@pytest.mark.parametrize(
    ("name", "classes", "labels", "key"),
    [
        ("classification", ["x", "y"], ["y", "x"], "true_label"),
        ("multi_label", ["x", "y"], [["x", "y"], []], "true_labels"),
        ("regression", None, [1.5, 2.0], "true_score"),
    ],
)
def test_of_rows(settings, bert_tokenizer, name, classes, labels, key):
    task = build_task(settings(task=name), classes)
    table = featurized(task, bert_tokenizer, {"text": ["good film", "dull"], "label": labels})
    assert list(task.decode_labels(table)) == [{key: label} for label in labels]
    logits = np.float32([[0, np.log(3)], [2, 1]])
    if classes is None:
        assert task.class_probabilities(logits[:, :1], table) is None
        return
    actual = task.class_probabilities(logits, table)
    scores = [entry["scores"] for entry in task.decode_predictions(logits, table)]
    assert actual.probabilities.tolist() == [[row["x"], row["y"]] for row in scores]
    expected = [1, 0] if name == "classification" else [[True, True], [False, False]]
    assert actual.labels.tolist() == expected and actual.sizes is None


def test_of_words(settings, bert_tokenizer):
    task = build_task(settings(task="token_classification"), ["B-PER", "I-PER", "O"])
    sentences = [["good", "plot"], ["dull", "dull", "film"]]
    texts, bounds = zip(*map(join_words, sentences), strict=True)
    starts, stops = ([[pair[side] for pair in words] for words in bounds] for side in (0, 1))
    tags = [["B-PER", "I-PER"], ["O", "O", "B-PER"]]
    table = featurized(
        task,
        bert_tokenizer,
        {"text": texts, "starts": starts, "stops": stops, "label": tags},
    )
    spans = [entry["true_spans"] for entry in task.decode_labels(table)]
    assert spans == [
        [{"label": "PER", "start": 0, "end": 9, "text": "good plot"}],
        [{"label": "PER", "start": 10, "end": 14, "text": "film"}],
    ]
    logits = np.zeros((len(table.read_column("input_ids")), 3), np.float32)
    actual = task.class_probabilities(logits, table)
    assert actual.labels.tolist() == [0, 1, 2, 2, 0] and actual.sizes.tolist() == [2, 3]
    assert actual.probabilities.shape == (5, 3)
