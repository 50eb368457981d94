"""Any number of C labels per row, including none, each predicted independently.

    ℓ = Σ_c softplus(z_c) − y_c z_c                     y ∈ {0, 1}^C: C terms per row
    distillation: Σ_c T² · KL(σ(t_c/T) ‖ σ(z_c/T))      for teacher logits t [C]
    label c is predicted where sigmoid(z_c) ≥ threshold (0.5, or one threshold per label)

Metrics: F1 micro; macro (a label that is neither true nor predicted counts 0); samples (the mean
over rows; 1 for a correct empty prediction); accuracy (rows with exactly the true labels); the
area under the ROC curve and the average precision of each label and their means (roc_auc_macro,
average_precision_macro) over the labels for which they are defined; the mean loss. The training
loss can be changed (``shared.losses``); the metric is the plain loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bertft.data.batch import Batch
from bertft.data.features import FeatureTable
from bertft.data.findings import Finding
from bertft.errors import UsageError
from bertft.tasks.class_probabilities import ClassProbabilities
from bertft.tasks.report_items import ReportItem, TableCell
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.calibration import (
    best_index,
    best_micro_f1_indices,
    micro_f1,
    threshold_curve,
)
from bertft.tasks.shared.input_free import InputFreeLosses, bernoulli_losses
from bertft.tasks.shared.logits import are_finite, log_sigmoid, sigmoid
from bertft.tasks.shared.losses import (
    balanced_label_weights,
    bernoulli_kl_loss,
    binary_cross_entropy_loss,
)
from bertft.tasks.shared.metrics import average_precision, f1_score, roc_auc
from bertft.tasks.shared.report import (
    class_score_table,
    example_tables,
    format_row_location,
    format_row_text,
)
from bertft.tasks.shared.sequence_task import ClassTask, class_numbers
from bertft.tasks.task import Threshold
from bertft.utils.messages import format_list, quote_value

__all__ = ["MultiLabelTask"]

_DEFAULT_THRESHOLD = 0.5
_RANKING_METRICS = ("roc_auc_macro", "average_precision_macro")
_LABEL_METRICS = ("roc_auc", "average_precision", "f1", "support")
_MAX_REPORTED_LABELS = 100
_LARGE_F1_GAIN = 0.05  # other thresholds are recommended from this difference


class MultiLabelTask(ClassTask):
    """Features: ``labels`` float32 [rows, C], 1 where the row has the label."""

    name = "multi_label"
    label_key = "true_labels"
    prediction_fields = ("labels", "scores")
    conformal_fields = ("prediction_set", "abstain")
    problem_type = "multi_label_classification"
    default_metric = "f1_micro"
    answer_noun = "labels"
    answer_score = "F1"
    threshold: Threshold = _DEFAULT_THRESHOLD
    label_loss = staticmethod(binary_cross_entropy_loss)

    @property
    def metric_names(self) -> tuple[str, ...]:
        overall = ("f1_micro", "f1_macro", "f1_samples", "accuracy", *_RANKING_METRICS, "loss")
        return (*overall, *self._label_metric_names())

    @property
    def selection_metrics(self) -> tuple[str, ...]:
        return tuple(name for name in self.metric_names if not name.endswith("/support"))

    def _label_metric_names(self) -> tuple[str, ...]:
        """``label/metric``; empty with many labels, whose metrics would fill metrics.jsonl."""
        if len(self.classes) > _MAX_REPORTED_LABELS:
            return ()
        return tuple(f"{name}/{metric}" for name in self.classes for metric in _LABEL_METRICS)

    def encode_labels(self, labels: Sequence[Any]) -> np.ndarray:
        counts = [len(row) for row in labels]
        columns = class_numbers([name for row in labels for name in row], self.classes)
        targets = np.zeros((len(labels), len(self.classes)), np.float32)
        targets[np.repeat(np.arange(len(labels)), counts), columns] = 1.0
        return targets

    def balanced_weights(self, targets: np.ndarray) -> np.ndarray:
        return balanced_label_weights(targets.sum(0, np.float64), len(targets), self.classes)

    def input_free_losses(self, features: FeatureTable) -> InputFreeLosses | None:
        """Of the share of rows with each label, weighted as the loss; None with a focal loss."""
        targets = features.read_column("labels")
        losses = bernoulli_losses(targets.sum(0, np.float64), len(targets), self.loss_options)
        if losses is None:
            return None
        with_label, without_label = losses
        sums = targets @ (with_label - without_label) + without_label.sum()
        return InputFreeLosses.of_labelled(sums, len(self.classes), features)

    def set_threshold(self, threshold: Threshold) -> None:
        if isinstance(threshold, dict) and set(threshold) != set(self.classes):
            raise UsageError(
                f"the thresholds are for {format_list(threshold, 8)}, but the labels are"
                f" {format_list(self.classes, 8)}",
                where="threshold",
                hint="Give one threshold per label",
            )
        self.threshold = threshold

    def predict_classes(self, logits: np.ndarray) -> np.ndarray:
        """The predicted labels of each row of ``logits``, bool [rows, C]."""
        threshold = self.threshold
        if isinstance(threshold, dict):
            return sigmoid(logits) >= np.array([threshold[name] for name in self.classes])
        return sigmoid(logits) >= threshold

    def confidence_and_correct(
        self, logits: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """For each label of each row, at a threshold of 0.5."""
        scores = sigmoid(logits)
        correct = (scores >= 0.5) == (targets > 0.5)
        return np.maximum(scores, 1 - scores).ravel(), correct.ravel()

    def fit_threshold(self, logits: np.ndarray, targets: np.ndarray) -> tuple[list[float], str]:
        """Maximize f1_micro if it is the selection metric, else f1_macro (F1 of each label)."""
        scores, truth = sigmoid(logits), targets > 0.5
        curves = [threshold_curve(scores[:, c], truth[:, c]) for c in range(len(self.classes))]
        if self.metric == "f1_micro":
            metric, indices = "f1_micro", best_micro_f1_indices(curves)
        else:
            metric = "f1_macro"
            indices = [best_index(curve.f1(), curve.thresholds) for curve in curves]
        thresholds = [
            float(curve.thresholds[index]) for curve, index in zip(curves, indices, strict=True)
        ]
        return thresholds, metric

    def count_distillation_terms(self, batch: Batch) -> int:
        return len(batch) * len(self.classes)

    def distillation_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        return bernoulli_kl_loss(logits, teacher, temperature)

    def prediction_agreement(
        self, logits_a: np.ndarray, logits_b: np.ndarray, features: FeatureTable
    ) -> float:
        return float(((logits_a >= 0) == (logits_b >= 0)).all(1).mean())

    def compute_scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        truth, predicted = targets > 0.5, self.predict_classes(logits)
        true_positives = np.logical_and(truth, predicted)
        losses = -np.where(truth, log_sigmoid(logits), log_sigmoid(-logits))
        areas, precisions = _ranking_scores(truth, logits)
        f1_per_label = f1_score(true_positives.sum(0), truth.sum(0), predicted.sum(0))
        columns = zip(areas, precisions, f1_per_label, truth.sum(0), strict=True)
        per_label = {
            f"{name}/{metric}": float(value)
            for name, values in zip(self.classes, columns, strict=True)
            for metric, value in zip(_LABEL_METRICS, values, strict=True)
        }
        return per_label | {
            "roc_auc_macro": _mean_of_defined(areas),
            "average_precision_macro": _mean_of_defined(precisions),
            "f1_micro": f1_score(true_positives.sum(), truth.sum(), predicted.sum()),
            "f1_macro": f1_per_label.mean(),
            "f1_samples": f1_score(
                true_positives.sum(1), truth.sum(1), predicted.sum(1), 1.0
            ).mean(),
            "accuracy": (truth == predicted).all(1).mean(),
            "loss": losses.mean(),
        }

    def metric_inputs(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray]:
        """0 and 1 [rows, C]; probabilities [rows, C]."""
        labels = features.read_column("labels").astype(np.int64)
        return labels, sigmoid(logits.astype(np.float64))

    def row_statistics(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Per label: true positive, true, predicted; then F1, exact match and loss of the row."""
        truth, predicted = targets > 0.5, self.predict_classes(logits)
        true_positives = np.logical_and(truth, predicted)
        losses = -np.where(truth, log_sigmoid(logits), log_sigmoid(-logits))
        f1_per_row = f1_score(true_positives.sum(1), truth.sum(1), predicted.sum(1), 1.0)
        row_metrics = np.stack([f1_per_row, (truth == predicted).all(1), losses.mean(1)], 1)
        return np.concatenate([true_positives, truth, predicted, row_metrics], 1)

    def row_answers(self, logits: np.ndarray, features: FeatureTable) -> RowAnswers:
        """The label sets, with the F1 of each row."""
        truth = features.read_column("labels") > 0.5
        predicted = self.predict_classes(logits.astype(np.float64))
        true_positives = np.logical_and(truth, predicted).sum(1)
        return RowAnswers(
            self._label_texts(truth),
            self._label_texts(predicted),
            (truth == predicted).all(1),
            f1_score(true_positives, truth.sum(1), predicted.sum(1), 1.0),
        )

    def _label_texts(self, has_label: np.ndarray) -> list[str]:
        """The names of the labels of each row of ``has_label`` [rows, C]."""
        return [
            ", ".join(self.classes[c] for c in np.flatnonzero(row)) or "none" for row in has_label
        ]

    def metrics_from_statistics(
        self, statistics: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        sums, rows = weights @ statistics, weights.sum(1)
        true_positives, truth, predicted = sums[:, :-3].reshape(len(weights), 3, -1).swapaxes(0, 1)
        return {
            "f1_micro": f1_score(true_positives.sum(1), truth.sum(1), predicted.sum(1)),
            "f1_macro": f1_score(true_positives, truth, predicted).mean(1),
            "f1_samples": sums[:, -3] / rows,
            "accuracy": sums[:, -2] / rows,
            "loss": sums[:, -1] / rows,
        }

    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """``labels`` whose probability reaches the threshold, and the ``scores`` of all by name.

        With calibrated sets, also ``prediction_set``, the labels that may be true, the most
        probable first, and ``abstain``: whether they differ from ``labels``.
        """
        for row, predicted in zip(
            sigmoid(logits).tolist(), self.predict_classes(logits), strict=True
        ):
            scores = dict(zip(self.classes, row, strict=True))
            labels = [
                name
                for name, is_predicted in zip(self.classes, predicted, strict=True)
                if is_predicted
            ]
            prediction: dict[str, Any] = {"labels": labels, "scores": scores}
            if self.conformal is not None:
                names = self.names_in_set(row)
                prediction |= {"prediction_set": names, "abstain": set(names) != set(labels)}
            yield prediction

    def conformal_scores(self, logits: np.ndarray, features: FeatureTable) -> np.ndarray:
        """1 − p of the least probable true label; 0 for a row without labels."""
        truth = features.read_column("labels") > 0.5
        return np.where(truth, 1 - sigmoid(logits), 0.0).max(1)

    def set_metrics(
        self, logits: np.ndarray, features: FeatureTable, rows: np.ndarray
    ) -> dict[str, float]:
        """``coverage``: the share of rows whose set has all true labels; size and abstention."""
        is_in_set = self.class_sets(sigmoid(logits[rows]))
        truth = features.read_column("labels")[rows] > 0.5
        predicted = self.predict_classes(logits[rows])
        return {
            "coverage": float((is_in_set | ~truth).all(1).mean()),
            "mean_set_size": float(is_in_set.sum(1).mean()),
            "abstention": float((is_in_set != predicted).any(1).mean()),
        }

    def class_probabilities(self, logits: np.ndarray, features: FeatureTable) -> ClassProbabilities:
        return ClassProbabilities(sigmoid(logits), features.read_column("labels") > 0.5)

    def prediction_findings(self, logits: np.ndarray, features: FeatureTable) -> Iterator[Finding]:
        """Whether no row gets a label, and whether other thresholds would give a higher F1."""
        truth = features.read_column("labels") > 0.5
        if not truth.any() or not are_finite(logits):
            return
        rows, predicted = len(truth), self.predict_classes(logits)
        if not predicted.any():
            yield Finding(
                "no_predicted_label",
                f"No label is predicted for any of the {rows:,} validation rows;"
                f" {int(truth.any(1).sum()):,} of them have one",
                rows,
                rows,
                "",
                "Train longer, or set tune_threshold=true for lower thresholds",
            )
        if self.threshold == _DEFAULT_THRESHOLD:
            yield from self._find_better_thresholds(logits, truth, predicted)

    def _find_better_thresholds(
        self, logits: np.ndarray, truth: np.ndarray, predicted: np.ndarray
    ) -> Iterator[Finding]:
        scores = sigmoid(logits.astype(np.float64))
        curves = [threshold_curve(scores[:, c], truth[:, c]) for c in range(len(self.classes))]
        best = micro_f1(curves, best_micro_f1_indices(curves))
        counts = np.logical_and(truth, predicted).sum(0), truth.sum(0), predicted.sum(0)
        current = float(f1_score(*(count.sum() for count in counts)))
        if best - current < _LARGE_F1_GAIN:
            return
        best_per_label = np.array([curve.f1().max() for curve in curves])
        gains = best_per_label - f1_score(*counts)
        label_index = int(gains.argmax())
        curve = curves[label_index]
        threshold = float(curve.thresholds[int(curve.f1().argmax())])
        yield Finding(
            "thresholds_far_from_best",
            f"f1_micro is {current:.4f} with the threshold 0.5 and {best:.4f} with the best"
            " threshold per label",
            int((gains >= _LARGE_F1_GAIN).sum()),
            len(self.classes),
            f"the best threshold of {quote_value(self.classes[label_index])} is {threshold:.3g}",
            "Set tune_threshold=true",
        )

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        truth, rows = features.read_column("labels") > 0.5, features.read_column("row")
        predicted, probabilities = self.predict_classes(logits), sigmoid(logits)
        true_positives = np.logical_and(truth, predicted)
        areas, precisions = _ranking_scores(truth, logits.astype(np.float64))
        yield class_score_table(
            true_positives.sum(0),
            truth.sum(0),
            predicted.sum(0),
            self.classes,
            {"ROC-AUC": areas.tolist(), "average precision": precisions.tolist()},
        )

        def make_line(feature: int) -> list[TableCell]:
            row = int(rows[feature])
            label_lists = self._label_texts(np.stack([truth[feature], predicted[feature]]))
            return [
                format_row_location(features.rows, row),
                format_row_text(features.rows, row),
                *label_lists,
            ]

        error_confidence = np.where(truth, 1 - probabilities, probabilities).max(1)
        yield from example_tables(
            ("row", "text", "true labels", "predicted labels"),
            make_line,
            (
                np.where((truth == predicted).all(1), -np.inf, error_confidence),
                "Rows with a wrong label. Highest confidence first.",
            ),
            (
                -np.abs(probabilities - 0.5).min(1),
                "Rows with a label whose probability is close to 0.5.",
            ),
        )


def _ranking_scores(truth: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC-AUC and average precision of each label [C]; NaN where they are undefined."""
    columns = list(zip(truth.T, logits.T, strict=True))
    areas = np.array([roc_auc(*column) for column in columns])
    return areas, np.array([average_precision(*column) for column in columns])


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")
