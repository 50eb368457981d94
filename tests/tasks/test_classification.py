"""Classification: loss, metrics and answers against torch, scikit-learn and transformers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef
from transformers import pipeline

from bertft.errors import DataError, UsageError
from bertft.tasks.classification import ClassificationTask

TEXTS = ["a good film", "the plot is dull", "很好看的电影", "bad , bad , bad !"]
PAIRS = ["the film", "good !", "bad plots , bad film", "很好"]


@pytest.fixture
def task(settings) -> ClassificationTask:
    return ClassificationTask(settings(), ["bad", "good", "一般"])


def test_features(task, bert_tokenizer, features):
    table = features(
        task,
        bert_tokenizer,
        text=TEXTS,
        text_pair=PAIRS,
        label=["good", "bad", "一般", "bad"],
    )
    everything = np.arange(4)
    assert table.gather("labels", everything).tolist() == [1, 0, 2, 0]
    assert table.gather("row", everything).tolist() == [0, 1, 2, 3]
    assert table.gather("cut_tokens", everything).sum() == 0
    assert set(table.columns) == {"input_ids", "token_type_ids", "cut_tokens", "row", "labels"}


def test_rows_without_labels_have_no_label_column(task, bert_tokenizer, features):
    assert "labels" not in features(task, bert_tokenizer, text=TEXTS).columns


def test_the_loss_is_the_sum_of_the_terms_of_transformers(
    task, bert_tokenizer, tiny_bert, batch_of
):
    labels = ["good", "bad", "一般", "bad"]
    batch = batch_of(task, bert_tokenizer, text=TEXTS, label=labels)
    model = tiny_bert(task)
    inputs = bert_tokenizer(TEXTS, padding=True, return_tensors="pt")
    output = model(**inputs, labels=batch.labels["labels"])
    assert task.count_loss_terms(batch) == 4
    torch.testing.assert_close(task.loss(output.logits, batch), output.loss * 4)


def test_loss_precision_and_gradient(task, bert_tokenizer, batch_of):
    batch = batch_of(task, bert_tokenizer, text=TEXTS, label=["good", "bad", "一般", "bad"])
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: task.loss(z, batch), logits)
    task.loss(logits, batch).backward()
    one_hot = F.one_hot(batch.labels["labels"], 3)
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1) - one_hot)
    half = task.loss(logits.detach().bfloat16(), batch)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, task.loss(logits.detach().bfloat16().float(), batch))


@pytest.mark.parametrize("classes", [2, 5])
def test_metrics_equal_scikit_learn(classes, settings, labelled):
    draw = np.random.default_rng(classes)
    task = ClassificationTask(settings(), [f"c{number}" for number in range(classes)])
    # the last of five classes stands nowhere, so macro F1 must leave it out
    truth = draw.integers(0, max(2, classes - 1), 200)
    logits = draw.normal(size=(200, classes)).astype(np.float32)
    logits[np.arange(200), truth] += 0.8
    if classes == 5:
        logits[:, 4] = -9
    values = task.compute_metrics(logits, labelled(truth))
    given = logits.argmax(1)
    expected = {
        "accuracy": accuracy_score(truth, given),
        "f1_macro": f1_score(truth, given, average="macro"),
        "f1_micro": f1_score(truth, given, average="micro"),
        "matthews": matthews_corrcoef(truth, given),
        "loss": log_loss(truth, _softmax(logits), labels=range(classes)),
    }
    if classes == 2:
        expected["f1"] = f1_score(truth, given)
    assert values == pytest.approx(expected, abs=1e-12)
    assert tuple(values) == task.metric_names
    assert all(type(value) is float for value in values.values())


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().softmax(1).numpy()


def test_metrics_by_hand(settings, labelled):
    """Truth 1 1 1 0, given 1 0 1 1: TP 2, FP 1, FN 1, TN 0."""
    task = ClassificationTask(settings(), ["no", "yes"])
    logits = np.array([[0, 1], [1, 0], [0, 1], [0, 1]], np.float32)
    values = task.compute_metrics(logits, labelled([1, 1, 1, 0]))
    assert values["accuracy"] == 0.5
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["f1_macro"] == pytest.approx(1 / 3)
    assert values["matthews"] == pytest.approx((2 * 0 - 1 * 1) / 3)
    assert values["loss"] == pytest.approx(
        (2 * math.log1p(math.exp(-1)) + 2 * math.log1p(math.e)) / 4
    )


@pytest.mark.parametrize("truth", [[0, 0], [0, 1]])
def test_constant_answers(truth, settings, labelled):
    task = ClassificationTask(settings(), ["no", "yes"])
    values = task.compute_metrics(np.array([[1, 0], [1, 0]], np.float32), labelled(truth))
    assert values["matthews"] == 0.0
    assert values["f1"] == 0.0
    assert values["accuracy"] == truth.count(0) / 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_metrics_of_broken_logits_never_win(task, bad, labelled):
    values = task.compute_metrics(np.array([[0, 1, 2], [0, bad, 1]], np.float32), labelled([2, 1]))
    assert set(values) == set(task.metric_names)
    assert not any(task.is_better(value, None) for value in values.values())


def test_metrics_of_no_rows(task, labelled):
    values = task.compute_metrics(np.empty((0, 0), np.float32), labelled([]))
    assert all(math.isnan(value) for value in values.values())


def test_extreme_logits(task, labelled):
    logits = np.array([[1e4, -1e4, 0]], np.float32)
    assert task.compute_metrics(logits, labelled([1]))["loss"] == pytest.approx(2e4)
    (answer,) = task.decode_predictions(logits, [{}])
    assert answer["scores"] == {"bad": 1.0, "good": 0.0, "一般": 0.0}


@pytest.mark.parametrize("pair", [False, True])
def test_answers_equal_the_pipeline(task, bert_tokenizer, tiny_bert, pair, logits_of):
    model = tiny_bert(task)
    inputs = (TEXTS, PAIRS) if pair else (TEXTS,)
    answers = list(task.decode_predictions(logits_of(model, *inputs), [{}] * 4))
    ask = pipeline("text-classification", model=model, tokenizer=bert_tokenizer)
    requested = [
        dict(zip(("text", "text_pair"), row, strict=False)) for row in zip(*inputs, strict=True)
    ]
    for row, answer in zip(requested, answers, strict=True):
        top, everything = ask(row), ask(row, top_k=None)
        assert answer["label"] == (top[0] if isinstance(top, list) else top)["label"]
        expected = {entry["label"]: entry["score"] for entry in everything}
        assert answer["scores"] == pytest.approx(expected, abs=1e-6)
        assert answer["score"] == max(answer["scores"].values())
    assert len({answer["label"] for answer in answers}) > 1


def test_model_settings(task):
    assert task.head_config() == {
        "num_labels": 3,
        "id2label": {0: "bad", 1: "good", 2: "一般"},
        "label2id": {"bad": 0, "good": 1, "一般": 2},
        "problem_type": "single_label_classification",
    }


def test_unknown_label(task):
    with pytest.raises(DataError, match=r"unknown label 'goood' \(3 classes\).*'good'"):
        task.encode_labels(["bad", "goood"])


@pytest.mark.parametrize("labels", [None, [], ["a", "b", "a"]])
def test_class_names_must_be_unique(labels, settings):
    with pytest.raises(UsageError, match=r"data\.labels"):
        ClassificationTask(settings(), labels)


def test_binary_f1_only_of_two_classes(settings):
    assert ClassificationTask(settings(metric="f1"), ["no", "yes"]).metric == "f1"
    with pytest.raises(
        UsageError, match=r"of 3 classes has no metric 'f1'.*accuracy, f1_macro, f1_m"
    ):
        ClassificationTask(settings(metric="f1"), ["no", "maybe", "yes"])


def test_the_metric_note_names_the_positive_class(settings):
    assert ClassificationTask(settings(), ["no", "yes"]).metric_note == "f1: positive class yes"
    assert ClassificationTask(settings(), ["no", "maybe", "yes"]).metric_note == ""
