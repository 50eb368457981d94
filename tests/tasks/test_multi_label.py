"""Several labels a row: loss, metrics and answers against torch, scikit-learn, transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    roc_auc_score,
)
from transformers import pipeline

from bertft.errors import DataError
from bertft.tasks.multi_label import MultiLabelTask
from bertft.tasks.shared.metrics import average_precision, roc_auc

TEXTS = ["a good film", "the plot is dull", "很好看的电影"]
LABELS = [["plot", "片子"], [], ["film"]]


@pytest.fixture
def task(settings) -> MultiLabelTask:
    return MultiLabelTask(settings(), ["film", "plot", "片子"])


def test_features(task, bert_tokenizer, features):
    table = features(task, bert_tokenizer, text=TEXTS, label=LABELS)
    column = table.gather("labels", np.arange(3))
    assert column.dtype == np.float32
    assert column.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]


def test_rows_without_any_label(task):
    assert task.encode_labels([[], []]).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_unknown_label(task):
    with pytest.raises(DataError, match=r"'plott'.*'plot'"):
        task.encode_labels([["film", "plott"]])


def test_the_loss_is_the_sum_of_the_terms_of_transformers(
    task, bert_tokenizer, tiny_bert, batch_of
):
    batch = batch_of(task, bert_tokenizer, text=TEXTS, label=LABELS)
    inputs = bert_tokenizer(TEXTS, padding=True, return_tensors="pt")
    output = tiny_bert(task)(**inputs, labels=batch.labels["labels"])
    assert task.count_loss_terms(batch) == 9
    torch.testing.assert_close(task.loss(output.logits, batch), output.loss * 9)


def test_gradient(task, bert_tokenizer, batch_of):
    batch = batch_of(task, bert_tokenizer, text=TEXTS, label=LABELS)
    logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: task.loss(z, batch), logits)
    task.loss(logits, batch).backward()
    torch.testing.assert_close(logits.grad, logits.detach().sigmoid() - batch.labels["labels"])
    assert task.loss(logits.detach().bfloat16(), batch).dtype == torch.float32


@pytest.mark.parametrize("labels", [1, 4])
def test_metrics_equal_scikit_learn(labels, settings, labelled):
    draw = np.random.default_rng(labels)
    task = MultiLabelTask(settings(), [f"c{number}" for number in range(labels)])
    truth = (draw.random((100, labels)) < 0.4).astype(np.float32)
    logits = (draw.normal(size=(100, labels)) + 2 * truth - 1).astype(np.float32)
    probabilities = torch.from_numpy(logits).double().sigmoid().numpy()
    given = (logits >= 0).astype(int)
    if labels > 1:
        expected = {
            "f1_micro": f1_score(truth, given, average="micro"),
            "f1_macro": f1_score(truth, given, average="macro"),
            "f1_samples": f1_score(truth, given, average="samples", zero_division=1),
            "accuracy": accuracy_score(truth, given),
        }
    else:
        binary = f1_score(truth[:, 0], given[:, 0])
        exact = accuracy_score(truth, given)
        expected = {
            "f1_micro": binary, "f1_macro": binary, "f1_samples": exact, "accuracy": exact
        }  # fmt: skip
    losses = [log_loss(truth[:, c], probabilities[:, c]) for c in range(labels)]
    expected["roc_auc_macro"] = roc_auc_score(truth, probabilities)
    expected["average_precision_macro"] = average_precision_score(truth, probabilities)
    for c in range(labels):
        expected |= {
            f"c{c}/roc_auc": roc_auc_score(truth[:, c], probabilities[:, c]),
            f"c{c}/average_precision": average_precision_score(truth[:, c], probabilities[:, c]),
            f"c{c}/f1": f1_score(truth[:, c], given[:, c]),
            f"c{c}/support": truth[:, c].sum(),
        }
    values = task.compute_metrics(logits, labelled(truth))
    assert values == pytest.approx({**expected, "loss": np.mean(losses)}, abs=1e-12)
    assert tuple(values) == task.metric_names


def test_ranking_metrics_of_ties_equal_scikit_learn():
    draw = np.random.default_rng(4)
    truth, scores = draw.random(200) < 0.3, np.round(draw.random(200), 1)
    assert roc_auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    expected = average_precision_score(truth, scores)
    assert average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_a_label_without_positives_has_no_ranking_metrics(task, labelled):
    truth = np.array([[1, 1, 0], [0, 1, 0]], np.float32)
    values = task.compute_metrics(np.float32([[1, 1, 1], [0, 1, 2]]), labelled(truth))
    assert values["film/roc_auc"] == values["roc_auc_macro"] == 1.0
    assert np.isnan(values["plot/roc_auc"]) and np.isnan(values["片子/average_precision"])
    assert values["average_precision_macro"] == 1.0


def test_many_labels_have_no_metrics_of_their_own(settings):
    task = MultiLabelTask(settings(), [f"c{number}" for number in range(101)])
    assert not [name for name in task.metric_names if "/" in name]
    assert "roc_auc_macro" in task.metric_names


def test_metrics_by_hand(task, labelled):
    """Rows {0,1}→{0}, {}→{}, {2}→{1}: TP 1, true 3, given 2; label F1s 1, 0, 0."""
    truth = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], np.float32)
    logits = np.array([[9, -9, -9], [-9, -9, -9], [-9, 9, -9]], np.float32)
    values = task.compute_metrics(logits, labelled(truth))
    assert values["f1_micro"] == pytest.approx(2 / 5)
    assert values["f1_macro"] == pytest.approx(1 / 3)
    assert values["f1_samples"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert values["accuracy"] == pytest.approx(1 / 3)


def test_metrics_without_true_or_predicted_labels(task, labelled):
    values = task.compute_metrics(np.full((2, 3), -3, np.float32), labelled(np.zeros((2, 3))))
    assert (values["f1_micro"], values["f1_macro"]) == (0.0, 0.0)
    assert (values["f1_samples"], values["accuracy"]) == (1.0, 1.0)


def test_answers_equal_the_pipeline(task, bert_tokenizer, tiny_bert, logits_of):
    model = tiny_bert(task)
    answers = list(task.decode_predictions(logits_of(model, TEXTS), [{}] * 3))
    ask = pipeline("text-classification", model=model, tokenizer=bert_tokenizer, top_k=None)
    for entries, answer in zip(ask(TEXTS), answers, strict=True):
        expected = {entry["label"]: entry["score"] for entry in entries}
        assert answer["scores"] == pytest.approx(expected, abs=1e-6)
        assert answer["labels"] == [name for name in task.classes if expected[name] >= 0.5]


def test_thresholds_move_answers_and_metrics(task, labelled):
    logits = np.array([[0.0, 1.0, -1.0]], np.float32)  # 0.5, 0.73, 0.27
    truth = labelled([[1, 1, 0]])
    for threshold, given, accuracy in (
        (0.5, ["film", "plot"], 1.0),
        (0.6, ["plot"], 0.0),
        (0.2, ["film", "plot", "片子"], 0.0),
        ({"片子": 0.2, "plot": 0.9, "film": 0.5}, ["film", "片子"], 0.0),
        ({"片子": 0.3, "plot": 0.7, "film": 0.4}, ["film", "plot"], 1.0),
    ):
        task.set_threshold(threshold)
        assert next(task.decode_predictions(logits, [{}]))["labels"] == given
        assert task.compute_metrics(logits, truth)["accuracy"] == accuracy


def test_model_settings(task):
    assert task.head_config()["problem_type"] == "multi_label_classification"
    assert task.head_config()["num_labels"] == 3
