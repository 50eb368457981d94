from __future__ import annotations

from pathlib import Path

from bertft.report.compare.comparison import name_rows
from bertft.report.result_rows import JobResult, group_results


def rows(*settings):
    metrics = {
        "best": {"metric": "accuracy", "value": 0.5, "step": 1},
        "train": {"seconds": 1.0}, "parameters": {"method": 1},
    }  # fmt: skip
    return group_results([JobResult(Path("x"), changes, None, metrics) for changes in settings])


def test_method_and_rank_if_they_differ():
    names = name_rows(rows(
        {"method.name": "lora", "method.rank": "8"}, {"method.name": "full", "method.rank": "null"},
    ))  # fmt: skip
    assert names == ["lora r8", "full"]


def test_the_method_is_in_every_name():
    names = name_rows(rows(
        {"method.name": "lora", "trainer.learning_rate": "0.1"},
        {"method.name": "lora", "trainer.learning_rate": "0.2"},
    ))  # fmt: skip
    assert names == ["lora learning_rate=0.1", "lora learning_rate=0.2"]


def test_a_setting_that_is_null_is_not_in_a_name_with_others():
    def settings(epochs, max_steps, patience="null"):
        values = {"epochs": epochs, "max_steps": max_steps, "patience": patience}
        return {"method.name": "lora"} | {f"trainer.{key}": value for key, value in values.items()}

    names = name_rows(rows(settings("3", "null"), settings("null", "100")))
    assert names == ["lora epochs=3", "lora max_steps=100"]
    names = name_rows(rows(settings("3", "null"), settings("3", "null", "2")))
    assert names == ["lora patience=null", "lora patience=2"]


def test_names_are_never_the_same():
    names = name_rows(rows(
        {"method.name": "x", "a.k": "1", "b.k": "2"}, {"method.name": "x", "a.k": "2", "b.k": "1"},
        {"method.name": "x", "a.k": "1", "b.k": "1"}, {"method.name": "y", "a.k": "1", "b.k": "1"},
    ))  # fmt: skip
    assert len(set(names)) == 4
