"""Suspect labels are those of cleanlab called by hand, with the row, the text and a suggestion."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from bertft.config.data import DataConfig
from bertft.cross_validation import suspects as module
from bertft.cross_validation.contradictions import contradiction_table, find_contradictions
from bertft.cross_validation.fold_outputs import FoldOutputs
from bertft.cross_validation.result import CrossValidation, FoldResult
from bertft.cross_validation.suspects import find_suspects, suspect_table, write_suspects
from bertft.data.rows import BadRows, Rows
from bertft.data.splits import load_all_rows
from bertft.tasks.class_probabilities import ClassProbabilities

pytest.importorskip("cleanlab")
COUNT = 120
NAMES = ["a", "b", "c"]


def make(folder, columns, classes, names=NAMES, folds=3, repeats=1):
    """A cross-validation whose fold f has the rows f, f + folds, ...; ``classes(repeat, rows)``."""
    table = pa.table(columns | {"line": np.arange(COUNT) + 2})
    rows = Rows(table, BadRows("a.csv"))
    results = []
    for repeat in range(1, repeats + 1):
        for fold in range(folds):
            own = np.arange(fold, COUNT, folds)
            outputs = FoldOutputs(own + 2, [{}] * len(own), own + 2, np.zeros((0, 0)),
                                  classes(repeat, own))  # fmt: skip
            results.append(FoldResult(fold + 1, repeat, folder, {}, 0, 1, 1.0, outputs))
    config = SimpleNamespace(data=DataConfig(name="x"))
    task = SimpleNamespace(class_names=names)
    return CrossValidation(folder, config, rows, None, task, results, [])


def noisy_classes(seed=0):
    """Labels [rows], of which every tenth is wrong, and probabilities [2, rows, 3]."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(3, size=COUNT)
    labels = np.where(np.arange(COUNT) % 10 == 0, (truth + 1) % 3, truth)
    logits = 3 * np.eye(3)[truth] + draw.normal(size=(2, COUNT, 3))
    exponentials = np.exp(logits)
    return labels, (exponentials / exponentials.sum(-1, keepdims=True)).astype(np.float32)


def texts(count=COUNT):
    return [f"the text number {n}" for n in range(count)]


@pytest.mark.parametrize("repeats", [1, 2])
def test_of_classes(tmp_path, repeats):
    from cleanlab.filter import find_label_issues

    labels, probabilities = noisy_classes()
    columns = {"text": texts(), "label": [NAMES[label] for label in labels]}
    result = make(
        tmp_path,
        columns,
        lambda repeat, own: ClassProbabilities(probabilities[repeat - 1][own], labels[own]),
        repeats=repeats,
    )
    actual = find_suspects(result)
    mean = probabilities[:repeats].astype(np.float64).mean(0)
    expected = np.flatnonzero(find_label_issues(labels, mean, n_jobs=1))
    assert sorted(suspect.row for suspect in actual) == expected.tolist() and len(expected) > 5
    assert [suspect.score for suspect in actual] == sorted(mean[expected, labels[expected]])
    for suspect in actual:
        assert suspect.line == suspect.row + 2
        assert suspect.label == NAMES[labels[suspect.row]] != suspect.suggestion
        assert suspect.suggestion == NAMES[mean[suspect.row].argmax()]
    table = suspect_table(result, actual)
    assert table.rows[0][0] == f"a.csv:{actual[0].line}" and len(table.rows) == len(actual)

    # The file drops exactly these rows of the data.
    write_suspects(result, actual)
    lines = zip(columns["text"], columns["label"], strict=True)
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in lines))
    config = DataConfig(name="x", train=str(path), drop_rows=str(tmp_path / "suspects.csv"))
    kept = load_all_rows(config).train.column("line")
    assert sorted({*range(2, COUNT + 2)} - {*kept}) == [row + 2 for row in expected]


def test_of_label_sets(tmp_path):
    from cleanlab.multilabel_classification.filter import find_label_issues

    draw = np.random.default_rng(1)
    truth = draw.random((COUNT, 2)) < 0.5
    labels = truth.copy()
    labels[::10, 0] ^= True
    scores = np.clip(np.where(truth, 0.9, 0.1) + draw.normal(0, 0.1, truth.shape), 0.01, 0.99)
    names = ["x", "y"]
    label_lists = [[names[n] for n in np.flatnonzero(row)] for row in labels]
    result = make(
        tmp_path,
        {"text": texts(), "label": label_lists},
        lambda _, own: ClassProbabilities(scores[own].astype(np.float32), labels[own]),
        names,
    )
    actual = find_suspects(result)
    given = [np.flatnonzero(row).tolist() for row in labels]
    expected = find_label_issues(given, scores.astype(np.float32).astype(np.float64), n_jobs=1)
    assert sorted(suspect.row for suspect in actual) == np.flatnonzero(expected).tolist()
    by_row = {suspect.row: suspect for suspect in actual}
    wrong = sorted(by_row.keys() & {*range(0, COUNT, 10)})
    assert len(wrong) >= 8, "of 12 changed rows"
    for row in wrong:
        assert by_row[row].label == "|".join(label_lists[row])
        assert by_row[row].suggestion == "|".join(names[n] for n in np.flatnonzero(truth[row]))


def test_of_words(tmp_path):
    from cleanlab.token_classification.filter import find_label_issues

    labels, probabilities = noisy_classes(2)
    sizes = np.resize([1, 2, 3], COUNT)
    word_labels = np.resize(labels, sizes.sum())
    word_probabilities = np.resize(probabilities[0], (sizes.sum(), 3))
    starts = np.cumsum(sizes) - sizes

    def classes(_, own):
        units = np.concatenate([np.arange(starts[row], starts[row] + sizes[row]) for row in own])
        return ClassProbabilities(word_probabilities[units], word_labels[units], sizes[own])

    columns = {
        "text": [" ".join(["w0", "w1", "w2"][:size]) for size in sizes],
        "starts": [[0, 3, 6][:size] for size in sizes],
        "stops": [[2, 5, 8][:size] for size in sizes],
    }
    result = make(tmp_path, columns, classes)
    actual = find_suspects(result)
    parts = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
    expected = find_label_issues(
        [word_labels[part].tolist() for part in parts],
        [word_probabilities[part].astype(np.float64) for part in parts],
        n_jobs=1,
    )
    assert sorted((suspect.row, int(suspect.word[1])) for suspect in actual) == sorted(expected)
    for suspect in actual:
        unit = starts[suspect.row] + int(suspect.word[1])
        assert suspect.label == NAMES[word_labels[unit]] != suspect.suggestion
    write_suspects(result, actual)
    with open(tmp_path / "suspects.csv", newline="") as file:
        assert next(csv.reader(file)) == ["line", "text", "word", "label", "suggestion", "score"]


def test_of_numbers_and_without_cleanlab(tmp_path, monkeypatch):
    columns = {"text": texts(), "label": np.arange(COUNT) / 7}
    result = make(tmp_path, columns, lambda _, own: None)
    assert find_suspects(result) is None
    assert module.has_cleanlab()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert not module.has_cleanlab()


def test_duplicates_with_different_labels():
    long = "a film about the sea that everybody in the family will like to see again"
    columns = {
        "text": [
            "Good  film",
            "good film",
            "bad",
            "good film",
            f"{long}!",
            f"{long}.",
            long,
            "bad",
        ],
        "label": ["x", "y", "x", "x", "x", "y", "x", "x"],
        "line": [*range(1, 9)],
    }
    rows = Rows(pa.table(columns), BadRows("a.csv"))
    found = find_contradictions(rows, ("text", "text_pair"))
    assert [(pair.first, pair.second) for pair in found if pair.is_exact] == [(0, 1), (1, 3)]
    near = {(pair.first, pair.second) for pair in found if not pair.is_exact}
    assert (4, 5) in near and near <= {(4, 5), (5, 6)}
    assert len(find_contradictions(rows, ("text",), with_near=False)) == 2
    table = contradiction_table(rows, found)
    assert table.rows[0] == ["exact", "a.csv:1 'Good film'", "x", "a.csv:2 'good film'", "y"]
    same = Rows(pa.table(columns | {"label": ["x"] * 8}), BadRows("a.csv"))
    assert find_contradictions(same, ("text",)) == []
