"""The result of a search: the table of its trials, and the best configuration against the default.

The best configuration was chosen on the validation rows, among many and with one seed. It is
therefore trained again with other seeds, and so is the default. The paired bootstrap of ``bertft
compare`` over the validation rows tests whether the choice of the rows explains their difference.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bertft.config.overrides import unquote_value
from bertft.config.resume import read_run_config
from bertft.config.search_plan import SearchPlan
from bertft.config.serialize import to_yaml
from bertft.errors import BertftError
from bertft.export.markdown import escape_markdown, markdown_table
from bertft.report.compare.comparison import ComparedRow, Comparison, compare_runs
from bertft.report.compare.read import check_comparable, read_runs
from bertft.report.compare.row_statistics import load_row_statistics
from bertft.report.result_rows import format_mean
from bertft.runs.metrics_json import read_metrics_json
from bertft.search.halving import Trial, format_fraction, rung_fractions
from bertft.search.journal import Journal
from bertft.search.run import best_trial
from bertft.tasks.report_items import TableItem
from bertft.utils.atomic_io import atomic_write_bytes, atomic_write_text
from bertft.utils.messages import first_line, quote_for_shell
from bertft.utils.numbers import format_score

__all__ = [
    "SearchResult",
    "Verdict",
    "read_result",
    "run_seconds",
    "train_command",
    "trials_table",
    "verdict_lines",
    "write_files",
]

BEST_FILE = "best.yaml"
_DRAWS = 10_000


@dataclass(frozen=True)
class Verdict:
    """The best configuration against the default.

    Attributes:
        best, default: their rows in the comparison; None if the default is the best.
        answer: yes, no, "no significant difference" or "unknown", with the reason.
        comparison: None if nothing could be compared.
        chosen_seed: the seed of the trials if it is one of the compared seeds.
    """

    answer: str
    best: ComparedRow | None = None
    default: ComparedRow | None = None
    comparison: Comparison | None = None
    chosen_seed: int | None = None


@dataclass(frozen=True)
class SearchResult:
    """A complete search.

    Attributes:
        trials: those that were trained furthest first, and of them the best first. A default that
            is not in the space has the number -1.
        best: the best configuration, which may be the default.
    """

    plan: SearchPlan
    journal: Journal
    rungs: Sequence[float]
    trials: Sequence[Trial]
    best: Trial
    verdict: Verdict

    @property
    def names(self) -> dict[str, str]:
        """Setting → the shortest name that is unique among the searched settings."""
        return _short_names(self.plan.space)

    def is_default(self, trial: Trial) -> bool:
        return trial.folder is not None and trial.folder == self.journal.default.folder

    def describe(self, trial: Trial) -> str:
        """The values of ``trial`` as on the command line."""
        settings = [f"{key}={unquote_value(text)}" for key, text in trial.params.items()]
        return " ".join(map(quote_for_shell, settings)) or "the default configuration"


def read_result(plan: SearchPlan, warn: Callable[[str], None]) -> SearchResult:
    """The result in the folder of a search whose runs are finished.

    Raises DataError if the journal is damaged.
    """
    journal = Journal.open(plan.folder, plan.space, plan.identity)
    assert journal is not None
    rungs = rung_fractions(plan.evaluations)
    lower = journal.lower_is_better
    default = journal.default
    # The trial of the default ended at the first rung if it had no finite metric there, but its run
    # is complete.
    trials = [
        replace(trial, results=default.results, error=default.error)
        if trial.folder == default.folder
        else trial
        for trial in journal.trials
    ]
    if plan.default is None:
        trials.append(replace(default, number=-1))

    def order(trial: Trial) -> tuple[float, ...]:
        last = trial.results[-1].sort_key(lower) if trial.results else ()
        return -len(trial.results), *last, trial.number

    trials.sort(key=order)
    best = best_trial(journal, len(rungs))
    verdict = _judge(journal, best, plan.base_seed, warn)
    return SearchResult(plan, journal, rungs, trials, best, verdict)


def _judge(journal: Journal, best: Trial, base_seed: int, warn: Callable[[str], None]) -> Verdict:
    default = journal.default
    if best.folder == default.folder:
        return Verdict("no: no trial was better than the default")
    if not default.results:
        return Verdict(f"unknown: the run of the default has no finite {journal.metric}")
    folders = _compared_folders(journal, best)
    paths = [str(journal.folder / name) for names in folders.values() for name in names]
    try:
        runs = read_runs(paths, warn)
        check_comparable(runs)
        against = str(journal.folder / folders[default.folder][0])
        comparison = compare_runs(
            runs, against, _DRAWS, lambda run: load_row_statistics(run.folder, log=warn)
        )
    except BertftError as error:
        return Verdict(f"unknown: {error}")
    rows = {job.folder.name: row for row in comparison.rows for job in row.result.jobs}
    best_row, default_row = rows[folders[best.folder][0]], rows[folders[default.folder][0]]
    chosen_seed = base_seed if best.folder in folders[best.folder] else None
    return Verdict(_answer(best_row, comparison), best_row, default_row, comparison, chosen_seed)


def _compared_folders(journal: Journal, best: Trial) -> dict[str | None, list[str]]:
    """The runs of the best configuration and of the default with the same seeds.

    These are the seeds with which both are finished; that of the trials if there are none.
    """
    names = [best.folder, journal.default.folder]
    folders: dict[tuple[str, int], str] = {
        key: run.folder
        for key, run in journal.finals.items()
        if run.folder is not None and run.error is None
    }
    seeds = [{seed for folder, seed in folders if folder == name} for name in names]
    common = sorted(seeds[0] & seeds[1])
    return {name: [folders[name, seed] for seed in common] or [name] for name in names if name}


def _answer(row: ComparedRow, comparison: Comparison) -> str:
    difference = row.difference
    if difference is None:
        return f"unknown: {row.reason}"
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return "unknown: the metric is not finite in the resamples of the validation rows"
    interval = (
        f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}], 95 % interval"
        f" of a paired bootstrap of the validation rows"
    )
    if row.is_tie:
        return f"no significant difference: the interval contains 0 ({interval})"
    is_better = difference.high < 0 if comparison.lower_is_better else difference.low > 0
    return f"{'yes' if is_better else 'no, it is worse'}: {interval}"


def verdict_lines(result: SearchResult) -> list[str]:
    """The best configuration, its comparison with the default, and the command to train with it."""
    verdict, metric = result.verdict, result.journal.metric
    lines = [f"best: {result.describe(result.best)}"]
    for name, row in (("best", verdict.best), ("default", verdict.default)):
        if row is None:
            continue
        seeds = f"{row.result.runs} {'seed' if row.result.runs == 1 else 'seeds'}"
        test = _mean_test_metric(row, metric)
        test_text = "" if test is None else f"; on the test rows {format_score(test)}"
        lines.append(f"{name}, {seeds}: {metric} {format_mean(row.result)}{test_text}")
    if verdict.best is None:
        runs = {"best": result.best, "default": result.journal.default}
        for name, run in runs.items():
            if run.results and (name == "default" or not result.is_default(run)):
                lines.append(f"{name}: {metric} {format_score(run.results[-1].value)}")
    lines.append(f"better than the default? {verdict.answer}")
    if verdict.best is not None:
        lines.append(_selection_note(verdict, metric))
    return lines


def _selection_note(verdict: Verdict, metric: str) -> str:
    """What the comparison shares with the choice of the best configuration."""
    assert verdict.best is not None
    shared = "on the same validation rows"
    if verdict.chosen_seed is not None:
        shared += f" and with seed {verdict.chosen_seed}"
    note = f"The best configuration was chosen {shared}, which favours it"
    if _mean_test_metric(verdict.best, metric) is not None:
        note += "; the test rows were not used to choose"
    return f"{note}."


def _mean_test_metric(row: ComparedRow, metric: str) -> float | None:
    tests = [job.metrics["test"] for job in row.result.jobs if job.metrics is not None]
    values = [test[metric] for test in tests if test is not None]
    return fmean(values) if values and len(values) == len(tests) else None


def trials_table(result: SearchResult) -> TableItem:
    """One row per trial: its settings and the metric at each rung."""
    names, journal = result.names, result.journal
    fractions = [format_fraction(fraction) for fraction in result.rungs]
    rows = []
    for trial in result.trials:
        values = [
            "–" if math.isnan(one.value) else format_score(one.value) for one in trial.results
        ]
        rows.append(
            [
                "–" if trial.number < 0 else str(trial.number),
                *(unquote_value(trial.params.get(key, "–")) for key in names),
                *values,
                *["–"] * (len(result.rungs) - len(values)),
                _note(result, trial),
            ]
        )
    strong = [n for n, trial in enumerate(result.trials) if trial.folder == result.best.folder]
    head = ["trial", *names.values(), *fractions, ""]
    kinds = ["number"] * (len(head) - 1) + ["text"]
    note = f"{journal.metric} on the validation rows: best value up to each fraction of the steps."
    return TableItem("trials", "Trials", note, head=head, rows=rows, strong=strong, kinds=kinds)


def _note(result: SearchResult, trial: Trial) -> str:
    words = [
        *(["best"] if trial.folder == result.best.folder else []),
        *(["default"] if result.is_default(trial) else []),
        *([f"failed: {first_line(trial.error)}"] if trial.error else []),
    ]
    return ", ".join(words)


def write_files(result: SearchResult) -> None:
    """Write summary.csv, summary.md and best.yaml.

    They have no times, so that a search that was killed and continued writes the same bytes.
    """
    folder, journal = result.plan.folder, result.journal
    fractions = [f"{journal.metric} {format_fraction(fraction)}" for fraction in result.rungs]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["trial", *result.plan.space, *fractions, "note", "folder"])
    for trial in result.trials:
        values: list[object] = ["" if math.isnan(one.value) else one.value for one in trial.results]
        table.writerow(
            [
                "" if trial.number < 0 else trial.number,
                *(unquote_value(trial.params.get(key, "")) for key in result.plan.space),
                *values,
                *[""] * (len(result.rungs) - len(values)),
                _note(result, trial),
                trial.folder or "",
            ]
        )
    atomic_write_bytes(folder / "summary.csv", text.getvalue().encode())
    item = trials_table(result)
    cells = [[escape_markdown(str(cell)) for cell in row] for row in item.rows]
    markdown = markdown_table([escape_markdown(name) for name in item.head], cells)
    lines = "\n".join(f"- {escape_markdown(line)}" for line in verdict_lines(result))
    title = escape_markdown(folder.name)
    content = "\n\n".join(filter(None, [f"# {title}", lines, markdown, item.note]))
    atomic_write_text(folder / "summary.md", f"{content}\n")
    assert result.best.folder is not None
    config = read_run_config(folder / result.best.folder)
    config = replace(config, config=None, quiet=False, report=True)
    head = f"# The best configuration of a search. Train with it: {train_command(result)}\n"
    atomic_write_text(folder / BEST_FILE, f"{head}{to_yaml(config)}")


def train_command(result: SearchResult) -> str:
    """The command that trains the best configuration."""
    word = quote_for_shell(f"config={result.plan.folder / BEST_FILE}")
    return f"bertft train {word}"


def run_seconds(result: SearchResult) -> float:
    """The training time of all runs of the search that are finished."""
    folders = {trial.folder for trial in (*result.trials, *result.journal.finals.values())}
    seconds = 0.0
    for name in folders - {None}:
        file = result.plan.folder / str(name) / "metrics.json"
        if file.is_file():
            seconds += read_metrics_json(file)["train"]["seconds"]
    return seconds


def _short_names(keys: Iterable[str]) -> dict[str, str]:
    paths = {key: key.replace("/", ".").split(".") for key in keys}
    names: dict[str, str] = {}
    length = 1
    while len(names) < len(paths):
        counts = Counter(".".join(parts[-length:]) for parts in paths.values())
        for key, parts in paths.items():
            name = ".".join(parts[-length:])
            if key not in names and (counts[name] == 1 or length >= len(parts)):
                names[key] = name
        length += 1
    return {key: names[key] for key in paths}
