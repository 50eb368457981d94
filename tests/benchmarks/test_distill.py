"""The distillation benchmark: which runs it trains, that it continues, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import distill


@pytest.fixture
def trained(monkeypatch):
    """The commands that were run; a student reaches 0.8, a teacher 0.9, and seed 1 0.02 less."""
    commands: list[list[str]] = []

    def train(command: list[str], check: bool) -> None:
        commands.append(command)
        settings = dict(word.split("=", 1) for word in command if "=" in word)
        is_student, seed = "method.distill.teacher" in settings, int(settings["seed"])
        value = (0.8 if is_student else 0.9) - 0.02 * seed
        metrics = {
            "best": {"value": value, "step": 7},
            "train": {"steps": 9, "seconds": 1.0},
            "parameters": {"total": 100},
            **({"distillation": {"agreement": 0.95}} if is_student else {}),
        }
        folder = Path(settings["hydra.run.dir"])
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.setattr(distill.subprocess, "run", train)
    monkeypatch.setattr(distill, "_speeds", lambda runs: {"teacher": 100.0, "student": 190.0})
    return commands


def test_each_run_is_trained_once_and_has_a_row_in_the_table(trained, tmp_path, capsys):
    words = ["--data", "sst2", "--out", str(tmp_path), "--ways", "alone,ensemble_copies"]
    distill.main([*words, "--seeds", "0,1"])
    assert [command[-2].rpartition("/")[2] for command in trained] == [
        "teacher_of_6-0", "teacher_of_6-1", "teacher_of_6-2", "alone-0", "alone-1",
        "ensemble_copies-0", "ensemble_copies-1",
    ]  # fmt: skip
    teachers = ",".join(f"{tmp_path}/teacher_of_6-{seed}" for seed in (1, 0, 2))
    assert f"method.distill.teacher=[{teachers}]" in trained[-1]
    assert {"method.distill.augment=4", "trainer.epochs=3"} <= set(trained[-1])
    table = capsys.readouterr().out
    assert "| teacher_of_6 | 0.8800 ± 0.0200 | +0.0000 |  | 9 | 3 |" in table
    assert "| alone | 0.7900 ± 0.0141 | -0.1000 | 95.0% | 9 | 2 |" in table
    assert "teacher 100, student 190 (1.90 ×)" in table
    assert (tmp_path / "table.md").read_text() == table

    distill.main([*words, "--seeds", "0,1,2"])
    assert len(trained) == 7 + 2
    with pytest.raises(SystemExit, match="alone, seed 0 has other settings"):
        distill.main([*words[:4], "--ways", "alone", "--seeds", "0", "--epochs", "5"])
    with pytest.raises(SystemExit, match="unknown ways"):
        distill.main([*words[:4], "--ways", "alonee"])
