"""The vectorised search for spans against one that looks at every pair of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from bertft.tasks.question_answering.decoding import N_BEST, find_best_spans


def drawn(seed: int, step: int = 8):
    """Windows of a few questions that overlap by some tokens, logits for all tokens."""
    rng = np.random.default_rng(seed)
    rows, lengths, starts, ends = [], [], [], []
    for row in (0, 1, 3, 4):  # row 2 has no window
        size, requested = int(rng.integers(1, 40)), int(rng.integers(1, 5))
        for at in range(0, max(1, size - 4), step):
            inside = np.arange(at, min(at + 12, size))
            rows.append(row)
            lengths.append(requested + 2 + len(inside) + 1)
            starts.append([-1] * (requested + 2) + (5 * inside).tolist() + [-1])
            ends.append([-1] * (requested + 2) + (5 * inside + 4).tolist() + [-1])
    total = sum(lengths)
    logits = rng.normal(scale=3, size=(total, 2)).astype(np.float32)
    return (
        logits, np.array(lengths, np.int32), np.concatenate(starts), np.concatenate(ends),
        np.array(rows),
    )  # fmt: skip


def naive(logits, lengths, begins, ends, rows, longest):
    """Row → (best start, end, score, null, log-sum of the n best)."""
    actual = {}
    at = 0
    for length, row in zip(lengths, rows, strict=True):
        spans, nulls = actual.setdefault(row, ({}, []))
        nulls.append(float(logits[at, 0]) + float(logits[at, 1]))
        for i in range(at, at + length):
            for j in range(i, min(i + longest, at + length)):
                if begins[i] >= 0 and begins[j] >= 0:
                    folder = int(begins[i]), int(ends[j])
                    score = float(logits[i, 0]) + float(logits[j, 1])
                    spans[folder] = max(spans.get(folder, -np.inf), score)
        at += length
    result = []
    for row in sorted(actual):
        spans, nulls = actual[row]
        best = sorted(spans.items(), key=lambda span_score: -span_score[1])[:N_BEST]
        (start, end), score = best[0]
        result.append((start, end, score, min(nulls), np.logaddexp.reduce([s for _, s in best])))
    return result


@pytest.mark.parametrize("step", [8, 1])  # a span in two windows, or in twelve
@pytest.mark.parametrize("longest", [1, 3, 30, 10**9])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_every_pair(seed, longest, step, monkeypatch):
    data = drawn(seed, step)
    expected = naive(*data, longest)
    for cells in (4_000_000, 50):  # at once, and a question at a time
        monkeypatch.setattr("bertft.tasks.question_answering.decoding._MAX_SCORES", cells)
        rows, spans = find_best_spans(*data, longest)
        assert rows.tolist() == [0, 1, 3, 4]
        actual = zip(
            spans.start, spans.end, spans.best_score, spans.null_score, spans.log_total, strict=True
        )
        for one, other in zip(actual, expected, strict=True):
            assert one[:2] == other[:2]
            assert one[2:] == pytest.approx(other[2:], abs=1e-12)


def test_probabilities():
    """One window of two context tokens: spans 1+0, 2+0 and (1, 2), null 0."""
    logits = np.array([[0, 0], [9, 9], [1, 0], [2, 0.5], [9, 9]], np.float32)
    begins, ends = np.array([-1, -1, 0, 2, -1]), np.array([-1, -1, 1, 3, -1])
    _, spans = find_best_spans(logits, np.array([5]), begins, ends, np.array([0]), 30)
    assert (spans.start[0], spans.end[0], spans.best_score[0]) == (2, 3, 2.5)
    scores = np.exp([2.5, 1.5, 1.0])
    assert spans.probability(np.array([True]), False)[0] == pytest.approx(scores[0] / scores.sum())
    total = scores.sum() + 1
    assert spans.probability(np.array([True]), True)[0] == pytest.approx(scores[0] / total)
    assert spans.probability(np.array([False]), True)[0] == pytest.approx(1 / total)
    assert spans.no_answer_probability()[0] == pytest.approx(1 / (1 + np.exp(2.5)))


def test_a_context_without_a_token():
    logits = np.array([[3, 3], [1, 1], [2, 2]], np.float32)
    none = np.array([-1, -1, -1])
    _, spans = find_best_spans(logits, np.array([3]), none, none, np.array([0]), 30)
    assert (spans.start[0], spans.end[0]) == (-1, -1)
    assert spans.no_answer_probability()[0] == 1.0
    assert spans.probability(np.array([False]), True)[0] == 1.0
