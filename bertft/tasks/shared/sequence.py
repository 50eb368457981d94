"""A task that answers each row once: texts in, one vector of logits [C] a row out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bertft.data.batch import Batch
from bertft.tasks.shared.classes import listed_classes
from bertft.tasks.shared.encoding import encode_texts
from bertft.tasks.task import BaseTask, Encoder

__all__ = ["SequenceTask"]


class SequenceTask(BaseTask):
    """Adds to the contract: ``targets`` (labels of rows → numbers) and ``scores`` (the metrics)."""

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    problem_type: ClassVar[str]  # transformers' word for the loss of this head

    @classmethod
    def carried_by(cls, model_config: Mapping[str, Any]) -> bool:
        heads = model_config.get("architectures") or []
        if not any(head.endswith("ForSequenceClassification") for head in heads):
            return False
        stated = model_config.get("problem_type")
        if stated is None:  # transformers' own rule where a folder does not say
            one = len(listed_classes(model_config)) == 1
            stated = "regression" if one else "single_label_classification"
        return stated == cls.problem_type

    @abstractmethod
    def targets(self, labels: Sequence[Any]) -> np.ndarray:
        """The feature column ``labels``: [rows] or [rows, C]."""

    @abstractmethod
    def scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every metric from finite fp64 logits [rows, C] and the targets of at least one row."""

    @abstractmethod
    def row_terms(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """``by_row``'s terms [rows, K], from what ``scores`` is given."""

    def by_row(self, logits: np.ndarray, features: Any) -> tuple[np.ndarray, np.ndarray] | None:
        if len(logits) == 0 or not np.isfinite(logits).all():
            return None
        targets = features.whole("labels")
        return features.whole("row"), self.row_terms(logits.astype(np.float64), targets)

    def encoder(self, tokenizer: Any, max_length: int) -> Encoder:
        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            columns = encode_texts(tokenizer, rows["text"], rows.get("text_pair"), max_length)
            columns["row"] = np.arange(len(rows["text"]), dtype=np.int64)
            if rows.get("label") is not None:
                columns["labels"] = self.targets(rows["label"])
            return columns

        return encode

    def terms(self, batch: Batch) -> int:
        return int(batch.labels["labels"].numel())

    def metrics(self, logits: np.ndarray, features: Any) -> dict[str, float]:
        """All metrics; NaN, which never wins, over no rows or where a logit is not finite."""
        if len(logits) == 0 or not np.isfinite(logits).all():
            return dict.fromkeys(self.metric_names, float("nan"))
        targets = features.whole("labels")
        values = self.scores(logits.astype(np.float64), targets)
        return {name: float(values[name]) for name in self.metric_names}
