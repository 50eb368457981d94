"""A task that answers each row once: texts in, one vector of logits [C] a row out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bertft.data.batch import Batch
from bertft.tasks.shared.classes import class_names_in_config
from bertft.tasks.shared.encoding import encode_texts
from bertft.tasks.task import BaseTask, EncodeFunction

__all__ = ["SequenceTask"]


class SequenceTask(BaseTask):
    """Adds to the contract: ``encode_labels`` (labels of rows → numbers) and ``compute_scores`` (the metrics)."""

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    problem_type: ClassVar[str]  # transformers' word for the loss of this head

    @classmethod
    def matches_config(cls, model_config: Mapping[str, Any]) -> bool:
        heads = model_config.get("architectures") or []
        if not any(head.endswith("ForSequenceClassification") for head in heads):
            return False
        problem_type = model_config.get("problem_type")
        if problem_type is None:  # transformers' own rule where a folder does not say
            is_single_output = len(class_names_in_config(model_config)) == 1
            problem_type = "regression" if is_single_output else "single_label_classification"
        return problem_type == cls.problem_type

    @abstractmethod
    def encode_labels(self, labels: Sequence[Any]) -> np.ndarray:
        """The feature column ``labels``: [rows] or [rows, C]."""

    @abstractmethod
    def compute_scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every metric from finite fp64 logits [rows, C] and the targets of at least one row."""

    @abstractmethod
    def row_statistics(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """``by_row``'s terms [rows, K], from what ``compute_scores`` is given."""

    def per_row_statistics(self, logits: np.ndarray, features: Any) -> tuple[np.ndarray, np.ndarray] | None:
        if len(logits) == 0 or not np.isfinite(logits).all():
            return None
        targets = features.whole("labels")
        return features.whole("row"), self.row_statistics(logits.astype(np.float64), targets)

    def make_encoder(self, tokenizer: Any, max_length: int) -> EncodeFunction:
        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            columns = encode_texts(tokenizer, rows["text"], rows.get("text_pair"), max_length)
            columns["row"] = np.arange(len(rows["text"]), dtype=np.int64)
            if rows.get("label") is not None:
                columns["labels"] = self.encode_labels(rows["label"])
            return columns

        return encode

    def count_loss_terms(self, batch: Batch) -> int:
        return int(batch.labels["labels"].numel())

    def compute_metrics(self, logits: np.ndarray, features: Any) -> dict[str, float]:
        """All metrics; NaN, which never wins, over no rows or where a logit is not finite."""
        if len(logits) == 0 or not np.isfinite(logits).all():
            return dict.fromkeys(self.metric_names, float("nan"))
        targets = features.whole("labels")
        values = self.compute_scores(logits.astype(np.float64), targets)
        return {name: float(values[name]) for name in self.metric_names}
