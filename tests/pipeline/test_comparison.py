"""A teacher that is worse than its student is reported with what its score leaves out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bertft.pipeline import distillation


@pytest.mark.parametrize("tuned", [False, True])
def test_the_score_of_a_teacher_with_a_threshold(monkeypatch, tuned):
    task = SimpleNamespace(metric="accuracy", is_better=lambda one, other: one > other)
    student = SimpleNamespace(task=task, runner=None, precision=None)
    teacher = SimpleNamespace(path="teacher", metrics={"accuracy": 0.25}, tuned=tuned)
    monkeypatch.setattr(distillation, "evaluate", lambda *_: {"accuracy": 0.5})
    reports: list[str] = []
    distillation.warn_if_teacher_is_worse(teacher, student, None, reports.append)
    assert "0.2500 on validation" in reports[0] and "the student's 0.5000" in reports[0]
    assert ("its tuned threshold is not used here" in reports[0]) is tuned
