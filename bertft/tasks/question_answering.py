"""Answers that stand in a context: SQuAD v1 and v2, CMRC 2018.

    ℓ = ½ (−log softmax(s)_a − log softmax(e)_b)      a window's logits s, e over its own tokens;
                                                     (a, b) the answer's first and last token,
                                                     [CLS] where the window does not hold it

A context that is too long goes in windows that overlap by data.stride tokens; a question's answer
is the best span of all its windows. With data.unanswerable (SQuAD v2) [CLS] is no answer, given
where p(no answer) > threshold.

Metrics, in percent, with the official script's names: exact, f1; with data.unanswerable also
HasAns_… and NoAns_… (left out where there are no such questions), and best_exact, best_f1 with
their thresholds. f1 chooses the checkpoint, at the threshold that predict uses: best_f1 is fitted
to the very rows that it is measured on (data.metric=best_f1 takes it all the same).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.data.bad_rows import Fault
from bertft.data.batch import Batch, sent
from bertft.errors import UsageError
from bertft.runs.exhibits import Exhibit
from bertft.tasks.qa.exhibits import Answered, exhibits
from bertft.tasks.qa.loss import span_loss
from bertft.tasks.qa.scores import at_best_threshold, score_each, summary
from bertft.tasks.qa.spans import Spans, best_spans
from bertft.tasks.qa.targets import positions
from bertft.tasks.qa.windows import frame_of, windows_of
from bertft.tasks.shared import soft
from bertft.tasks.shared.scores import log_sum_exp, precise
from bertft.tasks.task import BaseTask, Encoder

__all__ = ["Task"]

_FEATURES = 2  # another number where features of the same rows become others
_TARGETS = ("start_position", "end_position")


class Task(BaseTask):
    """Features: a window each; ``char_start``, ``char_end`` ragged int32, −1 off the context.

    ``start_position``, ``end_position`` int64 [windows]: targets, counted in the window's tokens;
    −1 where the answer's place is not known, which rows to learn from have not.
    """

    name = "question_answering"
    reads_pairs = True
    answer_fields = ("answer", "score", "start", "end")
    auto_class = "AutoModelForQuestionAnswering"
    level = "token"
    label_columns = ("start_position", "end_position", "char_start")
    default_metric = "f1"
    default_max_length = 384
    answer_settings = (
        "stride", "unanswerable", "max_answer_length", "no_answer_threshold", "scorer",
    )  # fmt: skip
    threshold: float | None = None

    def __init__(self, config: DataConfig, labels: Sequence[str] | None) -> None:
        super().__init__(config, None)
        self.threshold = config.no_answer_threshold if config.unanswerable else None

    @classmethod
    def carried_by(cls, model_config: Mapping[str, Any]) -> bool:
        heads = model_config.get("architectures") or []
        return any(head.endswith("ForQuestionAnswering") for head in heads)

    @property
    def metric_names(self) -> tuple[str, ...]:
        if not self.config.unanswerable:
            return ("f1", "exact", "loss")
        groups = [f"{group}_{name}" for group in ("HasAns", "NoAns") for name in ("exact", "f1")]
        best = [f"best_{name}{what}" for name in ("exact", "f1") for what in ("", "_thresh")]
        return ("f1", "exact", *groups, *best, "loss")

    @property
    def choosing(self) -> tuple[str, ...]:
        return tuple(name for name in self.metric_names if not name.endswith("_thresh"))

    def model_settings(self) -> dict[str, Any]:
        return {"num_labels": 2}

    def key(self) -> list[Any]:
        return [self.name, _FEATURES, self.config.stride]

    def encoder(self, tokenizer: Any, max_length: int) -> Encoder:
        stride = self.config.stride
        room = max_length - frame_of(tokenizer).size - 1  # beside a question of one token
        if room <= stride:
            raise UsageError(
                f"windows of {max_length} tokens cannot share {stride}: beside a question there is"
                f" room for at most {max(room, 0)} of the context",
                where="data.stride", hint="Lower data.stride, or raise data.max_length",
            )  # fmt: skip
        typed = "token_type_ids" in tokenizer.model_input_names

        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            windows = windows_of(tokenizer, rows["question"], rows["context"], max_length, stride)
            columns: dict[str, Any] = {
                "input_ids": windows.input_ids,
                "char_start": windows.char_start,
                "char_end": windows.char_end,
                "row": windows.row,
            }
            if typed:
                columns["token_type_ids"] = windows.token_type_ids
            if rows.get("label") is not None:
                start, end = positions(windows, rows["label"], rows["start"])
                columns |= {"start_position": start, "end_position": end}
            return columns

        return encode

    def without_feature(self, max_length: int) -> Fault:
        return Fault(
            "question longer than the window",
            f"the question leaves no more than data.stride={self.config.stride} of"
            f" data.max_length={max_length} tokens to a long context",
        )

    def terms(self, batch: Batch) -> int:
        return len(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        start, end = (batch.labels[name] for name in _TARGETS)
        return span_loss(precise(logits), batch.lengths, start, end)

    def soft_terms(self, batch: Batch) -> int:
        return len(batch)

    def soft_loss(
        self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float
    ) -> Tensor:
        """The mean over start and end, each over a window's context and its [CLS]."""
        seen = batch.labels["char_start"] >= 0
        firsts = torch.cumsum(batch.lengths, 0) - batch.lengths
        seen = seen.index_fill(0, sent(firsts.numpy(), seen.device), True)
        return soft.spans(logits, teacher, batch.lengths, seen, temperature)

    @property
    def learns_unlabelled(self) -> bool:
        return False  # a row that answers nothing does not say where its context stands

    def agreement(self, one: np.ndarray, other: np.ndarray, features: Any) -> float:
        """Share of questions to which both give the same span, or none."""
        answers = []
        for logits in (one, other):
            _, spans = self._spans(logits, features)
            places = np.stack([spans.start, spans.end])
            answers.append(np.where(self._given(spans), places, -1))
        return float((answers[0] == answers[1]).all(0).mean())

    def _given(self, spans: Spans) -> np.ndarray:
        """Which questions get an answer."""
        given = spans.start >= 0
        return given if self.threshold is None else given & (spans.no_answer() <= self.threshold)

    def metrics(self, logits: np.ndarray, features: Any) -> dict[str, float]:
        """Percentages, and the mean loss of the windows."""
        if len(logits) == 0 or not np.isfinite(logits).all():
            return dict.fromkeys(self.metric_names, float("nan"))
        rows, spans = self._spans(logits, features)
        scorer, texts = self.config.scorer, self._found(rows, spans, features)
        golds, answerable = _golds(rows, features)
        given = score_each(self._answers(texts, spans), golds, scorer)
        values = summary(given, answerable, self.config.unanswerable)
        if self.config.unanswerable:
            answered = np.array([bool(text) for text in texts])
            for name, scores in score_each(texts, golds, scorer).items():
                best = at_best_threshold(scores, answered, spans.no_answer(), answerable)
                values[f"best_{name}"], values[f"best_{name}_thresh"] = best
        values["loss"] = _mean_loss(logits, features)
        names = [name for name in self.metric_names if name in values or name == self.metric]
        return {name: float(values.get(name, "nan")) for name in names}

    def by_row(self, logits: np.ndarray, features: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """``exact`` and ``f1`` in [0, 1], and whether the question has an answer."""
        if len(logits) == 0 or not np.isfinite(logits).all():
            return None
        rows, spans = self._spans(logits, features)
        golds, answerable = _golds(rows, features)
        answers = self._answers(self._found(rows, spans, features), spans)
        scores = score_each(answers, golds, self.config.scorer)
        return rows, np.stack([scores["exact"], scores["f1"], answerable], 1).astype(np.float64)

    def of_rows(self, terms: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        groups = {"": np.ones(len(terms))}
        if self.config.unanswerable:
            groups |= {"HasAns_": terms[:, 2], "NoAns_": 1 - terms[:, 2]}
        values: dict[str, np.ndarray] = {}
        for group, part in groups.items():
            if part.any():  # a draw without such questions has no score of them
                size = weights @ part
                counted = np.where(size > 0, size, np.nan)
                values |= {
                    f"{group}{name}": 100 * (weights @ (terms[:, place] * part)) / counted
                    for place, name in enumerate(("exact", "f1"))
                }
        return values

    def answers(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        """``answer``, ``score`` (probability), ``start`` and ``end``: characters of the context.

        No answer is empty, from 0 to 0. A row's own ``id`` comes first where it has one.
        """
        rows, spans = self._spans(logits, features)
        unanswerable = self.config.unanswerable
        given = self._given(spans)
        scores = spans.probability(given, unanswerable)
        names = features.rows.column("id")
        found = self._texts(rows, spans, features)
        for place, (text, start, end) in enumerate(found):
            name = names[rows[place]]
            answer: dict[str, Any] = {} if name is None else {"id": name}
            if not given[place]:
                text, start, end = "", 0, 0
            score = float(scores[place])
            yield answer | {"answer": text, "score": score, "start": start, "end": end}

    def exhibits(self, logits: np.ndarray, features: Any) -> Iterator[Exhibit]:
        rows, spans = self._spans(logits, features)
        given, unanswerable = self._given(spans), self.config.unanswerable
        texts = [text for text, _, _ in self._texts(rows, spans, features)]
        answers = [text if each else "" for text, each in zip(texts, given, strict=True)]
        labels = features.rows.column("label")
        golds = [labels[row] for row in rows]
        scores = score_each(answers, golds, self.config.scorer)
        sure = spans.probability(given, unanswerable)
        return exhibits(Answered(rows, answers, golds, scores, sure), features.rows)

    def _spans(self, logits: np.ndarray, features: Any) -> tuple[np.ndarray, Spans]:
        return best_spans(
            logits,
            features.lengths,
            features.whole("char_start"),
            features.whole("char_end"),
            features.whole("row"),
            self.config.max_answer_length,
        )

    def _found(self, rows: np.ndarray, spans: Spans, features: Any) -> list[str]:
        return [text for text, _, _ in self._texts(rows, spans, features)]

    def _answers(self, texts: list[str], spans: Spans) -> list[str]:
        """``texts``, none of them where none is given."""
        if self.threshold is None:
            return texts
        held = spans.no_answer() > self.threshold
        return ["" if each else text for text, each in zip(texts, held, strict=True)]

    @staticmethod
    def _texts(rows: np.ndarray, spans: Spans, features: Any) -> Iterator[tuple[str, int, int]]:
        """Each best span's text without the space around it, and its characters."""
        contexts = features.rows.column("context")
        for row, start, end in zip(rows, spans.start, spans.end, strict=True):
            text = "" if start < 0 else contexts[row][start:end]
            first = int(start) + len(text) - len(text.lstrip())
            yield text.strip(), first, first + len(text.strip())


def _golds(rows: np.ndarray, features: Any) -> tuple[list[list[str]], np.ndarray]:
    """The answers that each of ``rows`` may be given, and whether there is any."""
    labels = features.rows.column("label")
    golds = [labels[row] for row in rows]
    return golds, np.array([bool(each) for each in golds])


def _mean_loss(logits: np.ndarray, features: Any) -> float:
    """Mean of ℓ over the windows that have a target, in fp64; NaN where none has."""
    sizes = features.lengths.astype(np.int64)
    firsts = np.cumsum(sizes) - sizes
    total = 0.0
    for place, name in enumerate(_TARGETS):
        values = logits[:, place].astype(np.float64)
        targets = features.whole(name)
        known = targets >= 0
        if not known.any():
            return float("nan")
        losses = log_sum_exp(values, firsts, sizes) - values[np.where(known, firsts + targets, 0)]
        total += float(losses[known].mean())
    return total / 2
