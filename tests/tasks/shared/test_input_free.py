"""The loss without the input: scikit-learn's dummies, and a constant fitted to the task's loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import log_loss, mean_squared_error

from bertft.config.loss import LossConfig
from bertft.tasks.shared.losses import LossOptions
from bertft.tasks.task import build_task

NAMES = ["a", "b", "c"]
LABELS = np.array([0] * 9 + [1] * 4 + [2])


class Features:
    """Columns of features in chunks of two; ``unlabelled`` further ones have no labels."""

    def __init__(self, unlabelled=0, lengths=None, **columns):
        self.columns, self.unlabelled = columns, unlabelled
        count = len(next(iter(columns.values())))
        self.lengths = np.ones(count, np.int32) if lengths is None else np.asarray(lengths)
        self.count = len(self.lengths)

    def __len__(self):
        return self.count + self.unlabelled

    def iter_chunks(self, name):
        values, ends = self.columns[name], np.cumsum(self.lengths)
        is_ragged = len(values) != self.count
        for start in range(0, self.count, 2):
            stop = min(start + 2, self.count)
            bounds = (ends[start] - self.lengths[start], ends[stop - 1])
            yield values[slice(*bounds) if is_ragged else slice(start, stop)]

    def read_column(self, name):
        return np.concatenate(list(self.iter_chunks(name)))


def mean(losses, indices=None):
    return losses.mean(np.arange(len(losses.terms)) if indices is None else np.asarray(indices))


def fitted_constant(loss, size):
    """The smallest value of ``loss(logits [size])``, in fp64."""
    logits = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=0,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        optimizer.zero_grad()
        value = loss(logits)
        value.backward()
        return value

    optimizer.step(closure)
    return float(loss(logits).detach())


def test_classes_as_the_prior_of_scikit_learn(settings):
    losses = build_task(settings(), NAMES).input_free_losses(Features(labels=LABELS))
    dummy = DummyClassifier(strategy="prior").fit(LABELS[:, None], LABELS)
    expected = log_loss(LABELS, dummy.predict_proba(LABELS[:, None]))
    assert mean(losses) == pytest.approx(expected, rel=1e-12)
    # A batch of other classes has another level: the loss of the same prediction on its rows.
    assert mean(losses, [13, 0]) == pytest.approx(-np.log([1 / 14, 9 / 14]).mean(), rel=1e-12)


def test_a_class_without_a_row(settings):
    losses = build_task(settings(), [*NAMES, "d"]).input_free_losses(Features(labels=LABELS))
    assert np.isfinite(losses.sums).all()
    share = np.bincount(LABELS) / len(LABELS)
    assert mean(losses) == pytest.approx(-(share * np.log(share)).sum(), rel=1e-12)


OPTIONS = [
    {},
    {"label_smoothing": 0.2},
    {"class_weights": [0.5, 2.0, 3.0]},
    {"class_weights": "balanced"},
    {"class_weights": [0.5, 2.0, 3.0], "label_smoothing": 0.1},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_classes_with_the_loss_of_the_task(settings, options):
    task, features = build_task(settings(), NAMES), Features(labels=LABELS)
    task.configure_loss(LossConfig(**options), features)
    labels = torch.from_numpy(LABELS)

    def loss(logits):
        expanded = logits.expand(len(labels), -1)
        return task.label_loss(expanded, labels, task.loss_options) / len(labels)

    losses = task.input_free_losses(features)
    assert mean(losses) == pytest.approx(fitted_constant(loss, 3), rel=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_labels_with_the_loss_of_the_task(settings, options):
    targets = np.random.default_rng(3).random((30, 3)) < [0.1, 0.5, 0.8]
    features = Features(labels=targets.astype(np.float32), unlabelled=2)
    task = build_task(settings(task="multi_label"), NAMES)
    task.configure_loss(LossConfig(**options), features)
    labels = torch.from_numpy(features.read_column("labels"))

    def loss(logits):
        expanded = logits.expand(len(labels), -1)
        return task.label_loss(expanded, labels, task.loss_options) / labels.numel()

    losses = task.input_free_losses(features)
    assert mean(losses) == pytest.approx(fitted_constant(loss, 3), rel=1e-9)
    assert losses.terms.tolist() == [3] * 30 + [0] * 2
    assert mean(losses, [30, 31]) is None, "no row has labels"
    assert mean(losses, [0, 31]) == mean(losses, [0])


def test_a_focal_loss_has_no_level(settings):
    features = Features(labels=LABELS)
    task = build_task(settings(), NAMES)
    task.loss_options = LossOptions(focal_gamma=2.0)
    assert task.input_free_losses(features) is None
    task = build_task(settings(task="multi_label"), NAMES)
    task.loss_options = LossOptions(focal_gamma=2.0)
    assert task.input_free_losses(Features(labels=np.eye(3, dtype=np.float32))) is None


def test_numbers_as_the_mean_of_scikit_learn(settings):
    values = np.array([0.5, 3.0, 4.5, 5.0], np.float32)
    losses = build_task(settings(task="regression"), None).input_free_losses(
        Features(labels=values)
    )
    dummy = DummyRegressor().fit(values[:, None], values.astype(np.float64))
    expected = mean_squared_error(values, dummy.predict(values[:, None]))
    assert mean(losses) == pytest.approx(expected, rel=1e-12)
    assert mean(losses, [1]) == pytest.approx((3.0 - 3.25) ** 2)


def test_tags_of_words(settings):
    task = build_task(settings(task="token_classification"), ["O", "B-X", "I-X"])
    tags = [[-100, 0, 0, -100], [-100, 1, 2, -100], [-100, 0, -100], [-100, -100], [-100, 0, 0, 1]]
    flat = np.concatenate(tags).astype(np.int32)
    features = Features(labels=flat, lengths=[len(row) for row in tags])
    losses = task.input_free_losses(features)
    words = flat[flat >= 0]
    dummy = DummyClassifier(strategy="prior").fit(words[:, None], words)
    expected = log_loss(words, dummy.predict_proba(words[:, None]))
    assert losses.terms.tolist() == [2, 2, 1, 0, 3]
    assert mean(losses) == pytest.approx(expected, rel=1e-12)
    share = np.bincount(words) / len(words)
    assert mean(losses, [1]) == pytest.approx(-np.log(share[[1, 2]]).mean(), rel=1e-12)


@pytest.mark.parametrize("starts", [[0, 3, 0, 4, 5], [3, 3, 4, 4, 5], [0, 0, 0, 0, 0]])
def test_answers(settings, starts):
    """[CLS] with its share, else a token of the context, which a window has 2 to 6 of."""
    contexts = [2, 3, 4, 5, 6]
    char_start = [[-1, -1, -1, *range(count), -1] for count in contexts]
    features = Features(
        start_position=np.array(starts),
        end_position=np.array(starts),
        char_start=np.concatenate(char_start).astype(np.int32),
        lengths=[len(row) for row in char_start],
    )
    losses = build_task(settings(task="question_answering"), None).input_free_losses(features)
    empty = np.mean(np.array(starts) == 0)
    probabilities = [
        empty if start == 0 else (1 - empty) / count
        for start, count in zip(starts, contexts, strict=True)
    ]
    np.testing.assert_allclose(losses.sums, -np.log(probabilities), rtol=1e-12, atol=1e-15)
    assert losses.terms.tolist() == [1] * 5


def test_windows_without_a_target_have_no_term(settings):
    """As in the metric ``loss``: the answer of a validation row may be in no window."""
    char_start = [[-1, -1, 0, 1, -1]] * 4
    features = Features(
        start_position=np.array([0, 2, -1, -1]),
        end_position=np.array([0, 3, -1, -1]),
        char_start=np.concatenate(char_start).astype(np.int32),
        lengths=[5] * 4,
    )
    task = build_task(settings(task="question_answering"), None)
    losses = task.input_free_losses(features)
    assert losses.terms.tolist() == [1, 1, 0, 0]
    assert mean(losses) == pytest.approx(-np.log([1 / 2, 1 / 4]).mean())
    assert task.input_free_metric(features) == mean(losses)


@pytest.mark.parametrize("task_name", ["classification", "multi_label"])
def test_the_metric_has_a_level_only_if_training_minimizes_it(settings, task_name):
    labels = LABELS if task_name == "classification" else np.eye(3, dtype=np.float32)[LABELS]
    task, features = build_task(settings(task=task_name), NAMES), Features(labels=labels)
    assert task.input_free_metric(features) == pytest.approx(mean(task.input_free_losses(features)))
    for options in (*OPTIONS[1:], {"focal_gamma": 2.0}):
        task.configure_loss(LossConfig(**options), features)
        assert task.input_free_metric(features) is None


def test_a_correlation_has_no_level(settings):
    values = Features(labels=np.array([0.5, 3.0, 4.5], np.float32))
    assert build_task(settings(task="regression"), None).input_free_metric(values) is None
