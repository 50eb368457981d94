"""Answers that are spans of a context: SQuAD v1 and v2, CMRC 2018.

    ℓ = ½ (−log softmax(s)_a − log softmax(e)_b)      a window's logits s, e over its own tokens;
                                                     (a, b) the answer's first and last token,
                                                     [CLS] where the window does not hold it

A context that is too long is split into windows that overlap by data.stride tokens; a question's
answer is the best span of all its windows. With data.unanswerable (SQuAD v2) the [CLS] token
represents "no answer", which is predicted where p(no answer) > threshold.

Metrics, in percent, with the names of the official script: exact, f1; with data.unanswerable also
HasAns_… and NoAns_… (left out if there are no such questions), and best_exact, best_f1 with
their thresholds. f1 selects the checkpoint, at the threshold that predict uses, because best_f1
fits its threshold to the rows that it is measured on. data.metric=best_f1 selects by it anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.data.batch import Batch, to_device
from bertft.data.features import EncodeFunction, FeatureTable
from bertft.data.findings import Finding
from bertft.data.rows import RowError
from bertft.errors import UsageError
from bertft.tasks.question_answering.decoding import BestSpans, find_best_spans
from bertft.tasks.question_answering.encoding import (
    DEFAULT_MAX_LENGTH,
    answer_positions,
    encode_windows,
    pair_template,
)
from bertft.tasks.question_answering.findings import (
    AnswerPositions,
    answer_findings,
    context_tokens,
)
from bertft.tasks.question_answering.metrics import (
    find_best_threshold,
    score_answers,
    summarize_scores,
)
from bertft.tasks.question_answering.report import QuestionPredictions, question_report_items
from bertft.tasks.report_items import ReportItem
from bertft.tasks.row_answers import RowAnswers
from bertft.tasks.shared.input_free import InputFreeLosses, count_tokens
from bertft.tasks.shared.logits import are_finite, segment_log_sum_exp
from bertft.tasks.shared.losses import pad_sequences, span_kl_loss, to_loss_precision
from bertft.tasks.task import BaseTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "QuestionAnsweringTask",
    "span_loss",
]


def span_loss(logits: Tensor, lengths: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Σ ℓ over the sequences; ``logits`` [N, 2], ``lengths`` [B], ``start`` and ``end`` [B]."""
    start_loss = F.cross_entropy(pad_sequences(logits[:, 0], lengths), start, reduction="sum")
    end_loss = F.cross_entropy(pad_sequences(logits[:, 1], lengths), end, reduction="sum")
    return (start_loss + end_loss) / 2


_FEATURE_VERSION = 2  # raise it when the same rows should give other features
_TARGETS = ("start_position", "end_position")


class QuestionAnsweringTask(BaseTask):
    """Features: one per window; ``char_start``, ``char_end`` ragged int32, −1 outside the context.

    ``start_position``, ``end_position`` int64 [windows]: target tokens of the window; −1 where the
    answer's offset is unknown, which does not occur in training rows.
    """

    name = "question_answering"
    label_key = "true_answers"
    reads_pairs = True
    prediction_fields = ("answer", "score", "start", "end")
    auto_class = "AutoModelForQuestionAnswering"
    level = "token"
    text_columns = ("question",)
    answer_score = "F1"
    label_columns = ("start_position", "end_position", "char_start")
    default_metric = "f1"
    default_max_length = DEFAULT_MAX_LENGTH
    prediction_settings = (
        "stride",
        "unanswerable",
        "max_answer_length",
        "no_answer_threshold",
        "scorer",
    )
    threshold: float | None = None

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        super().__init__(config, None)
        self.threshold = config.no_answer_threshold if config.unanswerable else None

    @property
    def metric_names(self) -> tuple[str, ...]:
        if not self.config.unanswerable:
            return ("f1", "exact", "loss")
        groups = [f"{group}_{name}" for group in ("HasAns", "NoAns") for name in ("exact", "f1")]
        best = [f"best_{name}{suffix}" for name in ("exact", "f1") for suffix in ("", "_thresh")]
        return ("f1", "exact", *groups, *best, "loss")

    @property
    def selection_metrics(self) -> tuple[str, ...]:
        return tuple(name for name in self.metric_names if not name.endswith("_thresh"))

    def head_config(self) -> dict[str, Any]:
        return {"num_labels": 2}

    def cache_key(self) -> list[Any]:
        return [self.name, _FEATURE_VERSION, self.config.stride]

    def make_encoder(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodeFunction:
        stride = self.config.stride
        # With a question of one token.
        context_tokens = max_length - pair_template(tokenizer).size - 1
        if context_tokens <= stride:
            raise UsageError(
                f"windows of {max_length} tokens cannot overlap by {stride}: with a question, at"
                f" most {max(context_tokens, 0)} tokens of the context fit",
                where="data.stride",
                hint="Lower data.stride, or raise data.max_length",
            )
        has_token_types = "token_type_ids" in tokenizer.model_input_names

        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            windows = encode_windows(
                tokenizer, rows["question"], rows["context"], max_length, stride
            )
            columns: dict[str, Any] = {
                "input_ids": windows.input_ids,
                "char_start": windows.char_start,
                "char_end": windows.char_end,
                "row": windows.row,
            }
            if has_token_types:
                columns["token_type_ids"] = windows.token_type_ids
            if rows.get("label") is not None:
                start, end = answer_positions(windows, rows["label"], rows["start"])
                columns |= {"start_position": start, "end_position": end}
            return columns

        return encode

    def no_feature_error(self, max_length: int) -> RowError:
        return RowError(
            "question longer than the window",
            f"the question is too long: with data.max_length={max_length}, it leaves at most"
            f" {self.config.stride} tokens per window for the context, and windows overlap by"
            f" data.stride={self.config.stride}",
            hint="Shorten the question, or train with a larger data.max_length or a smaller"
            " data.stride",
        )

    def count_loss_terms(self, batch: Batch) -> int:
        return len(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        start, end = (batch.labels[name] for name in _TARGETS)
        return span_loss(to_loss_precision(logits), batch.lengths, start, end)

    def input_free_losses(self, features: FeatureTable) -> InputFreeLosses:
        """Of "no answer" with its share of the windows, and else any token of the context alike.

        Windows of validation rows without a target, as in ``_mean_loss``, have no term.
        """
        starts = features.read_column("start_position")
        is_known, is_empty = starts >= 0, starts == 0
        empty_share = is_empty.sum() / max(is_known.sum(), 1)
        choices = np.maximum(count_tokens(features, "char_start", 0), 1)
        with np.errstate(divide="ignore"):  # an outcome of share 0 has no window
            sums = np.where(
                is_empty, -np.log(empty_share), np.log(choices) - np.log1p(-empty_share)
            )
        losses = InputFreeLosses.of_labelled(np.where(is_known, sums, 0.0), 1, features)
        unlabelled = len(features) - len(starts)
        return replace(losses, terms=losses.terms * np.pad(is_known, (0, unlabelled)))

    def count_distillation_terms(self, batch: Batch) -> int:
        return len(batch)

    def distillation_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        """The mean over start and end, each over a window's context and its [CLS]."""
        visible = batch.labels["char_start"] >= 0
        first_tokens = torch.cumsum(batch.lengths, 0) - batch.lengths
        visible = visible.index_fill(0, to_device(first_tokens.numpy(), visible.device), True)
        return span_kl_loss(logits, teacher, batch.lengths, visible, temperature)

    @property
    def can_distill_unlabelled(self) -> bool:
        return False  # features without labels lack the position of the context

    def prediction_agreement(
        self, logits_a: np.ndarray, logits_b: np.ndarray, features: FeatureTable
    ) -> float:
        """Fraction of questions for which both models predict the same span, or no answer."""
        answers = []
        for logits in (logits_a, logits_b):
            _, spans = self._spans(logits, features)
            bounds = np.stack([spans.start, spans.end])
            answers.append(np.where(self._is_answered(spans), bounds, -1))
        return float((answers[0] == answers[1]).all(0).mean())

    def _is_answered(self, spans: BestSpans) -> np.ndarray:
        """Which questions are predicted to have an answer, bool [questions]."""
        is_answered = spans.start >= 0
        if self.threshold is None:
            return is_answered
        return is_answered & (spans.no_answer_probability() <= self.threshold)

    def compute_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """Metrics in percent, and the mean loss of the windows."""
        if not are_finite(logits):
            return self.undefined_metrics()
        rows, spans = self._spans(logits, features)
        scorer, texts = self.config.scorer, self._span_texts(rows, spans, features)
        golds, answerable = _gold_answers(rows, features)
        scores_at_threshold = score_answers(self._apply_threshold(texts, spans), golds, scorer)
        values = summarize_scores(scores_at_threshold, answerable, self.config.unanswerable)
        if self.config.unanswerable:
            answered = np.array([bool(text) for text in texts])
            for name, scores in score_answers(texts, golds, scorer).items():
                best = find_best_threshold(
                    scores, answered, spans.no_answer_probability(), answerable
                )
                values[f"best_{name}"], values[f"best_{name}_thresh"] = best
        values["loss"] = _mean_loss(logits, features)
        names = [name for name in self.metric_names if name in values or name == self.metric]
        return {name: float(values.get(name, "nan")) for name in names}

    def per_row_statistics(
        self, logits: np.ndarray, features: FeatureTable
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """``exact`` and ``f1`` in [0, 1], and whether the question has an answer."""
        if not are_finite(logits):
            return None
        rows, spans = self._spans(logits, features)
        golds, answerable = _gold_answers(rows, features)
        answers = self._apply_threshold(self._span_texts(rows, spans, features), spans)
        scores = score_answers(answers, golds, self.config.scorer)
        return rows, np.stack([scores["exact"], scores["f1"], answerable], 1).astype(np.float64)

    def row_answers(self, logits: np.ndarray, features: FeatureTable) -> RowAnswers:
        """The answers, which are right by exact match, with their F1."""
        rows, spans = self._spans(logits, features)
        golds, _ = _gold_answers(rows, features)
        answers = self._apply_threshold(self._span_texts(rows, spans, features), spans)
        scores = score_answers(answers, golds, self.config.scorer)
        return RowAnswers(
            [next(iter(gold), "no answer") for gold in golds],
            [answer or "no answer" for answer in answers],
            scores["exact"] == 1,
            scores["f1"],
        )

    def metrics_from_statistics(
        self, statistics: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        groups = {"": np.ones(len(statistics))}
        if self.config.unanswerable:
            groups |= {"HasAns_": statistics[:, 2], "NoAns_": 1 - statistics[:, 2]}
        values: dict[str, np.ndarray] = {}
        for group, in_group in groups.items():
            if in_group.any():  # NaN in a bootstrap sample without such questions
                size = weights @ in_group
                counted = np.where(size > 0, size, np.nan)
                values |= {
                    f"{group}{name}": 100 * (weights @ (statistics[:, column] * in_group)) / counted
                    for column, name in enumerate(("exact", "f1"))
                }
        return values

    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """``answer``, ``score`` (probability), ``start`` and ``end`` in characters of the context.

        "No answer" is an empty text from 0 to 0. ``id`` comes first if the row has one.
        """
        rows, spans = self._spans(logits, features)
        unanswerable = self.config.unanswerable
        is_answered = self._is_answered(spans)
        scores = spans.probability(is_answered, unanswerable)
        names = features.rows.column("id")
        spans_as_text = self._spans_as_text(rows, spans, features)
        for question, (text, start, end) in enumerate(spans_as_text):
            name = names[rows[question]]
            answer: dict[str, Any] = {} if name is None else {"id": name}
            if not is_answered[question]:
                text, start, end = "", 0, 0
            score = float(scores[question])
            yield answer | {"answer": text, "score": score, "start": start, "end": end}

    def prediction_findings(self, logits: np.ndarray, features: FeatureTable) -> Iterator[Finding]:
        """Whether nothing is answered, or all answers have the same position."""
        if not are_finite(logits):
            return
        rows, spans = self._spans(logits, features)
        is_answered = self._is_answered(spans)
        golds, is_answerable = _gold_answers(rows, features)
        offsets = features.rows.column("start")
        starts = np.array([offsets[row][0] if offsets[row] else -1 for row in rows])
        lengths = np.array([len(answers[0]) if answers else 0 for answers in golds])
        yield from answer_findings(
            AnswerPositions(
                np.where(is_answered, spans.start, -1), np.where(is_answered, spans.end, -1)
            ),
            AnswerPositions(starts, starts + lengths),
            is_answerable,
            context_tokens(
                features.read_column("row"),
                features.lengths,
                features.read_column("char_start"),
            ),
        )

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        rows, spans = self._spans(logits, features)
        is_answered, unanswerable = self._is_answered(spans), self.config.unanswerable
        texts = [text for text, _, _ in self._spans_as_text(rows, spans, features)]
        answers = [
            text if answered else "" for text, answered in zip(texts, is_answered, strict=True)
        ]
        labels = features.rows.column("label")
        golds = [labels[row] for row in rows]
        scores = score_answers(answers, golds, self.config.scorer)
        confidence = spans.probability(is_answered, unanswerable)
        return question_report_items(
            QuestionPredictions(rows, answers, golds, scores, confidence), features.rows
        )

    def _spans(self, logits: np.ndarray, features: FeatureTable) -> tuple[np.ndarray, BestSpans]:
        return find_best_spans(
            logits,
            features.lengths,
            features.read_column("char_start"),
            features.read_column("char_end"),
            features.read_column("row"),
            self.config.max_answer_length,
        )

    def _span_texts(self, rows: np.ndarray, spans: BestSpans, features: FeatureTable) -> list[str]:
        return [text for text, _, _ in self._spans_as_text(rows, spans, features)]

    def _apply_threshold(self, texts: list[str], spans: BestSpans) -> list[str]:
        """``texts``, empty for questions that are predicted to have no answer."""
        if self.threshold is None:
            return texts
        is_unanswered = spans.no_answer_probability() > self.threshold
        return [
            "" if unanswered else text
            for text, unanswered in zip(texts, is_unanswered, strict=True)
        ]

    @staticmethod
    def _spans_as_text(
        rows: np.ndarray, spans: BestSpans, features: FeatureTable
    ) -> Iterator[tuple[str, int, int]]:
        """Text (without surrounding white space), start and end of each best span."""
        contexts = features.rows.column("context")
        for row, start, end in zip(rows, spans.start, spans.end, strict=True):
            text = "" if start < 0 else contexts[row][start:end]
            stripped = text.strip()
            text_start = int(start) + len(text) - len(text.lstrip())
            yield stripped, text_start, text_start + len(stripped)


def _gold_answers(rows: np.ndarray, features: FeatureTable) -> tuple[list[list[str]], np.ndarray]:
    """The correct answers of each of ``rows``, and whether it has any."""
    labels = features.rows.column("label")
    golds = [labels[row] for row in rows]
    return golds, np.array([bool(answers) for answers in golds])


def _mean_loss(logits: np.ndarray, features: FeatureTable) -> float:
    """Mean of ℓ over the windows with a target, in fp64; NaN if no window has one."""
    sizes = features.lengths.astype(np.int64)
    window_starts = np.cumsum(sizes) - sizes
    total = 0.0
    for column, name in enumerate(_TARGETS):
        values = logits[:, column].astype(np.float64)
        targets = features.read_column(name)
        known = targets >= 0
        if not known.any():
            return float("nan")
        target_values = values[np.where(known, window_starts + targets, 0)]
        losses = segment_log_sum_exp(values, window_starts, sizes) - target_values
        total += float(losses[known].mean())
    return total / 2
