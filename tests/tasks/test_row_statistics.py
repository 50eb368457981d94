"""What rows add to the metrics gives the metrics back, of all rows and of any draw of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.tasks.shared.word_splitting import join_words
from bertft.tasks.task import build_task

DRAWS = np.array([[1] * 6, [0, 2, 1, 0, 3, 0], [2, 0, 0, 1, 1, 2], [0, 0, 6, 0, 0, 0]])
TEXTS = ["a good film", "dull", "the plot is bad", "good good plot", "a bad film", "un true"]


class Table:
    """A minimal feature table with one feature per row."""

    def __init__(self, labels):
        self.columns = {"labels": np.asarray(labels), "row": np.arange(len(labels))}

    def __len__(self):
        return len(self.columns["labels"])

    def gather(self, name, indices):
        return self.columns[name][indices]

    def read_column(self, name):
        return self.columns[name]


LOGITS = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32)
LOGITS[1, 0] = LOGITS[4, 0]  # a number given twice, for the ranks
SEQUENCES = {
    "classification": (["x", "y", "z"], [0, 1, 2, 1, 0, 1], LOGITS),
    "binary": (["x", "y"], [0, 1, 1, 1, 0, 1], LOGITS[:, :2]),
    "multi_label": (["x", "y", "z"], np.eye(3)[[0, 1, 2, 1, 0, 1]] + np.eye(3)[0], LOGITS),
    "regression": (None, np.float32([1, 2, 2, 0.5, 3, -1]), LOGITS[:, :1]),
}  # fmt: skip


CASES = [
    *((name, None) for name in SEQUENCES),
    ("binary", 0.3), ("multi_label", 0.3), ("multi_label", {"x": 0.2, "y": 0.6, "z": 0.9}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "threshold"), CASES)
def test_statistics_of_one_prediction_per_row(name, threshold, settings):
    labels, targets, logits = SEQUENCES[name]
    targets = np.minimum(targets, 1) if name == "multi_label" else np.asarray(targets)
    task = build_task(settings(task="classification" if name == "binary" else name), labels)
    if threshold is not None:
        plain = task.predict_classes(logits)
        task.set_threshold(threshold)
        assert (task.predict_classes(logits) != plain).any()
    rows, terms = task.per_row_statistics(logits, Table(targets))
    assert rows.tolist() == list(range(6)) and terms.dtype == np.float64
    actual = task.metrics_from_statistics(terms, DRAWS)
    missing = set(task.metric_names) - set(actual)
    # Ranking metrics are not a function of sums over rows.
    assert all("roc_auc" in name or "average_precision" in name or "/" in name for name in missing)
    assert name == "multi_label" or not missing
    for folder, draw in enumerate(DRAWS):
        drawn = np.repeat(np.arange(6), draw)
        expected = task.compute_metrics(logits[drawn], Table(targets[drawn]))
        expected = {key: expected[key] for key in actual}
        assert {k: v[folder] for k, v in actual.items()} == pytest.approx(expected, abs=1e-12), draw


@pytest.mark.parametrize("name", SEQUENCES)
def test_statistics_of_non_finite_logits_are_none(name, settings):
    labels, targets, logits = SEQUENCES[name]
    task = build_task(settings(task="classification" if name == "binary" else name), labels)
    assert task.per_row_statistics(np.full_like(logits, np.nan), Table(targets)) is None


def pieces(task, tokenizer, rows):
    """The table of each row alone."""
    tables = [
        featurize(Rows(rows.slice(n, 1), BadRows("x")), task.make_encoder(tokenizer, 16), [], None)
        for n in range(rows.num_rows)
    ]
    return [int(table.lengths.sum()) for table in tables]


def check_tokens(task, tokenizer, rows, classes, without=()):
    """Draws of rows, whose logits come with them, against the metrics of a table made of them."""
    sizes = pieces(task, tokenizer, rows)
    rng = np.random.default_rng(5)
    logits = [rng.normal(size=(size, classes)).astype(np.float32) for size in sizes]
    encode = task.make_encoder(tokenizer, 16)
    whole = featurize(Rows(rows, BadRows("x")), encode, [], None)
    numbers, terms = task.per_row_statistics(np.concatenate(logits), whole)
    assert numbers.tolist() == list(range(len(sizes)))
    actual = task.metrics_from_statistics(terms, DRAWS[:, : len(sizes)])
    for folder, draw in enumerate(DRAWS[:, : len(sizes)]):
        drawn = np.repeat(np.arange(len(sizes)), draw)
        table = featurize(Rows(rows.take(drawn), BadRows("x")), encode, [], None)
        content = task.compute_metrics(np.concatenate([logits[n] for n in drawn]), table)
        expected = {name: value for name, value in content.items() if name not in without}
        sampled = {name: v[folder] for name, v in actual.items() if not np.isnan(v[folder])}
        assert sampled == pytest.approx(expected, abs=1e-9), draw


def test_entities(settings, bert_tokenizer):
    labels = ["O", "B-film", "I-film", "B-plot", "I-plot"]
    words = [text.split() for text in TEXTS[:5]]
    texts, bounds = zip(*map(join_words, words), strict=True)
    starts, stops = ([[pair[side] for pair in words] for words in bounds] for side in (0, 1))
    tags = [[labels[(n + k) % 5] for k in range(len(sentence))] for n, sentence in enumerate(words)]
    rows = pa.table({
        "text": texts, "starts": starts, "stops": stops, "label": tags, "line": [1, 2, 3, 4, 5],
    })  # fmt: skip
    task = build_task(settings(task="token_classification"), labels)
    check_tokens(task, bert_tokenizer, rows, 5)


@pytest.mark.parametrize("unanswerable", [True, False])
def test_questions_in_windows(settings, bert_tokenizer, unanswerable):
    contexts = ["a film good bad dull the plot " * 3 + "very bad", *TEXTS[:4]]
    answers = [["very bad", "bad"], ["good film"], ["dull"], ["plot"], ["plot", "good"]]
    if unanswerable:
        answers[2] = []
    starts = [[c.index(a) for a in texts] for c, texts in zip(contexts, answers, strict=True)]
    rows = pa.table({
        "id": ["1", "2", "3", "4", "5"], "question": ["bad"] * 5, "context": contexts,
        "label": pa.array(answers, pa.list_(pa.string())),
        "start": pa.array(starts, pa.list_(pa.int64())), "line": [1, 2, 3, 4, 5],
    })  # fmt: skip
    names = ("best_exact", "best_f1", "best_exact_thresh", "best_f1_thresh", "loss")
    task = build_task(
        settings(task="question_answering", stride=3, unanswerable=unanswerable), None
    )
    check_tokens(task, bert_tokenizer, rows, 2, without=names)


def test_masked_lm_has_no_row_statistics(settings):
    task = build_task(settings(task="masked_lm"), None)
    assert task.per_row_statistics(np.ones((3, 2)), Table([0, 0, 0])) is None
