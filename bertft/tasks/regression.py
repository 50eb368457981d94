"""One number per row, from a text or a pair of texts.

    ℓ = (z − y)²        for the single logit z and the number y of a row, without scaling

Metrics: Pearson's and Spearman's correlation, mean squared error (``loss`` is the same number).
A correlation is 0 if either side is constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch
from bertft.data.features import FeatureTable
from bertft.data.findings import Finding
from bertft.tasks.report_items import AgreementPlot, ReportItem, TableCell
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.input_free import InputFreeLosses
from bertft.tasks.shared.losses import squared_error_loss, to_loss_precision
from bertft.tasks.shared.metrics import pearson, spearman, weighted_pearson, weighted_spearman
from bertft.tasks.shared.report import (
    NOTHING_LEARNED_ADVICE,
    example_tables,
    format_row_location,
    format_row_text,
)
from bertft.tasks.shared.sequence_task import SequenceTask

__all__ = ["RegressionTask"]

_CONSTANT = 0.02  # standard deviation relative to that of the labels


class RegressionTask(SequenceTask):
    """Features: ``labels`` float32 [rows]."""

    name = "regression"
    label_key = "true_score"
    prediction_fields = ("score",)
    conformal_fields = ("prediction_interval",)
    problem_type = "regression"
    default_metric = "pearson"
    answer_noun = "value"
    answer_score = "absolute error"
    lower_answer_score_is_better = True

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("pearson", "spearman", "mse", "loss")

    def head_config(self) -> dict[str, Any]:
        return {
            "num_labels": 1,
            "id2label": {0: "score"},
            "label2id": {"score": 0},
            "problem_type": self.problem_type,
        }

    def encode_labels(self, labels: Sequence[Any]) -> np.ndarray:
        return np.asarray(labels, np.float32)

    def init_head(self, head: Mapping[str, Tensor], features: FeatureTable) -> None:
        """Initialize the bias with the mean of the training numbers.

        From zero, the first steps would all push towards the mean, which can saturate the tanh of
        the pooler before the head, so that the model stays constant.
        """
        mean = float(np.mean(features.read_column("labels")))
        for name, parameter in head.items():
            if name.endswith("bias") and parameter.numel() == 1:
                with torch.no_grad():
                    parameter.fill_(mean)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        values = to_loss_precision(logits).squeeze(-1)
        return (values - batch.labels["labels"].to(values.dtype)).square().sum()

    def input_free_losses(self, features: FeatureTable) -> InputFreeLosses:
        """Of the mean of the numbers: their variance on average."""
        values = features.read_column("labels").astype(np.float64)
        return InputFreeLosses.of_labelled(np.square(values - values.mean()), 1, features)

    def input_free_metric(self, features: FeatureTable) -> None:
        """None: a correlation can be high while the squared error is above the variance."""

    def distillation_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        """The squared error to the teacher's number; ``temperature`` is not used."""
        return squared_error_loss(logits, teacher)

    def prediction_agreement(
        self, logits_a: np.ndarray, logits_b: np.ndarray, features: FeatureTable
    ) -> float:
        """Pearson's correlation of the two models' numbers, which are hardly ever equal."""
        return float(pearson(logits_a[:, 0].astype(np.float64), logits_b[:, 0].astype(np.float64)))

    def compute_scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        values, targets = logits[:, 0], targets.astype(np.float64)
        error = np.square(values - targets).mean()
        return {
            "pearson": pearson(values, targets),
            "spearman": spearman(values, targets),
            "mse": error,
            "loss": error,
        }

    def metric_inputs(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray]:
        """The true and the predicted numbers [rows]."""
        return features.read_column("labels").astype(np.float64), logits[:, 0].astype(np.float64)

    def row_statistics(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Per row: the predicted number and the true one."""
        return np.stack([logits[:, 0], targets.astype(np.float64)], 1)

    def row_answers(self, logits: np.ndarray, features: FeatureTable) -> RowAnswers:
        """The numbers, with their absolute errors."""
        truth, values = features.read_column("labels"), logits[:, 0]
        truth_texts, texts = (
            [f"{number:.4g}" for number in numbers.tolist()] for numbers in (truth, values)
        )
        errors = np.abs(values - truth).astype(np.float64)
        return RowAnswers(truth_texts, texts, is_right=None, scores=errors)

    def metrics_from_statistics(
        self, statistics: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        predicted, targets = statistics.T
        error = weights @ np.square(predicted - targets) / weights.sum(1)
        return {
            "pearson": weighted_pearson(predicted, targets, weights),
            "spearman": weighted_spearman(predicted, targets, weights),
            "mse": error,
            "loss": error,
        }

    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """``score``, the number; with calibrated sets also ``prediction_interval``, its ends."""
        for value in logits[:, 0].tolist():
            prediction: dict[str, Any] = {"score": value}
            if self.conformal is not None:
                width = self.conformal.quantile
                prediction["prediction_interval"] = [value - width, value + width]
            yield prediction

    def conformal_scores(self, logits: np.ndarray, features: FeatureTable) -> np.ndarray:
        """The absolute error."""
        truth = features.read_column("labels").astype(np.float64)
        return np.abs(logits[:, 0].astype(np.float64) - truth)

    def set_metrics(
        self, logits: np.ndarray, features: FeatureTable, rows: np.ndarray
    ) -> dict[str, float]:
        """``coverage``, and ``interval_width``, which is the same for all rows."""
        assert self.conformal is not None, "set_conformal was called"
        is_covered = self.conformal_scores(logits, features)[rows] <= self.conformal.quantile
        return {
            "coverage": float(is_covered.mean()),
            "interval_width": 2 * self.conformal.quantile,
        }

    def prediction_findings(self, logits: np.ndarray, features: FeatureTable) -> Iterator[Finding]:
        """Whether the predicted numbers hardly differ."""
        values, truth = logits[:, 0].astype(np.float64), features.read_column("labels")
        if not len(truth) or not np.std(truth) or np.std(values) > _CONSTANT * np.std(truth):
            return
        yield Finding(
            "constant_output",
            f"The predictions for {len(truth):,} validation rows are nearly constant: from"
            f" {values.min():.4g} to {values.max():.4g}, labels from {truth.min():.4g} to"
            f" {truth.max():.4g}",
            len(truth),
            len(truth),
            "",
            NOTHING_LEARNED_ADVICE,
        )

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        truth, rows = features.read_column("labels"), features.read_column("row")
        values = logits[:, 0]
        yield AgreementPlot(
            "answers",
            "Predicted against true values",
            "One point per row. Points on the diagonal are exact predictions.",
            x=truth,
            y=values,
            x_title="true value",
            y_title="predicted value",
        )

        def make_line(feature: int) -> list[TableCell]:
            row = int(rows[feature])
            return [
                format_row_location(features.rows, row),
                format_row_text(features.rows, row),
                float(truth[feature]),
                float(values[feature]),
            ]

        yield from example_tables(
            ("row", "text", "true value", "predicted value"),
            make_line,
            (np.abs(values - truth).astype(np.float64), "Rows with the largest absolute error."),
            None,
        )
