"""Searches with a train command that takes no time: what runs, what is kept, what is printed."""

from __future__ import annotations

import csv
import errno
import json
import math
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bertft.cli.app import main
from bertft.config.trainer import step_at
from bertft.errors import NonFiniteError, StoppedBySignal
from bertft.runs.run_folder import exclusive_lock

pytest.importorskip("optuna")

RATE = "method.low_rank.learning_rate"
SEARCH = (
    "tune", "method=lora", "tune.trials=4", "tune.seeds=[5]", "hydra.sweep.dir=s",
    f"tune.space.{RATE}=tag(log,interval(1e-4,1e-1))", "tune.space.method.rank=choice(2,4,8)",
)  # fmt: skip
FILES = {"search.journal", "summary.csv", "summary.md", "best.yaml", "tune.html"}
STEPS = 16
PARAMETERS = dict.fromkeys(("total", "trainable", "head", "method", "kept", "exported"), 9)


class Fake:
    """A train command. Its accuracy is best at a learning rate of 1e-3 and grows with the steps."""

    def __init__(self):
        self.calls, self.fails = [], lambda config: None

    def run(self, config, folder):
        stop_at = config.trainer.stop_at
        stop = STEPS if stop_at is None else step_at(stop_at, STEPS)
        log = folder / "metrics.jsonl"
        begun = len(log.read_text().splitlines()) * STEPS // 8 if log.exists() else 0
        rate = config.method.low_rank.learning_rate
        self.calls.append((rate, config.method.rank, config.seed, begun, stop, config.resume))
        assert (config.trainer.evaluations, config.quiet, config.report) == (8, True, False)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
        (folder / "manifest.json").write_text(json.dumps({"total_steps": STEPS}))
        error = self.fails(config)
        if error is not None:
            raise error
        with open(log, "a") as file:
            for step in range(begun + 2, stop + 1, 2):
                metrics = {"accuracy": self.accuracy(config, step), "loss": 1 / step}
                line = {"event": "evaluated", "step": step, "metric": "accuracy"}
                file.write(json.dumps({**line, "metrics": metrics}) + "\n")
        if stop < STEPS:
            return
        value = self.accuracy(config, STEPS)
        metrics = {
            "best": {"metric": "accuracy", "value": value, "step": STEPS},
            "validation": {"accuracy": value},
            "test": None,
            "train": {"seconds": 2.0, "rows_per_second": 1.0, "tokens_per_second": 9.0,
                      "steps": STEPS, "loss": 0.5},
            "parameters": PARAMETERS,
        }  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(metrics))

    @staticmethod
    def accuracy(config, step):
        distance = abs(math.log10(config.method.low_rank.learning_rate) + 3)
        return 0.9 - 0.1 * distance - 0.2 * (1 - step / STEPS) + 0.001 * config.method.rank


def summary(folder="s"):
    with open(Path(folder) / "summary.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_search(fake, capsys):
    assert main(SEARCH) == 0
    assert fake.calls[0] == (2e-3, 8, 0, 0, STEPS, None), "the default comes first"
    assert {call[-1] for call in fake.calls if call[3] > 0} == {"auto"}, "promoted ones resume"
    assert [call[2] for call in fake.calls[-2:]] == [5, 5], "the default and the best"
    rows = summary()
    assert sorted(row["trial"] for row in rows) == ["0", "1", "2", "3"]
    default = next(row for row in rows if "default" in row["note"])
    assert (default["trial"], default[RATE], default["method.rank"]) == ("0", "0.002", "8")
    assert all(default[f"accuracy {rung}"] for rung in ("1/8", "1/4", "1/2", "all"))
    best = next(row for row in rows if "best" in row["note"])
    assert float(best["accuracy all"]) == max(float(row["accuracy all"] or 0) for row in rows)
    out, err = capsys.readouterr()
    assert f"best: {RATE}={best[RATE]}" in out
    assert "train with it: bertft train config=s/best.yaml" in out
    assert "better than the default? unknown" in out, "the fake runs have no statistics of rows"
    assert "trial 1, 1/8 of the steps: " in err and "Traceback" not in err
    names = {path.name for path in Path("s").iterdir() if path.is_file()}
    assert names == FILES

    files = {name: (Path("s") / name).read_bytes() for name in ("summary.csv", "best.yaml")}
    fake.calls.clear()
    assert main(SEARCH) == 0
    assert fake.calls == [] and capsys.readouterr().out == out
    assert {name: (Path("s") / name).read_bytes() for name in files} == files

    content = OmegaConf.load("s/best.yaml")
    assert (content.quiet, content.report, content.trainer.stop_at) == (False, True, None)
    assert main(["train", "config=s/best.yaml", "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert f"    learning_rate: {float(best[RATE])}\n" in shown
    assert f"  rank: {best['method.rank']}\n" in shown

    assert main([*SEARCH, "tune.space.method.rank=choice(2,4)"]) == 2
    assert "started differently (changed: space)" in capsys.readouterr().err
    assert main([*SEARCH, "trainer.batch_size=8"]) == 2
    assert "started differently (changed: fixed settings or data)" in capsys.readouterr().err


def test_the_sweeper_can_be_used_with_train_and_a_grid(fake):
    grid = ["method=lora", f"{RATE}=5e-4,1e-3,2e-3"]
    words = ["train", "-m", *grid, "hydra/sweeper=halving", "hydra.sweeper.seeds=[5]"]
    assert main([*words, "hydra.sweep.dir=a"]) == 0
    assert main(["tune", *grid, "tune.seeds=[5]", "hydra.sweep.dir=b"]) == 0
    rows = summary("a")
    assert rows == summary("b") and len({row[RATE] for row in rows}) == len(rows) == 3
    assert float(next(row for row in rows if "best" in row["note"])[RATE]) == 1e-3


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("seed=-1", "hydra.sweeper.seed: -1 is out of range. It must be at least 0"),
        ("trials=10001", "hydra.sweeper.trials: 10001 is out of range. It must be at least 2 and"),
        ("trials=1", "hydra.sweeper.trials: 1 is out of range. It must be at least 2 and"),
    ],
)
def test_the_settings_of_the_sweeper_have_the_bounds_of_tune(fake, capsys, word, text):
    words = ["train", "-m", "hydra/sweeper=halving", f"hydra.sweeper.{word}", "hydra.sweep.dir=s"]
    assert main(words) == 2
    assert text in capsys.readouterr().err and fake.calls == [] and not Path("s").exists()


def test_a_metric_that_is_missing(fake, monkeypatch, capsys):
    def run(config, folder):
        Fake.run(fake, config, folder)
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["best"], metrics["validation"] = {"metric": "accuracy", "value": None}, None
        (folder / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.setattr(sys.modules["bertft.cli.commands.train"], "run", run)
    assert main(SEARCH) == 2
    assert "has no validation metric, by which trials are ranked" in capsys.readouterr().err


def test_a_default_whose_metric_is_nan_at_first(fake, capsys):
    rate, accuracy = 2e-3, fake.accuracy

    def nan_at_first(config, step):
        is_default = config.method.low_rank.learning_rate == rate and config.method.rank == 8
        return math.nan if is_default and step == 2 else accuracy(config, step)

    fake.accuracy = nan_at_first
    assert main(SEARCH) == 0
    [default] = [row for row in summary() if "default" in row["note"]]
    assert default["accuracy 1/8"] == "" and default["accuracy 1/4"] and default["accuracy all"]
    out, err = capsys.readouterr()
    assert "default: accuracy 0.87" in out and "nan" not in out and "Traceback" not in err


def test_the_default_fails_or_is_the_best(fake, capsys):
    words = [word for word in SEARCH if not word.startswith("tune.space")]
    words += [f"tune.space={{{RATE}: tag(log,interval(3e-2,1e-1))}}", "tune.trials=2"]
    fake.fails = lambda config: NonFiniteError("the loss was NaN")
    assert main(words) == 5
    err = capsys.readouterr().err
    assert "the default configuration failed: the loss was NaN" in err and len(fake.calls) == 1
    fake.fails = lambda config: None
    assert main(words) == 0
    rows = summary()
    assert rows[0]["trial"] == "" and rows[0]["note"] == "best, default" and len(rows) == 3
    out = capsys.readouterr().out
    assert "best: the default configuration" in out
    assert "better than the default? no: no trial was better than the default" in out
    assert OmegaConf.load("s/best.yaml").method.low_rank.learning_rate == 2e-3


def test_a_signal_states_how_to_continue(fake, capsys):
    fake.fails = lambda config: StoppedBySignal(15)
    assert main(SEARCH) == 143
    assert "Repeat the command with hydra.sweep.dir=s to continue" in capsys.readouterr().err


def test_a_full_disk_is_not_the_launcher_s_fault(fake, monkeypatch, capsys):
    def add_trial(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "s/search.journal")

    monkeypatch.setattr("bertft.search.journal.Journal.add_trial", add_trial)
    assert main(SEARCH) != 0
    err = capsys.readouterr().err
    assert "error: hydra.sweep.dir=s: no space left on device. Free space on the disk" in err


def test_two_searches_do_not_share_a_folder(fake, capsys):
    with exclusive_lock(Path("s")):
        assert main(SEARCH) == 2
    assert "another process is writing to this folder" in capsys.readouterr().err


def test_without_optuna(fake, monkeypatch, capsys):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    assert main(SEARCH) == 2
    err = capsys.readouterr().err
    assert 'tune: the package optuna is not installed. Run pip install "bertft[tune]"' in err
    assert fake.calls == []


def test_the_configuration_without_a_search(fake, capsys):
    assert main([*SEARCH, "--cfg", "job"]) == 0
    shown = capsys.readouterr().out
    assert "trials: 4" in shown and "rank: 8" in shown
    assert fake.calls == [] and not Path("s").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-m"], "-m: is not supported by tune. Leave it out: tune always trains several runs"),
        (["tune.trails=3"], "Did you mean 'tune.trials'?"),
        (["data.train=-", "data=files"], "standard input is not supported"),
    ],
)
def test_mistakes(fake, capsys, words, text):
    assert main(["tune", *words]) == 2
    assert text in capsys.readouterr().err and not Path("outputs").exists()
