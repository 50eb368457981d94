"""One to five stars per text: learnt as a number, answered as a whole number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from bertft.data.batch import Batch
from bertft.data.rows import RowError
from bertft.tasks.regression import RegressionTask
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.text_schema import TextRowSchema

__all__ = ["StarRows", "Stars", "code", "max_error"]


class StarRows(TextRowSchema):
    """Rows with a text and a label from 1 to 5."""

    def parse(self, fields: Sequence[Any], split: str, ignored: list[str]) -> list[Any]:
        row = super().parse(fields, split, ignored)
        if self.label_parser is not None and row[-1] is not None and not 1 <= row[-1] <= 5:
            raise RowError(
                "label is not 1 to 5 stars", f"the label {row[-1]:g} is not 1 to 5 stars"
            )
        return row

    def label_statistics(self, table: pa.Table) -> dict[str, float]:
        return super().label_statistics(table)


class Stars(RegressionTask):
    """ℓ = the Huber loss of the number of stars."""

    name = "stars"
    prediction_fields = ("stars", "score")
    default_metric = "exact_stars"
    answer_noun = "stars"

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("exact_stars", *super().metric_names)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        values = logits.float().squeeze(-1)
        return smooth_l1_loss(values, batch.labels["labels"].float(), reduction="sum")

    def compute_scores(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        exact = (_stars(logits[:, 0]) == targets).mean()
        return {"exact_stars": exact, **super().compute_scores(logits, targets)}

    def row_answers(self, logits: np.ndarray, features: Any) -> RowAnswers:
        truth, stars = features.read_column("labels"), _stars(logits[:, 0])
        texts = ([f"{value:g}" for value in values.tolist()] for values in (truth, stars))
        return RowAnswers(*texts, is_right=truth == stars)

    def decode_predictions(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        for value, stars in zip(logits[:, 0].tolist(), _stars(logits[:, 0]).tolist(), strict=True):
            yield {"stars": int(stars), "score": value}


def _stars(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 1, 5)


def max_error(task: Any, logits: np.ndarray, features: Any) -> float:
    """The largest error of all rows."""
    return float(np.abs(logits[:, 0] - features.read_column("labels")).max())


def code(folder: str, form: str, labels: Sequence[str] | None, max_length: int | None) -> str:
    """The lines of the model card."""
    return f"""from transformers import pipeline

rate = pipeline("text-classification", {folder!r}, function_to_apply="none")
print(round(rate("A text to rate.")[0]["score"]), "stars")"""
