"""Losses to a teacher and their gradients, of every task, against loops written plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bertft.config.data import DataConfig
from bertft.data.batch import Batch
from bertft.tasks.classification import ClassificationTask as Classification
from bertft.tasks.masked_lm.task import MaskedLMTask as MaskedLM
from bertft.tasks.multi_label import MultiLabelTask as MultiLabel
from bertft.tasks.question_answering.task import QuestionAnsweringTask as QuestionAnswering
from bertft.tasks.regression import RegressionTask as Regression
from bertft.tasks.token_classification.task import TokenClassificationTask as Tagging

NAMES = ["a", "b", "c"]
LENGTHS = [3, 5, 2]


def softened(row, temperature):
    """softmax(row / T) of a list of numbers."""
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def kl(teacher, student):
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def categorical(student, teacher, temperature):
    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    return temperature**2 * sum(
        kl(softened(t, temperature), softened(s, temperature)) for s, t in pairs
    )


def bernoulli(student, teacher, temperature):
    total = 0.0
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    for s, t in pairs:
        p, q = (1 / (1 + math.exp(-value / temperature)) for value in (t, s))
        total += kl([p, 1 - p], [q, 1 - q])
    return temperature**2 * total


def batch_of(labels, labelled=None):
    total = sum(LENGTHS)
    return Batch(
        torch.zeros(total, dtype=torch.int64), torch.tensor(LENGTHS), None,
        {"labels": labels}, np.arange(len(LENGTHS)), labelled,
    )  # fmt: skip


def pair(rows, columns):
    generator = torch.Generator().manual_seed(rows)
    student, teacher = 3 * torch.randn(2, rows, columns, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def numeric(function, values):
    """Central differences, element by element."""
    gradient, step = torch.zeros_like(values), 1e-6
    for folder in np.ndindex(*values.shape):
        near = [values.detach().clone() for _ in range(2)]
        near[0][folder] += step
        near[1][folder] -= step
        gradient[folder] = (function(near[0]) - function(near[1])) / (2 * step)
    return gradient


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize(
    ("kind", "columns", "terms", "plain"),
    [
        (Classification, 3, 3, categorical),
        (MultiLabel, 3, 9, bernoulli),
        (Regression, 1, 3, lambda s, t, _: float((s - t).square().sum())),
    ],
)
def test_sequence_level(kind, columns, terms, plain, temperature):
    task = kind(DataConfig(name="test", task=kind.name), NAMES)
    student, teacher = pair(3, columns)
    batch = batch_of(torch.zeros(0))
    loss = task.distillation_loss(student, teacher, batch, temperature)
    assert task.count_distillation_terms(batch) == terms and loss.dtype == torch.float64
    assert loss.item() == pytest.approx(plain(student.detach(), teacher.detach(), temperature))
    loss.backward()
    expected = numeric(lambda logits: plain(logits, teacher.detach(), temperature), student)
    torch.testing.assert_close(student.grad, expected, rtol=1e-6, atol=1e-8)
    assert teacher.grad is None
    same = task.distillation_loss(student.detach(), student.detach(), batch, temperature)
    assert float(same) == pytest.approx(0.0, abs=1e-12)
    half = student.detach().bfloat16()
    assert task.distillation_loss(half, teacher.float(), batch, temperature).dtype == torch.float32


@pytest.mark.parametrize("labelled", [None, [True, False, True]])
def test_token_level_takes_the_tokens_that_have_a_class(labelled):
    """Of the labelled sequences: those without labels have none in the batch."""
    task = Tagging(DataConfig(name="test", task=Tagging.name), ["O", "B-X", "I-X"])
    classes = [-100, 0, 1, 2, -100, -100, 0, 1, -100, 2]
    chosen = [1, 2, 3, 6, 7, 9] if labelled is None else [1, 2, 9]
    labels = classes if labelled is None else [*classes[:3], *classes[8:]]
    batch = batch_of(torch.tensor(labels), None if labelled is None else np.array(labelled))
    student, teacher = pair(10, 3)
    loss = task.distillation_loss(student, teacher, batch, 2.0)
    assert task.count_distillation_terms(batch) == len(chosen) and not task.can_distill_unlabelled
    expected = categorical(student.detach()[chosen], teacher.detach()[chosen], 2.0)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    expected = numeric(
        lambda logits: categorical(logits[chosen], teacher.detach()[chosen], 2.0), student
    )
    torch.testing.assert_close(student.grad, expected, rtol=1e-6, atol=1e-8)
    gone = [folder for folder in range(10) if folder not in chosen]
    assert not student.grad[gone].any() and student.grad[chosen].abs().min() > 0


def test_masked_lm_distills_the_masked_positions():
    """Of which alone there are logits, over the vocabulary."""
    task = MaskedLM(DataConfig(name="test", task=MaskedLM.name), None)
    batch = batch_of(torch.tensor([4, 0, 2]))
    student, teacher = pair(3, 7)
    loss = task.distillation_loss(student, teacher, batch, 2.0)
    assert task.count_distillation_terms(batch) == 3
    assert loss.item() == pytest.approx(categorical(student.detach(), teacher.detach(), 2.0))
    loss.backward()
    expected = numeric(lambda logits: categorical(logits, teacher.detach(), 2.0), student)
    torch.testing.assert_close(student.grad, expected, rtol=1e-6, atol=1e-8)


def test_spans_are_two_distributions_over_a_sequences_own_tokens():
    """The context's, and its [CLS], which answers that there is none."""
    context = torch.tensor([0, 0, 1, 0, 1, 0, 1, 1, 0, 1], dtype=torch.bool)
    seen = context | torch.tensor([1, 0, 0, 1, 0, 0, 0, 0, 1, 0], dtype=torch.bool)
    task = QuestionAnswering(DataConfig(name="test", task=QuestionAnswering.name), None)
    batch = batch_of(torch.zeros(0))
    batch.labels["char_start"] = torch.where(context, 5, -1)
    student, teacher = pair(10, 2)

    def plain(logits):
        total, at = 0.0, 0
        for length in LENGTHS:
            places = [p for p in range(at, at + length) if seen[p]]
            for side in (0, 1):
                s, t = ([float(x[p, side]) for p in places] for x in (logits, teacher.detach()))
                total += 0.5 * 4.0 * kl(softened(t, 2.0), softened(s, 2.0))
            at += length
        return total

    loss = task.distillation_loss(student, teacher, batch, 2.0)
    assert task.count_distillation_terms(batch) == len(LENGTHS)
    assert loss.item() == pytest.approx(plain(student.detach()))
    loss.backward()
    torch.testing.assert_close(student.grad, numeric(plain, student), rtol=1e-6, atol=1e-8)
    assert not student.grad[~seen].any() and torch.isfinite(student.grad).all()


def test_agreement():
    rows = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [5.0, 1.0, 0.0]])
    other = np.array([[9.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.1, 0.0, 0.0]])
    assert (
        Classification(DataConfig(name="t"), NAMES).prediction_agreement(rows, other, None) == 2 / 3
    )
    task = MultiLabel(DataConfig(name="t", task="multi_label"), NAMES)
    assert task.prediction_agreement(rows - 0.5, other - 0.5, None) == 2 / 3
    task = Regression(DataConfig(name="t", task="regression"), None)
    assert task.prediction_agreement(rows[:, :1], 2 * rows[:, :1] + 1, None) == pytest.approx(1.0)
