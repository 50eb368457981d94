"""Findings on predicted answers: a model that never answers, or always at the same position.

The position of an answer is its first token, counted from the start of the context, or its last
token, counted from the end. Tokens, because a model that ignores the texts chooses a token, which
has another character position in each context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bertft.data.findings import Finding
from bertft.tasks.shared.report import NOTHING_LEARNED_ADVICE

__all__ = ["AnswerPositions", "answer_findings", "context_tokens"]

_MIN_ANSWERS = 10  # fewer answers may have the same position by chance
_COLLAPSED_SHARE = 0.95
_MAX_TRUE_SHARE = 0.5  # above this share of the true answers, the position is worth learning


@dataclass(frozen=True)
class AnswerPositions:
    """Start and end + 1 in characters of each question's context, int [questions]; −1: none."""

    start: np.ndarray
    end: np.ndarray


def context_tokens(
    row: np.ndarray, lengths: np.ndarray, char_start: np.ndarray
) -> list[np.ndarray]:
    """The first characters of the context tokens of each question, ascending, over its windows.

    ``row``, ``lengths`` [windows]: the windows of a question are next to each other.
    ``char_start`` [tokens]: −1 for other tokens.
    """
    _, windows = np.unique(row, return_counts=True)
    token_bounds = np.concatenate([[0], np.cumsum(lengths)])[np.cumsum(windows)]
    characters = (tokens[tokens >= 0] for tokens in np.split(char_start, token_bounds[:-1]))
    return [np.unique(tokens) for tokens in characters]


def answer_findings(
    predicted: AnswerPositions,
    true: AnswerPositions,
    is_answerable: np.ndarray,
    token_starts: Sequence[np.ndarray],
) -> Iterator[Finding]:
    """Whether nothing is answered, or all answers have the same position.

    Args:
        predicted: the predicted answers.
        true: the first true answers; −1 also if the position is unknown.
        is_answerable: whether a question has an answer, bool [questions].
        token_starts: the result of ``context_tokens``.
    """
    total, answerable = len(is_answerable), int(is_answerable.sum())
    answered = int((predicted.start >= 0).sum())
    if answerable and not answered:
        yield Finding(
            "no_predicted_answer",
            f"No answer is predicted for any of the {total:,} validation questions, and"
            f" {answerable:,} of them have one",
            answerable,
            total,
            "",
            "Raise the learning rate or the number of steps. A higher data.no_answer_threshold"
            " gives more answers",
        )
    if answered < _MIN_ANSWERS:
        return
    for side, verb in enumerate(("start", "end")):
        position, count = _most_frequent(_token_positions(predicted, token_starts)[side])
        true_positions = _token_positions(true, token_starts)[side]
        true_share = (true_positions == position).mean() if len(true_positions) else 0.0
        if count < _COLLAPSED_SHARE * answered or true_share > _MAX_TRUE_SHARE:
            continue
        from_end = " from the end" if side else ""
        yield Finding(
            "constant_answer_position",
            f"{count:,} of {answered:,} predicted answers {verb} at the same token of the context,"
            f" number {position + 1:,}{from_end}",
            count,
            answered,
            "",
            NOTHING_LEARNED_ADVICE,
        )
        return


def _token_positions(
    answers: AnswerPositions, token_starts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The first token from the start, and the last one from the end, of the answers that exist."""
    first, last = [], []
    for start, end, tokens in zip(answers.start, answers.end, token_starts, strict=True):
        if start >= 0 and len(tokens):
            first.append(int(np.searchsorted(tokens, start, side="right")) - 1)
            last.append(len(tokens) - int(np.searchsorted(tokens, end, side="left")))
    return np.array(first), np.array(last)


def _most_frequent(positions: np.ndarray) -> tuple[int, int]:
    values, counts = np.unique(positions, return_counts=True)
    return int(values[counts.argmax()]), int(counts.max())
