"""What a model answers on each labelled row, as text, and whether the answer is right.

A comparison of two runs lists the rows whose answer differs, in the words of the task.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["RowAnswers"]


@dataclass(frozen=True)
class RowAnswers:
    """One answer per row, in the order of ``BaseTask.per_row_statistics``.

    Args:
        truth: the right answers [R] as text.
        answers: the answers of the model [R] as text; equal texts are the same answer.
        is_right: bool [R]; None if answers are only more or less right, such as numbers.
        scores: fp64 [R], how right an answer is; None if ``is_right`` says all.
    """

    truth: Sequence[str]
    answers: Sequence[str]
    is_right: np.ndarray | None
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.is_right is None and self.scores is None:
            raise ValueError("answers need is_right or scores")

    def __len__(self) -> int:
        return len(self.answers)

    def to_bytes(self) -> bytes:
        """The answers as JSON."""
        content = {
            "truth": [*self.truth],
            "answers": [*self.answers],
            "is_right": None if self.is_right is None else self.is_right.astype(int).tolist(),
            "scores": None if self.scores is None else self.scores.astype(float).tolist(),
        }
        return json.dumps(content).encode()  # ASCII: also a lone surrogate survives

    @classmethod
    def from_bytes(cls, content: bytes, rows: int) -> RowAnswers:
        """Read what ``to_bytes`` wrote, which may come from somebody else.

        Raises:
            ValueError: If the content does not have ``rows`` answers.
        """
        try:
            read = json.loads(content)
            truth, answers = read["truth"], read["answers"]
            numbers = [read["is_right"], read["scores"]]
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("invalid answers") from error
        if not all(_is_list(values, (str,), rows) for values in (truth, answers)) or not all(
            values is None or _is_list(values, (int, float), rows) for values in numbers
        ):
            raise ValueError("invalid answers")
        try:
            is_right, scores = (
                None if values is None else np.array(values, np.float64) for values in numbers
            )
        except OverflowError as error:
            raise ValueError("invalid answers") from error
        return cls(truth, answers, None if is_right is None else is_right > 0, scores)


def _is_list(values: object, types: tuple[type, ...], length: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == length
        and all(type(value) in types for value in values)
    )
