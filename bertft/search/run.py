"""The search: train the default, propose trials, halve them, and compare the best with the default.

Every run goes through Hydra's launcher. ``Journal`` has the state after each of them, and the runs
resume from their own checkpoints, so that a search that is killed continues where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from bertft.config.overrides import split_override, unquote_value
from bertft.config.search_plan import Budget, SearchPlan, read_plan
from bertft.config.search_space import to_words
from bertft.errors import SweepError, UsageError
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.search.halving import (
    REDUCTION,
    RungResult,
    Trial,
    format_fraction,
    promoted,
    rank,
    rung_fractions,
    wave_ends,
)
from bertft.search.journal import Journal
from bertft.search.outcome import has_nan_metric, is_lower_better, read_results
from bertft.search.proposals import propose, total_trials
from bertft.utils.messages import first_line
from bertft.utils.numbers import format_clock, format_duration, format_score
from bertft.utils.terminal import print_escaped

__all__ = ["Search", "best_trial", "run_search"]

_NO_RESULT = RungResult(math.nan, None)


def run_search(
    settings: Mapping[str, Any],
    config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    arguments: Sequence[str],
) -> None:
    """Run the search of Hydra's sweeper; its results are in the folder of the sweep.

    Args:
        settings: ``hydra.sweeper``.
        config: Hydra's configuration of the sweep.
        loader: composes the configurations of the runs.
        launcher: runs them.
        arguments: the overrides of the command line without those of Hydra.
    """
    parser = OverridesParser.create(loader)
    parsed = parser.parse_overrides(list(arguments))
    fixed = [word.input_line or "" for word in parsed if not word.is_sweep_override()]
    plan = read_plan(
        parsed,
        parser,
        loader.load_sweep_config(config, fixed),
        Budget.read("hydra.sweeper", settings),
    )
    Search(plan, launcher).run()


def best_trial(journal: Journal, rungs: int) -> Trial:
    """The best of the trials that were trained to the end, and of the default.

    Raises SweepError if there is none.
    """
    complete = [trial for trial in journal.trials if len(trial.results) == rungs]
    default = journal.default
    if default.results and not any(trial.folder == default.folder for trial in complete):
        complete.append(default)
    if not complete:
        raise SweepError(
            f"no run has a finite {journal.metric} after all steps",
            where=str(journal.folder),
            hint="Search other values, or set another data.metric",
        )
    return rank(complete, rungs - 1, journal.lower_is_better)[0]


@dataclass(frozen=True)
class _Job:
    """A run to launch.

    Attributes:
        trial: what it trains; its results are added.
        words: the overrides of the run in addition to the fixed ones.
        rung: the number of the rung (from 0) up to which it is trained.
        name: for messages, such as ``trial 3``.
        record: stores the trial after the run.
        units: the part of a complete run that it trains.
    """

    trial: Trial
    words: tuple[str, ...]
    rung: int
    name: str
    record: Callable[[Trial], None]
    units: float


class Search:
    """The search of ``plan`` with the runs of ``launcher``."""

    def __init__(self, plan: SearchPlan, launcher: Launcher) -> None:
        self.plan, self.launcher = plan, launcher
        self.total = total_trials(plan.space, plan.budget.trials)
        self.rungs = rung_fractions(plan.evaluations)
        self.journal: Journal
        self._launched = 0

    def run(self) -> None:
        """Run everything that the journal does not contain.

        Raises:
            UsageError: the default has no validation metric, or tune.time is too short.
            SweepError: the default or all trials failed, or the launcher did.
        """
        plan = self.plan
        plan.folder.mkdir(parents=True, exist_ok=True)
        journal = Journal.open(plan.folder, plan.space, plan.identity)
        if journal is not None and self.total is not None:
            # Fewer than the search has: no more are proposed, and none is lost.
            self.total = max(self.total, len(journal.trials))
        self.journal = self._train_default() if journal is None else journal
        for trial in self.journal.trials:  # as in a sweep that is repeated, failed runs run again
            trial.error = None
        self._check_time()
        self._train_trials()
        for rung in range(1, len(self.rungs)):
            self._train_rung(rung)
        self._train_seeds()

    # The default and the trials

    def _train_default(self) -> Journal:
        """Train the default configuration to the end: what the others are compared with."""
        plan, default = self.plan, Trial(0, {})
        last = len(self.rungs) - 1
        self._print("the default configuration, all steps")
        start = time.monotonic()
        [folder] = self._launch([self._words((), last)])
        if not (folder / "metrics.json").is_file():
            _, error = read_results(folder, [1.0], False)
            raise SweepError(
                f"the default configuration failed: {error}",
                where=str(folder),
                hint="Fix the cause and repeat the command",
            )
        metrics = read_metrics_json(folder / "metrics.json")
        if metrics["best"]["value"] is None and not has_nan_metric(RunFolder(folder)):
            raise UsageError(
                "the run of the default configuration has no validation metric, by which trials"
                " are ranked",
                where=str(folder),
                hint="Set data.validation=<file>. If the run has validation rows, no evaluation"
                " counted for best: its log.txt states why",
            )
        lower = is_lower_better(metrics)
        final, error = read_results(folder, [1.0], lower)
        if error is not None and metrics["best"]["value"] is not None:
            raise SweepError(error, where=str(folder))
        default.error = error
        if final:
            rungs = (read_results(folder, [fraction], lower)[0] for fraction in self.rungs)
            default.results = [results[0] if results else _NO_RESULT for results in rungs]
        default.folder = folder.name
        metric = metrics["best"]["metric"]
        journal = Journal.create(plan.folder, plan.space, plan.identity, metric, lower, default)
        journal.add_time(time.monotonic() - start, 1.0)
        value = f"{metric} {format_score(final[0].value)}" if final else f"no finite {metric}"
        self._print(f"default: {value}")
        return journal

    def _train_trials(self) -> None:
        """Propose the trials wave by wave, and train each up to the first rung."""
        plan, journal = self.plan, self.journal
        if not journal.trials and plan.default is not None:  # the default is the first trial
            journal.add_trial(plan.default)
        if plan.default is not None and not journal.trials[0].results:
            first, folder = journal.trials[0], journal.default.folder
            assert folder is not None
            # Without a finite metric at the first rung, it is a failed trial like any other.
            first.results, first.error = read_results(
                plan.folder / folder, self.rungs, journal.lower_is_better
            )
            first.folder = folder
            journal.record(first)
        for end in wave_ends(self.total):
            affordable = self._affordable_trials(end)
            while len(journal.trials) < affordable:
                params = propose(
                    plan.space,
                    journal.trials,
                    self.total,
                    plan.budget.seed,
                    journal.lower_is_better,
                )
                journal.add_trial(params)
            self._train(journal.trials[:end], 0)
            if len(journal.trials) < end:
                break  # the time is over
        others = [trial for trial in journal.trials if trial.folder != journal.default.folder]
        failed = [trial for trial in others if trial.error is not None]
        if len(failed) == len(others) > 0:
            raise SweepError(
                f"all {len(failed)} trials failed: {first_line(failed[0].error)}",
                where=str(plan.folder),
                hint="The default configuration did not. Search values closer to it"
                if journal.default.results
                else "The default configuration did too. Search other values",
            )

    def _train_rung(self, rung: int) -> None:
        """Train the better half of the trials of the rung before up to ``rung``."""
        chosen = promoted(self.journal.trials, rung, self.journal.lower_is_better)
        units = self.rungs[rung] - self.rungs[rung - 1]
        while len(chosen) > 1 and not self._fits(len(chosen) * units + self._final_units()):
            chosen = chosen[:-1]
        self._train(chosen, rung)

    def _train(self, trials: Sequence[Trial], rung: int) -> None:
        """Train those of ``trials`` up to ``rung`` that are not there yet."""
        units = self.rungs[rung] - (self.rungs[rung - 1] if rung else 0.0)
        self._run_jobs(
            [
                _Job(
                    trial,
                    tuple(to_words(self.plan.space, trial.params)),
                    rung,
                    f"trial {trial.number}",
                    self.journal.record,
                    units,
                )
                for trial in trials
                if trial.error is None and len(trial.results) <= rung
            ]
        )

    def _train_seeds(self) -> None:
        """Train the best configuration and the default with each of ``tune.seeds``."""
        journal, plan = self.journal, self.plan
        best = best_trial(journal, len(self.rungs))
        if not journal.default.results:
            return  # nothing to compare with
        compared = [journal.default]
        if best.folder != journal.default.folder:
            compared.append(best)
        jobs = []
        for seed in plan.budget.seeds:
            for trial in compared:
                assert trial.folder is not None
                record = partial(journal.record_final, trial.folder, seed)
                if seed == plan.base_seed:  # it was trained with this seed
                    record(replace(trial))
                done = journal.finals.get((trial.folder, seed))
                if done is not None and done.error is None:
                    continue
                name = "default" if trial is journal.default else "best"
                words = (*to_words(plan.space, trial.params), f"seed={seed}")
                run = Trial(trial.number, trial.params)
                last = len(self.rungs) - 1
                jobs.append(_Job(run, words, last, f"{name}, seed {seed}", record, 1.0))
        while jobs and not self._fits(len(jobs)):
            jobs = jobs[: len(jobs) - len(compared)]
        self._run_jobs(jobs)

    # Runs

    def _run_jobs(self, jobs: Sequence[_Job]) -> None:
        """Launch ``jobs`` and record their results, one by one if the launcher runs them so."""
        size = 1 if self.plan.launcher == "basic" else max(1, len(jobs))
        for start in range(0, len(jobs), size):
            self._run_batch(jobs[start : start + size])

    def _run_batch(self, jobs: Sequence[_Job]) -> None:
        journal = self.journal
        for job in jobs:
            self._print(f"{job.name}, {self._describe(job)}{self._time_left()}")
        started = time.monotonic()
        folders = self._launch([self._words(job.words, job.rung) for job in jobs])
        for job, folder in zip(jobs, folders, strict=True):
            results, error = read_results(
                folder, self.rungs[: job.rung + 1], journal.lower_is_better
            )
            job.trial.results = results or job.trial.results
            job.trial.folder, job.trial.error = folder.name, error
            job.record(job.trial)
            value = "" if error else f"{journal.metric} {format_score(results[-1].value)}"
            self._print(f"{job.name}: {f'failed: {first_line(error)}' if error else value}")
        journal.add_time(time.monotonic() - started, sum(job.units for job in jobs))

    def _launch(self, jobs: Sequence[Sequence[str]]) -> list[Path]:
        """Run the jobs with these overrides; the folders of the runs."""
        returns = self.launcher.launch(jobs, initial_job_idx=self._launched)
        self._launched += len(jobs)
        folders = []
        for job in returns:
            _ = job.return_value  # raises the exception of a job that the launcher could not run
            assert job.hydra_cfg is not None
            folders.append(Path(job.hydra_cfg.hydra.runtime.output_dir))
        return [self.plan.folder / folder.name for folder in folders]

    def _words(self, words: Sequence[str], rung: int) -> list[str]:
        """The overrides of a run that is trained up to ``rung``."""
        own = {split_override(word)[1] for word in words}
        own.add("quiet")  # the search prints a line per run
        fixed = [word for word in self.plan.fixed if split_override(word)[1] not in own]
        keys = {split_override(word)[1] for word in fixed}
        added = [] if "report" in keys else ["report=false"]
        if self.rungs[rung] < 1:
            added.append(f"trainer.stop_at={self.rungs[rung]!r}")
        return [*fixed, *words, *added, "quiet=true"]

    # Time

    def _final_units(self) -> float:
        """Complete runs that the seeds need."""
        seeds = [seed for seed in self.plan.budget.seeds if seed != self.plan.base_seed]
        return 2.0 * len(seeds)

    def _units_left(self, trials: int) -> float:
        """Complete runs that are left if the search has ``trials`` trials."""
        units = self._final_units() - len(
            [run for (_, seed), run in self.journal.finals.items() if seed != self.plan.base_seed]
        )
        for rung, fraction in enumerate(self.rungs):
            count = max(1, trials // REDUCTION**rung)
            # The default was trained before, but another trial may take its place.
            done = [
                trial
                for trial in self.journal.trials
                if (len(trial.results) > rung or trial.error is not None)
                and (rung == 0 or trial.folder != self.journal.default.folder)
            ]
            units += max(0, count - len(done)) * (
                fraction - (self.rungs[rung - 1] if rung else 0.0)
            )
        return max(0.0, units)

    def _fits(self, units: float) -> bool:
        """Whether ``units`` complete runs fit into the time that is left."""
        budget, journal = self.plan.budget.seconds, self.journal
        if budget is None or not journal.units:
            return True
        return journal.seconds + units * journal.seconds / journal.units <= budget

    def _affordable_trials(self, end: int) -> int:
        """The largest number of trials up to ``end`` for which the time suffices."""
        present = len(self.journal.trials)
        return max(
            (n for n in range(present + 1, end + 1) if self._fits(self._units_left(n))),
            default=present,
        )

    def _check_time(self) -> None:
        """UsageError if the time does not suffice for two trials."""
        budget, journal = self.plan.budget, self.journal
        if len(journal.trials) >= 2 or self._fits(needed := self._units_left(2)):
            return
        assert budget.seconds is not None
        per_run = journal.seconds / journal.units
        total = journal.seconds + needed * per_run
        raise UsageError(
            f"{format_duration(budget.seconds)} is too short: a complete run takes about"
            f" {format_duration(per_run)}, and a search needs at least {format_duration(total)}",
            where="tune.time",
            hint=f"Repeat the command with hydra.sweep.dir={self.plan.folder} and"
            f" tune.time={round(1.2 * total) + 1}s or more, or with fewer tune.seeds: the run of"
            " the default is kept. Or start a new search with fewer trainer.epochs",
        )

    def _time_left(self) -> str:
        journal = self.journal
        if not journal.units:
            return ""
        trials = self.total or len(journal.trials)
        seconds = self._units_left(trials) * journal.seconds / journal.units
        if self.plan.budget.seconds is not None:
            seconds = min(seconds, max(0.0, self.plan.budget.seconds - journal.seconds))
        return f" (about {format_clock(seconds)} left)"

    # Messages

    def _describe(self, job: _Job) -> str:
        params = " ".join(f"{key}={unquote_value(text)}" for key, text in job.trial.params.items())
        fraction = self.rungs[job.rung]
        steps = "all steps" if fraction == 1 else f"{format_fraction(fraction)} of the steps"
        return f"{steps}: {params or 'default'}"

    def _print(self, text: str) -> None:
        if not self.plan.quiet:
            print_escaped(text, stderr=True)
