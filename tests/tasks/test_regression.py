"""Regression: loss, correlations and answers against torch, scipy and transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import pipeline

from bertft.tasks.regression import RegressionTask

TEXTS = ["a good film", "the plot is dull", "很好看的电影"]
LABELS = [3.8, 0.0, 5.0]


@pytest.fixture
def task(settings) -> RegressionTask:
    return RegressionTask(settings(), None)


def test_features(task, bert_tokenizer, features):
    column = features(task, bert_tokenizer, text=TEXTS, label=LABELS).gather("labels", np.arange(3))
    assert column.dtype == np.float32
    assert column == pytest.approx(LABELS)


def test_the_loss_is_the_sum_of_the_terms_of_transformers(
    task, bert_tokenizer, tiny_bert, batch_of
):
    batch = batch_of(task, bert_tokenizer, text=TEXTS, label=LABELS)
    inputs = bert_tokenizer(TEXTS, padding=True, return_tensors="pt")
    output = tiny_bert(task)(**inputs, labels=batch.labels["labels"])
    assert task.count_loss_terms(batch) == 3
    torch.testing.assert_close(task.loss(output.logits, batch), output.loss * 3)


def test_gradient(task, bert_tokenizer, batch_of):
    batch = batch_of(task, bert_tokenizer, text=TEXTS, label=LABELS)
    logits = torch.randn(3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: task.loss(z, batch), logits)
    task.loss(logits, batch).backward()
    residual = logits.detach() - batch.labels["labels"].double().unsqueeze(1)
    torch.testing.assert_close(logits.grad, 2 * residual)
    assert task.loss(logits.detach().bfloat16(), batch).dtype == torch.float32


def test_metrics_equal_scipy(task, labelled):
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 11, 200).astype(np.float32) / 2  # ties
    logits = (truth + draw.normal(size=200)).round(1).astype(np.float32)[:, None]
    values = task.compute_metrics(logits, labelled(truth))
    expected = {
        "pearson": stats.pearsonr(logits[:, 0].astype(float), truth.astype(float))[0],
        "spearman": stats.spearmanr(logits[:, 0], truth)[0],
        "mse": np.square(logits[:, 0].astype(float) - truth).mean(),
        "loss": np.square(logits[:, 0].astype(float) - truth).mean(),
    }
    assert values == pytest.approx(expected, abs=1e-12)
    assert tuple(values) == task.metric_names


def test_metrics_by_hand(task, labelled):
    values = task.compute_metrics(np.array([[1.0], [2], [9]]), labelled([0.0, 1.0, 2.0]))
    assert values["spearman"] == pytest.approx(1)
    assert values["pearson"] == pytest.approx(8 / np.sqrt(2 * 38))
    assert values["mse"] == pytest.approx((1 + 1 + 49) / 3)


@pytest.mark.parametrize(
    ("answers", "truth"), [([2, 2, 2], [0, 1, 2]), ([0, 1, 2], [2, 2, 2]), ([1], [1])]
)
def test_a_constant_has_correlation_zero(task, answers, truth, labelled):
    values = task.compute_metrics(np.array(answers, np.float32)[:, None], labelled(truth))
    assert (values["pearson"], values["spearman"]) == (0.0, 0.0)


def test_correlation_stays_within_one(task, labelled):
    line = np.linspace(0.1, 0.7, 7)
    for scale in (3.0, -3.0):
        value = task.compute_metrics((scale * line)[:, None], labelled(line))["pearson"]
        assert abs(value) <= 1.0
        assert value == pytest.approx(np.sign(scale))


def test_better_follows_the_metric(settings):
    by_error = RegressionTask(settings(metric="mse"), None)
    assert by_error.is_better(0.5, 0.6)
    assert not by_error.is_better(0.6, 0.6)
    by_rank = RegressionTask(settings(metric="spearman"), None)
    assert by_rank.is_better(0.7, 0.6)
    assert not by_rank.is_better(float("nan"), None)


def test_answers_equal_the_pipeline(task, bert_tokenizer, tiny_bert, logits_of):
    model = tiny_bert(task)
    answers = list(task.decode_predictions(logits_of(model, TEXTS), [{}] * 3))
    ask = pipeline("text-classification", model=model, tokenizer=bert_tokenizer)
    for entry, answer in zip(ask(TEXTS), answers, strict=True):
        assert answer == {"score": pytest.approx(entry["score"], abs=1e-6)}
        assert entry["label"] == "score"


def test_the_head_is_initialized_with_the_mean(task, labelled):
    head = {"classifier.weight": torch.ones(1, 4), "classifier.bias": torch.zeros(1)}
    task.init_head(head, labelled([1.0, 2.0, 6.0]))
    assert head["classifier.bias"].item() == 3.0
    assert head["classifier.weight"].tolist() == [[1.0] * 4]
