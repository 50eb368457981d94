"""Ids that belong to one question each, as a file of predictions (id → answer) needs them.

    id in the file          q1   q1     (none)
    id of the question      q1   q1#2   question-3

The ids depend only on the order of the questions, so that they are the same in every run.
"""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["QuestionIds", "shared_id"]

_RENAMED_MARK = "#"


class QuestionIds:
    """Assigns ids to the questions of a file or split, in order.

    Attributes:
        generated: questions without an id in the file.
        renamed: questions whose id belongs to an earlier question.
    """

    def __init__(self) -> None:
        self.generated = self.renamed = 0
        self._first_renamed = ("", "")
        self._uses: dict[str, int] = {}  # by id that is assigned

    def assign(self, question_id: str | None, number: int) -> str:
        """The id of question ``number``, from 1; None: the file has no id for it."""
        if question_id is None:
            self.generated += 1
            question_id = f"question-{number}"
        if question_id not in self._uses:
            self._uses[question_id] = 1
            return question_id
        while True:
            self._uses[question_id] += 1
            name = f"{question_id}{_RENAMED_MARK}{self._uses[question_id]}"
            if name not in self._uses:
                break
        self._uses[name] = 1
        if not self.renamed:
            self._first_renamed = (question_id, name)
        self.renamed += 1
        return name

    def notes(self) -> list[str]:
        """What the user should know about the ids."""
        notes = []
        if self.generated:
            questions = (
                "1 question without an id is"
                if self.generated == 1
                else f"{self.generated:,} questions without an id are"
            )
            notes.append(f"{questions} named by the position in the data, as in question-1")
        if self.renamed:
            questions = (
                "1 question has" if self.renamed == 1 else f"{self.renamed:,} questions have"
            )
            old, new = self._first_renamed
            notes.append(f"{questions} the id of an earlier one and got a new id: {old} → {new}")
        return notes


def shared_id(question_id: str, known_ids: Collection[str]) -> str | None:
    """The id that a renamed question has in its file; None for any other question.

    ``known_ids``: the ids of all questions.
    """
    original, mark, number = question_id.rpartition(_RENAMED_MARK)
    is_renamed = mark and number.isdecimal() and original in known_ids
    return original if is_renamed else None
