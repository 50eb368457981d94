"""The loss takes its softmax over each sequence alone, whatever the layout, and exactly."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from bertft.data.batch import collate
from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.models.runner import EncoderRunner
from bertft.tasks.question_answering.task import QuestionAnsweringTask, span_loss
from bertft.tasks.shared.losses import pad_sequences


def test_apart():
    values = torch.arange(6.0)
    expected = torch.tensor([[0.0, -torch.inf, -torch.inf], [1, 2, 3], [4, 5, -torch.inf]])
    assert torch.equal(pad_sequences(values, torch.tensor([1, 3, 2])), expected)


def test_the_span_loss_equals_transformers():
    torch.manual_seed(0)
    lengths, start, end = torch.tensor([4, 7, 1]), torch.tensor([3, 0, 0]), torch.tensor([3, 5, 0])
    logits = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    total, at = 0.0, 0
    for length, a, b in zip(lengths.tolist(), start, end, strict=True):
        window_logits = logits[at : at + length]
        cross = torch.nn.CrossEntropyLoss()
        total += (
            cross(window_logits[None, :, 0], a[None]) + cross(window_logits[None, :, 1], b[None])
        ) / 2
        at += length
    loss = span_loss(logits, lengths, start, end)
    torch.testing.assert_close(loss, total, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda z: span_loss(z, lengths, start, end), logits)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.fixture
def batch(settings, bert_tokenizer):
    task = QuestionAnsweringTask(settings(task="question_answering", stride=2), None)
    words = ["a", "film", "good", "bad", "dull", "the", "plot"]
    contexts = [" ".join(words[(n + k) % 7] for k in range(5 + 4 * n)) for n in range(5)]
    table = pa.table(
        {
            "question": ["good film", "the plot", "bad", "dull plot a film", "a"],
            "context": contexts,
            "label": [["film"], [], ["plot"], ["good bad"], ["bad"]],
            "start": [[context.find(w)] if w else [] for context, w in zip(
                contexts, ["film", "", "plot", "good bad", "bad"], strict=True)],
            "line": [1, 2, 3, 4, 5],
        }
    )  # fmt: skip
    rows = Rows(table, BadRows("here"))
    features = featurize(rows, task.make_encoder(bert_tokenizer, 16), [], None)
    assert len(features) > 5
    return task, collate(features, np.arange(len(features)), task.label_columns)


def test_the_layout_changes_neither_loss_nor_gradients(batch, bert_tokenizer):
    task, made = batch
    actual = {}
    for layout in ("unpadded", "packed", "padded"):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(bert_tokenizer), hidden_size=16, num_hidden_layers=2,
            num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
            initializer_range=0.5, **task.head_config(),
        )  # fmt: skip
        model = BertForQuestionAnswering(config).double().eval()
        runner = EncoderRunner(model, task.level, layout)
        loss = task.loss(runner(made), made)
        loss.backward()
        actual[layout] = loss.detach(), [parameter.grad for parameter in model.parameters()]
    assert task.count_loss_terms(made) == len(made)
    for layout in ("unpadded", "packed"):
        torch.testing.assert_close(actual[layout][0], actual["padded"][0], atol=1e-10, rtol=0)
        for one, other in zip(actual[layout][1], actual["padded"][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_the_metric_loss_is_the_mean_training_loss(settings, bert_tokenizer):
    task = QuestionAnsweringTask(settings(task="question_answering", stride=2), None)
    rows = Rows(
        pa.table(
            {
                "id": ["a", "b"],
                "question": ["good", "bad"],
                "context": ["the plot is a film", "a good film " * 6],
                "label": [["plot"], []],
                "start": [[4], []],
                "line": [1, 2],
            }
        ),
        BadRows("here"),
    )
    features = featurize(rows, task.make_encoder(bert_tokenizer, 16), [], None)
    made = collate(features, np.arange(len(features)), task.label_columns)
    logits = np.random.default_rng(0).normal(size=(len(made.input_ids), 2))
    mean = float(task.loss(torch.from_numpy(logits), made)) / task.count_loss_terms(made)
    assert task.compute_metrics(logits, features)["loss"] == pytest.approx(mean, abs=1e-12)
    assert task.prediction_agreement(logits, logits + 1, features) == 1.0
    assert task.prediction_agreement(logits, -logits, features) < 1.0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_span_distillation_covers_context_and_cls_alone(batch, temperature):
    """The loss and its gradient against a loop over windows, in fp64."""
    task, made = batch
    torch.manual_seed(0)
    student, teacher = torch.randn(2, len(made.input_ids), 2, dtype=torch.float64)
    student.requires_grad_()
    actual = task.distillation_loss(student, teacher, made, temperature)
    expected, at = torch.zeros((), dtype=torch.float64), 0
    for length in made.lengths.tolist():
        places = [at, *(at + n for n in range(length) if made.labels["char_start"][at + n] >= 0)]
        for side in range(2):
            mine = torch.log_softmax(student[places, side] / temperature, 0)
            theirs = torch.softmax(teacher[places, side] / temperature, 0)
            expected = expected + temperature**2 / 2 * (theirs * (theirs.log() - mine)).sum()
        at += length
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(actual, student), torch.autograd.grad(expected, student), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert task.count_distillation_terms(made) == len(made)
