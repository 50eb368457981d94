"""The journal holds the state of a search, also after a kill in the middle of a line."""

from __future__ import annotations

import json

import pytest

from bertft.config.search_space import Distribution
from bertft.errors import DataError, UsageError
from bertft.search.halving import RungResult, Trial
from bertft.search.journal import JOURNAL_FILE, Journal

pytest.importorskip("optuna")

SPACE = {
    "rate": Distribution("interval(0,1)", low=0.0, high=1.0),
    "kind": Distribution("choice(a,b)", ("a", "b")),
}
IDENTITY = {"default": "lora-1", "space": {"rate": "interval(0,1)"}, "seed": 0}


def begin(folder):
    default = Trial(0, {}, [RungResult(0.5, 0.7), RungResult(0.6, None)], "lora-1")
    return Journal.create(folder, SPACE, IDENTITY, "accuracy", False, default)


def test_what_is_stored_is_read_again(tmp_path):
    assert Journal.open(tmp_path, SPACE, IDENTITY) is None
    journal = begin(tmp_path)
    first = journal.add_trial({"rate": "0.25", "kind": "a"})
    second = journal.add_trial({"rate": "0.5", "kind": "b"})
    first.results, first.folder = [RungResult(0.8, 0.1)], "lora-2"
    journal.record(first)
    second.error = "NaN"
    journal.record(second)
    journal.add_trial({"rate": "1.0", "kind": "b"})
    journal.record_final("lora-2", 7, Trial(0, {}, [RungResult(0.9, None)], "lora-3"))
    journal.add_time(2.0, 0.5)
    journal.add_time(1.0, 0.25)

    again = Journal.open(tmp_path, SPACE, IDENTITY)
    assert again.trials == journal.trials and again.default == journal.default
    assert again.finals == {("lora-2", 7): Trial(0, {}, [RungResult(0.9, None)], "lora-3")}
    assert (again.metric, again.lower_is_better) == ("accuracy", False)
    assert (again.seconds, again.units) == (3.0, 0.75)
    first.results.append(RungResult(0.9, 0.2, is_informed=False))
    again.record(first)
    assert Journal.open(tmp_path, SPACE, IDENTITY).trials[0] == first


def test_it_is_a_study_of_optuna(tmp_path):
    import optuna

    journal = begin(tmp_path)
    trial = journal.add_trial({"rate": "0.25", "kind": "a"})
    trial.results = [RungResult(0.8, 0.1, is_informed=False), RungResult(0.9, 0.1)]
    journal.record(trial)
    failed = journal.add_trial({"rate": "0.5", "kind": "a"})
    failed.error = "NaN"
    journal.record(failed)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / JOURNAL_FILE))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert study.best_params == {"rate": 0.25, "kind": "a"} and study.best_value == 0.8
    assert [one.state.name for one in study.trials] == ["COMPLETE", "FAIL"]


def test_any_end_of_the_file_can_be_continued(tmp_path):
    """A kill leaves a prefix of the file, perhaps in the middle of a line, and the lock."""
    journal = begin(tmp_path)
    trial = journal.add_trial({"rate": "0.25", "kind": "a"})
    trial.results = [RungResult(0.8, 0.1)]
    journal.record(trial)
    file = tmp_path / JOURNAL_FILE
    content = file.read_bytes()
    ends = [n + 1 for n, byte in enumerate(content) if byte == ord("\n")]
    for end in {*ends, *(end - 5 for end in ends), *(end + 5 for end in ends[:-1])}:
        file.write_bytes(content[:end])
        (tmp_path / f"{JOURNAL_FILE}.lock").symlink_to(file)
        opened = Journal.open(tmp_path, SPACE, IDENTITY) or begin(tmp_path)
        if not opened.trials:
            opened.add_trial({"rate": "0.25", "kind": "a"})
        opened.trials[0].results = [RungResult(0.8, 0.1)]
        opened.record(opened.trials[0])
        assert Journal.open(tmp_path, SPACE, IDENTITY).trials == [trial]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"space": {}}, "space"),
        ({"seed": 1}, "seed of the proposals"),
        ({"default": "lora-9"}, "fixed settings or data"),
    ],
)
def test_another_search_is_refused(tmp_path, changed, what):
    begin(tmp_path)
    with pytest.raises(UsageError, match=f"started differently .changed: {what}.*hydra.sweep.dir"):
        Journal.open(tmp_path, SPACE, {**IDENTITY, **changed})


def test_a_damaged_file_is_an_error(tmp_path):
    begin(tmp_path)
    file = tmp_path / JOURNAL_FILE
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"{damaged\n", *lines[1:]]))
    with pytest.raises(DataError, match="cannot be read"):
        Journal.open(tmp_path, SPACE, IDENTITY)
    record = json.loads(lines[-1])
    record["user_attr"] = {"default": {"results": [{"value": 1}]}}
    file.write_bytes(b"".join([*lines[:-1], json.dumps(record).encode() + b"\n"]))
    with pytest.raises(DataError, match="cannot be read"):
        Journal.open(tmp_path, SPACE, IDENTITY)
