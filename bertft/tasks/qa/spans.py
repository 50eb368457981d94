"""Logits of windows → the best span of each question, over all of its windows.

    score(i, j) = s_i + e_j      i ≤ j < i + longest, both tokens of the context in one window
    null        = min over the windows of s_[CLS] + e_[CLS]
    p(no answer) = σ(null − best)          against the best span alone; what a threshold cuts
    p(answer)    = softmax over the n best different spans, and null where there may be none

Two windows that overlap may give one span twice; it counts once, at its better score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["N_BEST", "Spans", "best_spans"]

N_BEST = 20

_CELLS = 4_000_000  # scores held at once


@dataclass
class Spans:
    """By question, in order: ``start``, ``end`` in characters of the context (−1: no span at all).

    ``best`` and ``null`` are scores; ``rest`` is log Σ exp over the n best different spans.
    """

    start: np.ndarray
    end: np.ndarray
    best: np.ndarray
    null: np.ndarray
    rest: np.ndarray

    def no_answer(self) -> np.ndarray:
        """p(no answer), 1 where there is no span."""
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(self.best - self.null))

    def probability(self, given: np.ndarray, unanswerable: bool) -> np.ndarray:
        """p of what was answered: the best span where ``given``, else no answer."""
        total = np.logaddexp(self.rest, self.null) if unanswerable else self.rest
        scores = np.where(given, self.best, self.null)
        known = np.isfinite(total)
        return np.where(known, np.exp(scores - np.where(known, total, 0.0)), 1.0)


def best_spans(
    logits: np.ndarray,
    lengths: np.ndarray,
    char_start: np.ndarray,
    char_end: np.ndarray,
    row: np.ndarray,
    longest: int,
) -> tuple[np.ndarray, Spans]:
    """(questions, spans): the numbers of the rows that have a window, ascending, and their spans.

    ``logits`` [N, 2], ``char_start``, ``char_end`` [N]: the tokens of all windows end to end;
    ``lengths``, ``row`` [w]: the windows, those of a row side by side.
    """
    questions, windows = np.unique(row, return_counts=True)
    longest = min(longest, int(lengths.max(initial=1)))  # no answer is longer than its window
    stops = np.cumsum(lengths, dtype=np.int64)
    firsts = stops - lengths
    nulls = logits[firsts].astype(np.float64).sum(1)
    bounds = np.concatenate([[0], np.cumsum(windows)])
    null = np.minimum.reduceat(nulls, bounds[:-1])
    count = len(questions)
    spans = Spans(
        np.full(count, -1), np.full(count, -1), np.full(count, -np.inf), null,
        np.full(count, -np.inf),
    )  # fmt: skip
    edges = np.concatenate([[0], stops])[bounds]  # tokens of question q: edges[q] : edges[q + 1]
    for start, stop in _pieces(edges, max(1, _CELLS // longest)):
        tokens = slice(edges[start], edges[stop])
        scores = _scores(logits[tokens], char_start[tokens] >= 0, longest)
        for question in range(start, stop):
            at, to = edges[question], edges[question + 1]
            _settle(spans, question, int(windows[question]),
                    scores[at - tokens.start : to - tokens.start],
                    char_start[at:to], char_end[at:to])  # fmt: skip
    return questions, spans


def _pieces(edges: np.ndarray, tokens: int) -> Iterator[tuple[int, int]]:
    """Runs of questions with about ``tokens`` tokens together, at least one question each."""
    start = 0
    while start < len(edges) - 1:
        stop = int(np.searchsorted(edges, edges[start] + tokens, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop


def _scores(logits: np.ndarray, context: np.ndarray, longest: int) -> np.ndarray:
    """score(i, i + k) as [tokens, longest], −∞ where that is no span.

    A window's context is one run of tokens with others around it, so a span that stays within
    a run stays within its window.
    """
    size = len(logits)
    begin = np.where(context, logits[:, 0].astype(np.float64), -np.inf)
    end = np.where(context, logits[:, 1].astype(np.float64), -np.inf)
    scores = np.full((size, longest), -np.inf)
    inside = np.ones(size, bool)
    for k in range(min(longest, size)):
        inside = inside[: size - k] & context[k:]
        scores[: size - k, k] = np.where(inside, begin[: size - k] + end[k:], -np.inf)
    return scores


def _settle(
    spans: Spans, question: int, windows: int, scores: np.ndarray,
    begins: np.ndarray, ends: np.ndarray,
) -> None:  # fmt: skip
    """Write the best span of one question, and the sum over its n best."""
    flat = scores.reshape(-1)
    # Each window repeats a span at most once: among so many there are n different ones.
    count = min(windows * N_BEST, flat.size)
    top = np.argpartition(-flat, count - 1)[:count]
    top = top[np.lexsort((top, -flat[top]))]
    top = top[np.isfinite(flat[top])]
    if not len(top):
        return
    tokens, more = np.divmod(top, scores.shape[1])
    places = np.stack([begins[tokens], ends[tokens + more]], 1)
    _, first = np.unique(places, axis=0, return_index=True)
    kept = flat[top[np.sort(first)[:N_BEST]]]
    spans.start[question], spans.end[question] = places[0]
    spans.best[question] = kept[0]
    spans.rest[question] = kept[0] + np.log(np.exp(kept - kept[0]).sum())
