"""The words of cross_validate as a sweep over the folds, and the settings it does not support."""

from __future__ import annotations

import pytest

from bertft.config.cross_validate_command import plan_folds
from bertft.errors import UsageError

WORDS = ("data=files", "data.train=a.csv")


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text,label\n")


def test_one_job_per_fold_and_repetition():
    plan, _ = plan_folds(
        [*WORDS, "folds=3", "repeats=2", "method=head", "data.text=a,b", "hydra.sweep.dir=a b"]
    )
    jobs = [(job.config.data.repeat, job.config.data.fold) for job in plan.jobs]
    assert jobs == [(repeat, fold) for repeat in (1, 2) for fold in (1, 2, 3)]
    assert {job.config.data.folds for job in plan.jobs} == {3}
    assert {job.config.method.name for job in plan.jobs} == {"head"}
    assert {job.config.data.text for job in plan.jobs} == {"a,b"}, "not a list of values"
    assert str(plan.folder) == "a b" and plan.launcher == "basic"
    assert len(plan_folds(WORDS)[0].jobs) == 5


def test_the_launcher_and_hydra_run_dir():
    plan, _ = plan_folds([*WORDS, "hydra.run.dir=f"])
    assert str(plan.folder) == "f"
    assert str(plan_folds(WORDS)[0].folder).startswith("outputs/cross_validate/")


def problems_of(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        plan_folds([*WORDS, *words])
    return str(caught.value)


def test_all_unsupported_settings_are_reported_together():
    messages = {
        "folds=1": "folds: 1 is out of range. It must be at least 2",
        "repeats=0": "repeats: 0 is out of range",
        "data.folds=3": "data.folds: is set by cross_validate. Set folds=<number>",
        "data.fold=3": "data.fold: is set by cross_validate. For one fold, use bertft train",
        "data.repeat=3": "data.repeat: is set by cross_validate. Set repeats=<number>",
        "fold=3": "fold: unknown setting. Did you mean 'folds'?",
        "repeat=3": "repeat: unknown setting. Did you mean 'repeats'?",
        "check=true": "check: is not supported by cross_validate",
        "resume=run": "resume: is not supported by cross_validate",
        "trainer.stop_at=0.5": "trainer.stop_at: is not supported by cross_validate",
        "data.task=masked_lm": "masked_lm is not supported by cross_validate",
    }
    reported = problems_of(*messages)
    assert [message for message in messages.values() if message not in reported] == []


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            ("data.validation=a.csv", "data.test=a.csv"),
            ("data.validation: is not used with folds", "data.test: is not used with folds"),
        ),
        (("hydra/sweeper=halving",), ("hydra/sweeper: is not supported by cross_validate",)),
        (("data.drop_rows=s.csv",), ("data.drop_rows=s.csv: there is no such file",)),
        (("data.train=-",), ("standard input is not supported",)),
        (("method=lora,head",), ("method: expected one value", "use bertft train -m")),
    ],
)
def test_unsupported_settings(words, messages):
    reported = problems_of(*words)
    assert all(message in reported for message in messages), reported
