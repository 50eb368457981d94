"""A class for each word of a sentence, and the entities that neighbouring words make.

    ℓ = Σ_w −log softmax(z_w)_{y_w}        z_w [C]: logits of the first token of word w

Words of a sentence longer than the model's input are answered in windows that overlap, each word
in one of them. Metrics: precision, recall and F1 of whole entities as conlleval and seqeval count
them, strictly too, and by type (``tagging.scores``); accuracy and mean loss of words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.data.batch import Batch
from bertft.data.tagging.schemes import class_tags
from bertft.errors import DataError
from bertft.runs.exhibits import Exhibit
from bertft.tasks.shared.classes import class_names, class_numbers, listed_classes
from bertft.tasks.shared.scores import log_softmax, precise, softmax
from bertft.tasks.tagging.encoding import IGNORED, encode_words
from bertft.tasks.tagging.entities import entities
from bertft.tasks.tagging.exhibits import Answered, exhibits
from bertft.tasks.tagging.scores import (
    entity_counts,
    entity_scores,
    score_names,
    scores_of_counts,
    types_of,
)
from bertft.tasks.task import BaseTask, Encoder

__all__ = ["Task"]


class Task(BaseTask):
    """Features: ``word`` and ``labels``, ragged as ``input_ids`` (see ``tagging.encoding``)."""

    name = "token_classification"
    answer_fields = ("text", "spans")
    auto_class = "AutoModelForTokenClassification"
    level = "token"
    default_metric = "f1"

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.classes = class_names(labels, self.name)
        self.scheme, self.tags = class_tags(self.classes)
        if "strict" in types_of(self.tags):
            raise DataError(
                "a type of entities is called 'strict', as scores are that follow the scheme",
                where="data.label", hint="Call it otherwise",
            )  # fmt: skip
        super().__init__(config, labels)

    @classmethod
    def carried_by(cls, model_config: Mapping[str, Any]) -> bool:
        heads = model_config.get("architectures") or []
        return any(head.endswith("ForTokenClassification") for head in heads)

    @classmethod
    def labels_of(cls, model_config: Mapping[str, Any]) -> list[str]:
        return listed_classes(model_config)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*score_names(self.tags), "accuracy", "loss")

    @property
    def choosing(self) -> tuple[str, ...]:
        return tuple(name for name in self.metric_names if not name.endswith("/support"))

    def model_settings(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.classes),
            "id2label": dict(enumerate(self.classes)),
            "label2id": {name: number for number, name in enumerate(self.classes)},
        }

    def encoder(self, tokenizer: Any, max_length: int) -> Encoder:
        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            tags = rows.get("label")
            labels = tags and [class_numbers(row, self.classes) for row in tags]
            return encode_words(tokenizer, rows, labels, max_length)

        return encode

    def terms(self, batch: Batch) -> int:
        return int((batch.labels["labels"] != IGNORED).sum())

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        labels = batch.labels["labels"]
        return F.cross_entropy(precise(logits), labels, ignore_index=IGNORED, reduction="sum")

    def agreement(self, one: np.ndarray, other: np.ndarray, features: Any) -> float:
        """Share of words that both give the same tag."""
        own, _, _ = _words(features)
        return super().agreement(one[own], other[own], features)

    def metrics(self, logits: np.ndarray, features: Any) -> dict[str, float]:
        """All metrics; NaN, which never wins, over no words or where a logit is not finite."""
        own, _, sizes = _words(features)
        logits = logits[own]
        if len(logits) == 0 or not np.isfinite(logits).all():
            return dict.fromkeys(self.metric_names, float("nan"))
        true = features.whole("labels")[own]
        given = logits.argmax(1)
        values = entity_scores(self.tags, self.scheme, sizes, true, given)
        values["accuracy"] = float((true == given).mean())
        values["loss"] = float(-log_softmax(logits)[np.arange(len(true)), true].mean())
        return values

    def by_row(self, logits: np.ndarray, features: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """The sentence's counts of entities; then its words, the right ones, their loss."""
        own, rows, sizes = _words(features)
        logits = logits[own]
        if len(logits) == 0 or not np.isfinite(logits).all():
            return None
        true = features.whole("labels")[own]
        given, words = logits.argmax(1), np.arange(len(true))
        counts = entity_counts(self.tags, self.scheme, sizes, true, given)
        firsts = np.cumsum(sizes) - sizes
        losses = -log_softmax(logits)[words, true]
        sums = [np.add.reduceat(each, firsts) for each in ((true == given).astype(int), losses)]
        return np.asarray(rows), np.concatenate([counts, np.stack([sizes, *sums], 1)], 1)

    def of_rows(self, terms: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = weights @ terms
        words, right, loss = sums[:, -3:].T
        values = scores_of_counts(self.tags, sums[:, :-3])
        return values | {"accuracy": right / words, "loss": loss / words}

    def answers(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        """``text``, and ``spans`` of it: label, start and end in characters, text, score.

        The score is the mean probability of the span's words to be of the class they were given.
        """
        own, owner, sizes = _words(features)
        probabilities = softmax(logits[own])
        given, scores = probabilities.argmax(1), probabilities.max(1)
        places = np.split(np.arange(len(given)), np.cumsum(sizes)[:-1])
        columns = [features.rows.column(name) for name in ("text", "starts", "stops")]
        for number, words in zip(owner, places, strict=True):
            text, starts, stops = (column[number] for column in columns)
            tags = [self.tags[each] for each in given[words]]
            spans = []
            for kind, first, last in entities(tags):
                start, end = starts[first], stops[last]
                score = float(scores[words[first : last + 1]].mean())
                span = {"label": kind, "start": start, "end": end, "text": text[start:end]}
                spans.append({**span, "score": score})
            yield {"text": text, "spans": spans}

    def exhibits(self, logits: np.ndarray, features: Any) -> Iterator[Exhibit]:
        own, owner, sizes = _words(features)
        true = features.whole("labels")[own]
        probabilities = softmax(logits[own].astype(np.float64))
        return exhibits(Answered(self.tags, owner, sizes, true, probabilities), features.rows)


def _words(features: Any) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Which tokens stand for a word, bool [tokens]; the rows that have words, and how many each.

    The words come in order, for so do rows, the windows of a row, and what each of them answers.
    """
    own = features.whole("word") >= 0
    rows = np.repeat(features.whole("row"), features.lengths)[own]
    found, sizes = np.unique(rows, return_counts=True)
    return own, found.tolist(), sizes
