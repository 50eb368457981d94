"""Logits of windows → the best span of each question, over all of its windows.

    score(i, j) = s_i + e_j      i ≤ j < i + longest, both tokens of the context in one window
    null        = min over the windows of s_[CLS] + e_[CLS]
    p(no answer) = σ(null − best)          against the best span alone; compared with the threshold
    p(answer)    = softmax over the n best distinct spans, and null if data.unanswerable

Two overlapping windows may give the same span; it counts once, with its higher score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["N_BEST", "BestSpans", "find_best_spans"]

N_BEST = 20

_MAX_SCORES = 4_000_000  # scores in memory at once


@dataclass
class BestSpans:
    """Per question, in order: ``start``, ``end`` in characters of the context (−1: no span).

    ``best_score`` and ``null_score`` are scores; ``log_total`` is log Σ exp over the n best
    distinct spans.
    """

    start: np.ndarray
    end: np.ndarray
    best_score: np.ndarray
    null_score: np.ndarray
    log_total: np.ndarray

    def no_answer_probability(self) -> np.ndarray:
        """p(no answer), 1 if there is no span."""
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(self.best_score - self.null_score))

    def probability(self, is_answered: np.ndarray, unanswerable: bool) -> np.ndarray:
        """Probability of the prediction: the best span where ``is_answered``, else no answer."""
        total = np.logaddexp(self.log_total, self.null_score) if unanswerable else self.log_total
        scores = np.where(is_answered, self.best_score, self.null_score)
        is_finite = np.isfinite(total)
        return np.where(is_finite, np.exp(scores - np.where(is_finite, total, 0.0)), 1.0)


def find_best_spans(
    logits: np.ndarray,
    lengths: np.ndarray,
    char_start: np.ndarray,
    char_end: np.ndarray,
    row: np.ndarray,
    max_span_length: int,
) -> tuple[np.ndarray, BestSpans]:
    """(questions, spans): the rows that have a window, ascending, and their best spans.

    ``logits`` [N, 2], ``char_start``, ``char_end`` [N]: the concatenated tokens of all windows;
    ``lengths``, ``row`` [windows]: in the same order, the windows of a row next to each other.
    """
    questions, windows = np.unique(row, return_counts=True)
    # No answer is longer than its window.
    max_span_length = min(max_span_length, int(lengths.max(initial=1)))
    stops = np.cumsum(lengths, dtype=np.int64)
    firsts = stops - lengths
    null_by_window = logits[firsts].astype(np.float64).sum(1)
    bounds = np.concatenate([[0], np.cumsum(windows)])
    null_scores = np.minimum.reduceat(null_by_window, bounds[:-1])
    count = len(questions)
    spans = BestSpans(
        np.full(count, -1),
        np.full(count, -1),
        np.full(count, -np.inf),
        null_scores,
        np.full(count, -np.inf),
    )
    # Tokens of question q: token_bounds[q] : token_bounds[q + 1].
    token_bounds = np.concatenate([[0], stops])[bounds]
    for start, stop in _question_ranges(token_bounds, max(1, _MAX_SCORES // max_span_length)):
        tokens = slice(token_bounds[start], token_bounds[stop])
        scores = _span_scores(logits[tokens], char_start[tokens] >= 0, max_span_length)
        for question in range(start, stop):
            first_token, last_token = token_bounds[question], token_bounds[question + 1]
            _store_best_span(
                spans,
                question,
                int(windows[question]),
                scores[first_token - tokens.start : last_token - tokens.start],
                char_start[first_token:last_token],
                char_end[first_token:last_token],
            )
    return questions, spans


def _question_ranges(token_bounds: np.ndarray, tokens: int) -> Iterator[tuple[int, int]]:
    """Ranges of questions with at most ``tokens`` tokens each, or of a single longer question."""
    start = 0
    while start < len(token_bounds) - 1:
        stop = int(np.searchsorted(token_bounds, token_bounds[start] + tokens, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop


def _span_scores(logits: np.ndarray, is_context: np.ndarray, max_span_length: int) -> np.ndarray:
    """score(i, i + k) as [tokens, max_span_length], −∞ where i, …, i + k is not a span.

    A window's context tokens are contiguous with other tokens around them, so a span of context
    tokens alone cannot cross into another window.
    """
    size = len(logits)
    begin = np.where(is_context, logits[:, 0].astype(np.float64), -np.inf)
    end = np.where(is_context, logits[:, 1].astype(np.float64), -np.inf)
    scores = np.full((size, max_span_length), -np.inf)
    inside = np.ones(size, bool)
    for k in range(min(max_span_length, size)):
        inside = inside[: size - k] & is_context[k:]
        scores[: size - k, k] = np.where(inside, begin[: size - k] + end[k:], -np.inf)
    return scores


def _store_best_span(
    spans: BestSpans,
    question: int,
    windows: int,
    scores: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
) -> None:
    """Store the best span of one question, and the sum over its n best."""
    flat = scores.reshape(-1)
    # A window contains a span once, so these include n distinct spans.
    count = min(windows * N_BEST, flat.size)
    top = np.argpartition(-flat, count - 1)[:count]
    top = top[np.lexsort((top, -flat[top]))]
    top = top[np.isfinite(flat[top])]
    if not len(top):
        return
    tokens, span_lengths = np.divmod(top, scores.shape[1])
    bounds = np.stack([begins[tokens], ends[tokens + span_lengths]], 1)
    _, first_indices = np.unique(bounds, axis=0, return_index=True)
    top_scores = flat[top[np.sort(first_indices)[:N_BEST]]]
    spans.start[question], spans.end[question] = bounds[0]
    spans.best_score[question] = top_scores[0]
    spans.log_total[question] = top_scores[0] + np.log(np.exp(top_scores - top_scores[0]).sum())
