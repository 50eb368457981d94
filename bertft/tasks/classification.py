"""One of C classes per row, from a text or a pair of texts.

    ℓ = −log softmax(z)_y        over the row's logits z [C] and its class y
    prediction: class 1 where softmax(z)_1 ≥ threshold, if there is a threshold; else argmax z

Metrics: accuracy; F1 macro (over the classes that occur in labels or predictions), micro, and for
two classes binary, whose positive class is the last, as in GLUE; Matthews' correlation (0 if
either side is constant); the mean loss. The training loss can be changed (``shared.losses``);
the metric is the plain loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bertft.config.loss import LossConfig
from bertft.data.features import FeatureTable
from bertft.data.findings import Finding
from bertft.errors import UsageError
from bertft.tasks.class_probabilities import ClassProbabilities
from bertft.tasks.report_items import ReportItem, TableCell
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.calibration import best_index, threshold_curve
from bertft.tasks.shared.input_free import InputFreeLosses, categorical_losses
from bertft.tasks.shared.logits import log_softmax, softmax
from bertft.tasks.shared.losses import balanced_class_weights, cross_entropy_loss
from bertft.tasks.shared.metrics import confusion_matrix, f1_score, matthews_correlation
from bertft.tasks.shared.report import (
    NOTHING_LEARNED_ADVICE,
    class_score_table,
    confusion_item,
    example_tables,
    format_row_location,
    format_row_text,
)
from bertft.tasks.shared.sequence_task import ClassTask
from bertft.tasks.task import Threshold
from bertft.utils.messages import Problem, quote_value

__all__ = ["ClassificationTask"]


class ClassificationTask(ClassTask):
    """Features: ``labels`` int64 [rows], the number of the class."""

    name = "classification"
    prediction_fields = ("label", "score", "scores")
    conformal_fields = ("prediction_set", "abstain")
    problem_type = "single_label_classification"
    default_metric = "accuracy"
    answer_noun = "class"
    threshold: float | None = None
    label_loss = staticmethod(cross_entropy_loss)

    @property
    def metric_names(self) -> tuple[str, ...]:
        binary = ("f1",) if len(self.classes) == 2 else ()
        return ("accuracy", *binary, "f1_macro", "f1_micro", "matthews", "loss")

    @property
    def metric_note(self) -> str:
        return f"f1: positive class {self.classes[1]}" if "f1" in self.metric_names else ""

    def balanced_weights(self, targets: np.ndarray) -> np.ndarray:
        return balanced_class_weights(
            np.bincount(targets, minlength=len(self.classes)), self.classes
        )

    def input_free_losses(self, features: FeatureTable) -> InputFreeLosses | None:
        """Of the share of each class, weighted as the loss; None with a focal loss."""
        targets = features.read_column("labels")
        losses = categorical_losses(
            np.bincount(targets, minlength=len(self.classes)), self.loss_options
        )
        return None if losses is None else InputFreeLosses.of_labelled(losses[targets], 1, features)

    def find_problems(self, loss: LossConfig, tune_threshold: bool) -> Iterator[Problem]:
        yield from super().find_problems(loss, tune_threshold)
        if tune_threshold and len(self.classes) != 2:
            yield Problem(
                "tune_threshold",
                f"is not supported with {len(self.classes)} classes",
                "Set tune_threshold=false. It needs two classes, or data.task=multi_label",
            )

    def set_threshold(self, threshold: Threshold) -> None:
        if len(self.classes) != 2 or isinstance(threshold, dict):
            unsupported = (
                "one threshold per label" if isinstance(threshold, dict) else "a threshold"
            )
            raise UsageError(
                f"{self.name} with {len(self.classes)} classes does not support {unsupported}",
                where="threshold",
                hint="Leave it out: the most probable class is predicted",
            )
        self.threshold = threshold

    def predict_classes(self, logits: np.ndarray) -> np.ndarray:
        """The predicted class number of each row of ``logits``."""
        if self.threshold is None:
            return logits.argmax(1)
        return (softmax(logits)[:, 1] >= self.threshold).astype(np.int64)

    def confidence_and_correct(
        self, logits: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return softmax(logits).max(1), logits.argmax(1) == targets

    def fit_threshold(self, logits: np.ndarray, targets: np.ndarray) -> tuple[float, str]:
        """The best threshold for the selection metric, or for f1 if that is loss."""
        metric = "f1" if self.metric == "loss" else self.metric
        curve = threshold_curve(softmax(logits)[:, 1], targets == 1)
        values = []
        for predicted, true_positives in zip(
            curve.predicted.tolist(), curve.true_positives.tolist(), strict=True
        ):
            false_negatives = curve.positives - true_positives
            false_positives = predicted - true_positives
            true_negatives = curve.rows - predicted - false_negatives
            counts = np.array(
                [[true_negatives, false_positives], [false_negatives, true_positives]]
            )
            values.append(float(self._metrics_from_confusion(counts)[metric]))
        return float(curve.thresholds[best_index(np.array(values), curve.thresholds)]), metric

    def compute_scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        values = self._metrics_from_confusion(
            confusion_matrix(targets, self.predict_classes(logits), len(self.classes))
        )
        values["loss"] = -log_softmax(logits)[np.arange(len(targets)), targets].mean()
        return values

    def _metrics_from_confusion(self, counts: np.ndarray) -> dict[str, Any]:
        """The metrics of a confusion matrix [C, C]."""
        correct, truth, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
        f1_per_class = f1_score(correct, truth, predicted)
        values = {
            "accuracy": correct.sum() / counts.sum(),
            "f1_macro": f1_per_class[truth + predicted > 0].mean(),
            "f1_micro": f1_score(correct.sum(), truth.sum(), predicted.sum()),
            "matthews": matthews_correlation(counts),
        }
        if len(self.classes) == 2:
            values["f1"] = f1_per_class[1]
        return values

    def metric_inputs(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray]:
        """Class numbers [rows]; probabilities [rows, C], of two classes those of the second."""
        scores = softmax(logits.astype(np.float64))
        return features.read_column("labels"), scores[:, 1] if scores.shape[1] == 2 else scores

    def row_statistics(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Per row: the true class, the predicted class, the loss."""
        losses = -log_softmax(logits)[np.arange(len(targets)), targets]
        return np.stack([targets, self.predict_classes(logits), losses], 1)

    def row_answers(self, logits: np.ndarray, features: FeatureTable) -> RowAnswers:
        """The classes."""
        truth = features.read_column("labels")
        predicted = self.predict_classes(logits.astype(np.float64))
        true_names, names = (
            [self.classes[number] for number in numbers] for numbers in (truth, predicted)
        )
        return RowAnswers(true_names, names, is_right=truth == predicted)

    def metrics_from_statistics(
        self, statistics: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        classes, draws = len(self.classes), len(weights)
        cell_numbers = (statistics[:, 0] * classes + statistics[:, 1]).astype(np.int64)
        occurring_cells, cell_index = np.unique(cell_numbers, return_inverse=True)
        counts = np.zeros((draws, classes**2))
        counts[:, occurring_cells] = weights @ np.eye(len(occurring_cells))[cell_index]
        table, rows = counts.reshape(draws, classes, classes), weights.sum(1)
        correct = np.diagonal(table, axis1=1, axis2=2)
        truth, predicted = table.sum(2), table.sum(1)
        f1_per_class, occurs = f1_score(correct, truth, predicted), truth + predicted > 0
        values = {
            "accuracy": correct.sum(1) / rows,
            "f1_macro": (f1_per_class * occurs).sum(1) / occurs.sum(1),
            "f1_micro": f1_score(correct.sum(1), truth.sum(1), predicted.sum(1)),
            "matthews": matthews_correlation(table),
            "loss": weights @ statistics[:, 2] / rows,
        }
        return values | ({"f1": f1_per_class[:, 1]} if classes == 2 else {})

    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """``label``, its ``score`` (probability), and the ``scores`` of all classes by name.

        With calibrated sets, also ``prediction_set``, the most probable class first, and
        ``abstain``: whether the set is not a single class.
        """
        for row, number in zip(softmax(logits).tolist(), self.predict_classes(logits), strict=True):
            scores = dict(zip(self.classes, row, strict=True))
            label = self.classes[number]
            prediction = {"label": label, "score": scores[label], "scores": scores}
            if self.conformal is not None:
                names = self.names_in_set(row)
                prediction |= {"prediction_set": names, "abstain": len(names) != 1}
            yield prediction

    def conformal_scores(self, logits: np.ndarray, features: FeatureTable) -> np.ndarray:
        """1 − p of the true class."""
        targets = features.read_column("labels")
        return 1 - softmax(logits)[np.arange(len(targets)), targets]

    def set_metrics(
        self, logits: np.ndarray, features: FeatureTable, rows: np.ndarray
    ) -> dict[str, float]:
        """``coverage``, ``mean_set_size``, and ``abstention``, the share of sets to abstain on."""
        is_in_set = self.class_sets(softmax(logits[rows]))
        targets = features.read_column("labels")[rows]
        sizes = is_in_set.sum(1)
        return {
            "coverage": float(is_in_set[np.arange(len(targets)), targets].mean()),
            "mean_set_size": float(sizes.mean()),
            "abstention": float((sizes != 1).mean()),
        }

    def class_probabilities(self, logits: np.ndarray, features: FeatureTable) -> ClassProbabilities:
        return ClassProbabilities(softmax(logits), features.read_column("labels"))

    def prediction_findings(self, logits: np.ndarray, features: FeatureTable) -> Iterator[Finding]:
        """Whether all rows get the same class."""
        predicted, truth = self.predict_classes(logits), features.read_column("labels")
        if not len(truth) or np.ptp(predicted) or not np.ptp(truth):
            return
        share = float((truth == predicted[0]).mean())
        yield Finding(
            "one_predicted_class",
            f"All {len(truth):,} validation rows are predicted as"
            f" {quote_value(self.classes[int(predicted[0])])}, which is right for {share:.1%}",
            len(truth),
            len(truth),
            "",
            NOTHING_LEARNED_ADVICE,
        )

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        truth, rows = features.read_column("labels"), features.read_column("row")
        probabilities = softmax(logits.astype(np.float64))
        predicted = self.predict_classes(logits)
        counts = confusion_matrix(truth, predicted, len(self.classes))
        yield confusion_item(counts, self.classes)
        yield class_score_table(np.diag(counts), counts.sum(1), counts.sum(0), self.classes)

        def make_line(feature: int) -> list[TableCell]:
            row, predicted_class = int(rows[feature]), predicted[feature]
            return [
                format_row_location(features.rows, row),
                format_row_text(features.rows, row),
                self.classes[truth[feature]],
                self.classes[predicted_class],
                float(probabilities[feature, predicted_class]),
            ]

        confidence = probabilities[np.arange(len(features)), predicted]
        if len(self.classes) == 1:
            return
        second = np.partition(probabilities, -2, axis=1)[:, -2]
        yield from example_tables(
            ("row", "text", "true class", "predicted class", "probability"),
            make_line,
            (
                np.where(truth == predicted, -np.inf, confidence),
                "Wrong predictions. Highest confidence first.",
            ),
            (
                second - confidence,
                "Rows with the smallest difference between the two most probable classes.",
            ),
        )
