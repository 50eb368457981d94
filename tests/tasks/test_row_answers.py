"""The answers of each task as text, which of them are right, and their file format."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.word_splitting import join_words
from bertft.tasks.task import build_task


class Table:
    def __init__(self, labels):
        self.columns = {"labels": np.asarray(labels), "row": np.arange(len(labels))}

    def read_column(self, name):
        return self.columns[name]


def answers_of(name, labels, targets, logits, settings, threshold=None):
    task = build_task(settings(task=name), labels)
    if threshold is not None:
        task.set_threshold(threshold)
    table = Table(targets)
    answers = task.row_answers(np.float32(logits), table)
    assert len(answers) == len(task.per_row_statistics(np.float32(logits), table)[0])
    return answers


def test_classes(settings):
    logits = [[3, 0], [0, 1], [2, 0]]
    answers = answers_of("classification", ["x", "y"], [0, 0, 1], logits, settings)
    assert (answers.truth, answers.answers) == (["x", "x", "y"], ["x", "y", "x"])
    assert answers.is_right.tolist() == [True, False, False] and answers.scores is None
    tuned = answers_of("classification", ["x", "y"], [0, 0, 1], logits, settings, 0.01)
    assert tuned.answers == ["y", "y", "y"]


def test_label_sets(settings):
    targets = np.float32([[1, 1, 0], [0, 0, 0], [1, 0, 0]])
    logits = [[3, -1, -1], [-1, -2, -3], [4, -9, -9]]
    answers = answers_of("multi_label", ["x", "y", "z"], targets, logits, settings)
    assert answers.truth == ["x, y", "none", "x"] and answers.answers == ["x", "none", "x"]
    assert answers.is_right.tolist() == [False, True, True]
    assert answers.scores.tolist() == pytest.approx([2 / 3, 1, 1])


def test_numbers_have_no_right_answer_but_an_error(settings):
    answers = answers_of("regression", None, np.float32([1, 2.5]), [[1.25], [2.5]], settings)
    assert answers.is_right is None and answers.scores.tolist() == [0.25, 0]
    assert (answers.truth, answers.answers) == (["1", "2.5"], ["1.25", "2.5"])


def test_entities_of_a_sentence(settings, bert_tokenizer):
    labels = ["O", "B-film", "B-plot"]
    sentences = [["a", "good", "film"], ["the", "plot"]]
    tags = [["O", "B-plot", "B-film"], ["O", "O"]]
    texts, bounds = zip(*map(join_words, sentences), strict=True)
    starts, stops = ([[pair[side] for pair in words] for words in bounds] for side in (0, 1))
    rows = pa.table(
        {"text": texts, "starts": starts, "stops": stops, "label": tags, "line": [1, 2]}
    )
    task = build_task(settings(task="token_classification"), labels)
    table = featurize(Rows(rows, BadRows("x")), task.make_encoder(bert_tokenizer, 16), [], None)
    logits = np.zeros((int(table.lengths.sum()), 3), np.float32)
    logits[:, 0] = 1
    last_word = np.flatnonzero(table.read_column("word") == 2)[0]
    logits[last_word, 1] = 2
    answers = task.row_answers(logits, table)
    assert answers.truth == ["plot: good, film: film", "none"]
    assert answers.answers == ["film: film", "none"]
    assert answers.is_right.tolist() == [False, True]
    assert answers.scores.tolist() == pytest.approx([2 / 3, 1])
    np.testing.assert_array_equal(task.per_row_statistics(logits, table)[0], [0, 1])


@pytest.mark.parametrize("unanswerable", [True, False])
def test_answers_to_questions(settings, bert_tokenizer, unanswerable):
    contexts, golds = ["a very bad film", "plot is good"], [["very bad", "bad"], []]
    starts = [[2, 7], []]
    rows = pa.table({
        "id": ["1", "2"], "question": ["bad", "bad"], "context": contexts,
        "label": pa.array(golds, pa.list_(pa.string())),
        "start": pa.array(starts, pa.list_(pa.int64())), "line": [1, 2],
    })  # fmt: skip
    task = build_task(
        settings(task="question_answering", stride=3, unanswerable=unanswerable), None
    )
    table = featurize(Rows(rows, BadRows("x")), task.make_encoder(bert_tokenizer, 16), [], None)
    logits = np.zeros((int(table.lengths.sum()), 2), np.float32)
    token = np.flatnonzero(table.read_column("char_end") == len("a very bad film"))[0]
    first = np.flatnonzero(table.read_column("char_start") == len("a very "))[0]
    logits[first, 0] = logits[token, 1] = 9  # the answer "bad film"
    cls = int(table.lengths[0])
    logits[cls] = 9  # no answer to the second question
    answers = task.row_answers(logits, table)
    assert answers.truth == ["very bad", "no answer"]
    assert answers.answers[0] == "bad film" and not answers.is_right[0]
    assert answers.scores[0] == pytest.approx(2 / 3)  # against the right answer "bad"
    assert answers.answers[1] == ("no answer" if unanswerable else "plot")
    assert answers.is_right[1] == unanswerable
    assert task.text_columns == ("question",)


def test_answers_survive_their_file():
    texts = ["a", "\ud800 数"], ["b", "c"]
    answers = RowAnswers(*texts, np.array([True, False]), np.array([1.0, 0.5]))
    read = RowAnswers.from_bytes(answers.to_bytes(), 2)
    assert (read.truth, read.answers) == texts
    assert read.is_right.tolist() == [True, False] and read.scores.tolist() == [1.0, 0.5]
    graded = RowAnswers.from_bytes(RowAnswers(*texts, None, np.ones(2)).to_bytes(), 2)
    assert graded.is_right is None


VALID = {"truth": ["a"], "answers": ["b"], "is_right": [1], "scores": None}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff", b"[]", b"null", b"[" * 100_000,
        *(
            json.dumps(VALID | change).encode()
            for change in (
                {"truth": [1]}, {"answers": "b"}, {"answers": ["b", "c"]}, {"is_right": ["x"]},
                {"is_right": None}, {"scores": [[1]]}, {"scores": [10**400]}, {"scores": {}},
            )
        ),
    ],
)  # fmt: skip
def test_other_content_is_a_value_error(content):
    assert RowAnswers.from_bytes(json.dumps(VALID).encode(), 1).answers == ["b"]
    with pytest.raises(ValueError, match=r".*"):
        RowAnswers.from_bytes(content, 1)
