"""One class per word of a sentence, and the entities that adjacent words form.

    ℓ = Σ_w −log softmax(z_w)_{y_w}        z_w [C]: logits of the first token of word w

A sentence longer than the model's input is split into overlapping windows, and each word is
predicted in one of them. Metrics: precision, recall and F1 of entities as in conlleval and seqeval,
also in strict mode and per type (``token_classification.metrics``); accuracy and mean loss of
words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.data.batch import Batch
from bertft.data.features import EncodeFunction, FeatureTable
from bertft.data.findings import Finding
from bertft.errors import DataError
from bertft.tasks.class_probabilities import ClassProbabilities
from bertft.tasks.report_items import ReportItem
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.input_free import InputFreeLosses, token_class_losses
from bertft.tasks.shared.logits import are_finite, log_softmax, softmax
from bertft.tasks.shared.losses import to_loss_precision
from bertft.tasks.shared.metrics import f1_score
from bertft.tasks.shared.sequence_task import (
    check_class_names,
    class_names_in_config,
    class_numbers,
    classification_head_config,
)
from bertft.tasks.task import BaseTask
from bertft.tasks.token_classification.encoding import IGNORE_INDEX, encode_words
from bertft.tasks.token_classification.metrics import (
    count_entities,
    entity_metric_names,
    entity_metrics,
    entity_types,
    metrics_from_counts,
)
from bertft.tasks.token_classification.report import (
    TagPredictions,
    format_entities,
    tag_report_items,
)
from bertft.tasks.token_classification.tag_schemes import (
    OUTSIDE,
    extract_entities,
    parse_class_tags,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenClassificationTask"]


class TokenClassificationTask(BaseTask):
    """Features: ``word`` and ``labels``, ragged like ``input_ids`` (see ``encoding``)."""

    name = "token_classification"
    label_key = "true_spans"
    prediction_fields = ("text", "spans")
    auto_class = "AutoModelForTokenClassification"
    level = "token"
    answer_noun = "entities"
    answer_score = "F1"
    default_metric = "f1"

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        self.classes = check_class_names(labels, self.name)
        self.scheme, self.tags = parse_class_tags(self.classes)
        if "strict" in entity_types(self.tags):
            raise DataError(
                "the entity type 'strict' is reserved for the metrics of strict mode",
                where="data.label",
                hint="Rename the type",
            )
        super().__init__(config, labels)

    @classmethod
    def class_names_from_config(cls, model_config: Mapping[str, Any]) -> list[str]:
        return class_names_in_config(model_config)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*entity_metric_names(self.tags), "accuracy", "loss")

    @property
    def selection_metrics(self) -> tuple[str, ...]:
        return tuple(name for name in self.metric_names if not name.endswith("/support"))

    def head_config(self) -> dict[str, Any]:
        return classification_head_config(self.classes)

    def make_encoder(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodeFunction:
        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            tags = rows.get("label")
            labels = tags and [class_numbers(row, self.classes) for row in tags]
            return encode_words(tokenizer, rows, labels, max_length)

        return encode

    def count_loss_terms(self, batch: Batch) -> int:
        return int((batch.labels["labels"] != IGNORE_INDEX).sum())

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        labels = batch.labels["labels"]
        return F.cross_entropy(
            to_loss_precision(logits), labels, ignore_index=IGNORE_INDEX, reduction="sum"
        )

    def input_free_losses(self, features: FeatureTable) -> InputFreeLosses:
        """Of the share of each tag."""
        return token_class_losses(features, len(self.classes), IGNORE_INDEX)

    def prediction_agreement(
        self, logits_a: np.ndarray, logits_b: np.ndarray, features: FeatureTable
    ) -> float:
        """Fraction of words with the same predicted tag."""
        is_word, _, _ = _word_tokens(features)
        return super().prediction_agreement(logits_a[is_word], logits_b[is_word], features)

    def compute_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """All metrics; NaN without words or if a logit is not finite."""
        is_word, _, sizes = _word_tokens(features)
        logits = logits[is_word]
        if not are_finite(logits):
            return self.undefined_metrics()
        targets = features.read_column("labels")[is_word]
        predicted = logits.argmax(1)
        values = entity_metrics(self.tags, self.scheme, sizes, targets, predicted)
        values["accuracy"] = float((targets == predicted).mean())
        values["loss"] = float(-log_softmax(logits)[np.arange(len(targets)), targets].mean())
        return values

    def per_row_statistics(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Per sentence: the entity counts; then words, correct words and summed loss."""
        is_word, rows, sizes = _word_tokens(features)
        logits = logits[is_word]
        if not are_finite(logits):
            return None
        targets = features.read_column("labels")[is_word]
        predicted, words = logits.argmax(1), np.arange(len(targets))
        counts = count_entities(self.tags, self.scheme, sizes, targets, predicted)
        sentence_starts = np.cumsum(sizes) - sizes
        losses = -log_softmax(logits)[words, targets]
        sums = [
            np.add.reduceat(per_word, sentence_starts)
            for per_word in ((targets == predicted).astype(int), losses)
        ]
        return np.asarray(rows), np.concatenate([counts, np.stack([sizes, *sums], 1)], 1)

    def row_answers(self, logits: np.ndarray, features: FeatureTable) -> RowAnswers:
        """The entities of each sentence, with their F1. They are right if all are."""
        is_word, rows, sizes = _word_tokens(features)
        classes = (features.read_column("labels")[is_word], logits[is_word].argmax(1))
        ends = np.cumsum(sizes)[:-1]
        texts: tuple[list[str], list[str]] = ([], [])
        counts = []
        for row, *sentence in zip(
            rows, *(np.split(values, ends) for values in classes), strict=True
        ):
            entities = [
                extract_entities([self.tags[number] for number in numbers]) for numbers in sentence
            ]
            for column, entity_list in zip(texts, entities, strict=True):
                column.append(format_entities(entity_list, features.rows, row))
            common = len(set(entities[0]) & set(entities[1]))
            counts.append((common, len(entities[0]), len(entities[1])))
        common_counts, true_counts, predicted_counts = np.array(counts).T
        scores = f1_score(common_counts, true_counts, predicted_counts, 1.0)
        return RowAnswers(*texts, scores == 1, scores)

    def metrics_from_statistics(
        self, statistics: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        sums = weights @ statistics
        words, correct, loss = sums[:, -3:].T
        values = metrics_from_counts(self.tags, sums[:, :-3])
        return values | {"accuracy": correct / words, "loss": loss / words}

    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """``text``, and ``spans`` of it: label, start and end in characters, text, score.

        The score is the mean probability of the predicted classes of the span's words.
        """
        is_word, sentence_rows, sizes = _word_tokens(features)
        probabilities = softmax(logits[is_word])
        predicted, scores = probabilities.argmax(1), probabilities.max(1)
        for text, words, spans in self._iter_spans(features, predicted, sentence_rows, sizes):
            for span, first, last in spans:
                span["score"] = float(scores[words[first : last + 1]].mean())
            yield {"text": text, "spans": [span for span, _, _ in spans]}

    def decode_labels(self, features: FeatureTable) -> Iterator[dict[str, Any]]:
        """The labelled spans, without a score."""
        is_word, sentence_rows, sizes = _word_tokens(features)
        labels = features.read_column("labels")[is_word]
        for _, _, spans in self._iter_spans(features, labels, sentence_rows, sizes):
            yield {self.label_key: [span for span, _, _ in spans]}

    def _iter_spans(
        self, features: FeatureTable, classes: np.ndarray, sentences: list[int], sizes: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray, list[tuple[dict[str, Any], int, int]]]]:
        """Text, numbers of the words, and spans with first and last word, of each sentence.

        ``classes`` [words]: the class of each word; ``sizes``: the words of each of ``sentences``.
        """
        word_ranges = np.split(np.arange(len(classes)), np.cumsum(sizes)[:-1])
        columns = [features.rows.column(name) for name in ("text", "starts", "stops")]
        for number, words in zip(sentences, word_ranges, strict=True):
            text, starts, stops = (column[number] for column in columns)
            tags = [self.tags[class_index] for class_index in classes[words]]
            spans = []
            for entity_type, first, last in extract_entities(tags):
                start, end = starts[first], stops[last]
                span = {"label": entity_type, "start": start, "end": end, "text": text[start:end]}
                spans.append((span, first, last))
            yield text, words, spans

    def class_probabilities(self, logits: np.ndarray, features: FeatureTable) -> ClassProbabilities:
        """Of the words; ``sizes`` are the words of each sentence."""
        is_word, _, sizes = _word_tokens(features)
        labels = features.read_column("labels")[is_word]
        return ClassProbabilities(softmax(logits[is_word]), labels, sizes)

    def prediction_findings(self, logits: np.ndarray, features: FeatureTable) -> Iterator[Finding]:
        """Whether no entity is predicted."""
        is_word, sentence_rows, _ = _word_tokens(features)
        targets = features.read_column("labels")[is_word]
        is_outside = np.array([tag[0] == OUTSIDE for tag in self.tags])
        predicted = logits[is_word].argmax(1)
        if not is_outside.any() or is_outside[targets].all() or not is_outside[predicted].all():
            return
        yield Finding(
            "no_predicted_entity",
            f"No entity is predicted in any of the {len(sentence_rows):,} validation sentences",
            len(sentence_rows),
            len(sentence_rows),
            "",
            "Raise the learning rate or the number of steps",
        )

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        is_word, sentence_rows, sizes = _word_tokens(features)
        targets = features.read_column("labels")[is_word]
        probabilities = softmax(logits[is_word].astype(np.float64))
        return tag_report_items(
            TagPredictions(self.tags, sentence_rows, sizes, targets, probabilities), features.rows
        )


def _word_tokens(features: FeatureTable) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Which tokens represent a word, bool [tokens]; the rows with words, and their word counts.

    The words are in order, because rows, windows and the predicted words of a window are.
    """
    is_word = features.read_column("word") >= 0
    rows = np.repeat(features.read_column("row"), features.lengths)[is_word]
    rows_with_words, sizes = np.unique(rows, return_counts=True)
    return is_word, rows_with_words.tolist(), sizes
