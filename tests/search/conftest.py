"""Searches whose runs take no time: a launcher that writes the files of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertft.config.search_plan import Budget, SearchPlan
from bertft.config.search_space import Distribution
from bertft.config.trainer import step_at
from bertft.search.run import Search

RATE = Distribution("tag(log,interval(1e-4,1e-1))", low=1e-4, high=1e-1, is_log=True)
RANK = Distribution("choice(2,4,8)", ("2", "4", "8"))
DEFAULT = {"rate": "0.002", "rank": "8"}
STEPS = 16


class FakeLauncher:
    """Runs jobs in ``folder``. Accuracy is best at a rate of 1e-3 and grows with the steps.

    ``calls`` has (folder, first step, last step) of each run. ``fails(settings)`` is the error of a
    run, or None; ``is_nan(settings, step)`` whether its metric is NaN then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []
        self.batches: list[int] = []
        self.fails: Callable[[dict[str, str]], str | None] = lambda settings: None
        self.is_nan: Callable[[dict[str, str], int], bool] = lambda settings, step: False
        self.before: Callable[[int], None] = lambda number: None

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        self.batches.append(len(jobs))
        return [self._run(dict(word.split("=", 1) for word in words)) for words in jobs]

    def _run(self, words: dict[str, str]) -> Any:
        settings = {**DEFAULT, "seed": "0", **words}
        rate, rank, seed = float(settings["rate"]), int(settings["rank"]), int(settings["seed"])
        folder = self.folder / f"{rate:g}-{rank}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        self.before(len(self.calls))
        stop_at = words.get("trainer.stop_at")
        stop = STEPS if stop_at is None else step_at(float(stop_at), STEPS)
        log = folder / "metrics.jsonl"
        begun = 2 * len(log.read_text().splitlines()) if log.exists() else 0
        error = self.fails(settings)
        (folder / "job.json").write_text(json.dumps({"error": error}))
        if error is None and begun < stop:
            self.calls.append((folder.name, begun, stop))
            self._train(folder, log, range(begun + 2, stop + 1, 2), settings)
        config = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(folder)))
        return SimpleNamespace(return_value=None, hydra_cfg=SimpleNamespace(hydra=config))

    def _train(self, folder: Path, log: Path, steps: range, settings: dict[str, str]) -> None:
        rate, rank = float(settings["rate"]), int(settings["rank"])
        (folder / "manifest.json").write_text(json.dumps({"total_steps": STEPS}))
        value: float | None = 0.0
        with open(log, "a") as file:
            for step in steps:
                value = 0.9 - 0.1 * abs(math.log10(rate) + 3) - 0.2 * (1 - step / STEPS)
                value += 0.001 * rank
                value = None if self.is_nan(settings, step) else value
                line = {"event": "evaluated", "step": step, "metric": "accuracy"}
                line["metrics"] = {"accuracy": value, "loss": 1 / step}
                file.write(json.dumps(line) + "\n")
        if steps[-1] < STEPS:
            return
        names = ("total", "trainable", "head", "method", "kept", "exported")
        metrics = {
            "best": {
                "metric": "accuracy", "value": value, "step": None if value is None else STEPS
            },
            "train": {"seconds": 2.0, "rows_per_second": 1.0, "tokens_per_second": 9.0,
                      "steps": STEPS},
            "parameters": dict.fromkeys(names, 9),
        }  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def make_search(tmp_path, monkeypatch) -> Callable[..., Search]:
    """``make_search(folder="s", trials=8, seconds=None, ...)``: a search that is not begun."""
    pytest.importorskip("optuna")
    monkeypatch.setattr("os.fsync", lambda _: None)  # no test here cuts the power

    def build(
        folder: str = "s",
        *,
        trials: int | None = 8,
        seconds: float | None = None,
        seeds: tuple[int, ...] = (5, 6),
        launcher: str = "basic",
        default: dict[str, str] | None = DEFAULT,
        **space: Distribution,
    ) -> Search:
        path = tmp_path / folder
        plan = SearchPlan(
            folder=path,
            launcher=launcher,
            fixed=("quiet=false", "trainer.evaluations=8"),
            space=space or {"rate": RATE, "rank": RANK},
            budget=Budget(trials, seconds, seeds, 0),
            default=default,
            default_folder="0.002-8-0",
            evaluations=8,
            base_seed=0,
            quiet=False,
        )
        return Search(plan, FakeLauncher(path))  # type: ignore[arg-type]

    return build
