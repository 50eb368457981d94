"""``bertft cross_validate``: train one run per fold, and print and write the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bertft.cli.commands.sweep import (
    LauncherError,
    SweepProgress,
    SweepStopped,
    job_folder,
    launch_jobs,
    run_job,
)
from bertft.config.command_configs import TrainConfig
from bertft.config.compose import to_dataclass
from bertft.config.registry import TASKS
from bertft.config.sweep_plan import SweepJob, SweepPlan
from bertft.cross_validation.contradictions import find_contradictions
from bertft.cross_validation.files import PREDICTIONS_FILE, metric_table, write_files
from bertft.cross_validation.fold_outputs import load_fold_outputs
from bertft.cross_validation.page import PAGE_FILE, render_cross_validation
from bertft.cross_validation.result import CrossValidation, read_cross_validation
from bertft.cross_validation.suspects import (
    SUSPECTS_FILE,
    Suspect,
    find_suspects,
    has_cleanlab,
    write_suspects,
)
from bertft.data.folds import rare_classes
from bertft.data.splits import Splits, check_folds, load_all_rows
from bertft.errors import BertftError, StoppedBySignal, SweepError
from bertft.report.console import plain_console
from bertft.report.sweep import read_jobs
from bertft.report.terminal_table import FittedTable
from bertft.runs.run_folder import RunFolder, continue_hint, exclusive_lock
from bertft.training.signals import InterruptOnSignal
from bertft.utils.atomic_io import atomic_write_text
from bertft.utils.messages import display_path, first_line, format_list, quote_value
from bertft.utils.status import mute_status, show_status
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run_cross_validation"]

Launcher = Callable[[Callable[[DictConfig], float | None]], None]  # calls it for every job


@dataclass(frozen=True)
class _FoldRunner:
    """Runs the job of a fold, and predicts the rows of the fold with its best checkpoint.

    A launcher copies the object into its processes.
    """

    progress: SweepProgress

    def __call__(self, config: DictConfig) -> float | None:
        value = run_job(config, self.progress)
        run = RunFolder(Path(HydraConfig.get().runtime.output_dir))
        if not _is_finished(run.path):
            return value
        try:
            with InterruptOnSignal(), mute_status(bool(config.get("quiet"))):
                load_fold_outputs(run, config.trainer.device, config.model.trust_remote_code)
        except StoppedBySignal as stopped:
            raise SweepStopped(stopped) from None
        except BertftError as error:  # the command repeats it after the other folds
            print_escaped(f"{run.path}: {error}", stderr=True)
        return value


def run_cross_validation(plan: SweepPlan, launch: Launcher) -> int:
    """Run the folds with ``launch(job)``, then print and write the result.

    Finished folds are not run again.

    Raises:
        DataError: the rows cannot be read or split into folds; no fold has been run.
        SweepError: a fold has no result.
        StoppedBySignal: a signal stopped a fold; the command continues if it is repeated.
    """
    jobs = plan.jobs
    assert jobs is not None, "the sweeper is Hydra's basic one"
    config: TrainConfig = to_dataclass("train", jobs[0].config)
    with mute_status(config.quiet):
        splits = _check_rows(config, jobs)
    folders = [job_folder(plan.folder, job) for job in jobs]
    with exclusive_lock(plan.folder, "hydra.sweep.dir"):
        _run_folds(plan, launch, jobs)
        _check_finished(plan, folders)
        with mute_status(config.quiet):
            assert splits.train is not None
            result = read_cross_validation(plan.folder, folders, splits.train, splits.schema)
            _report(result)
    return 0


def _check_rows(config: TrainConfig, jobs: Sequence[SweepJob]) -> Splits:
    """All rows, after checking that every fold can be trained. Prints what concerns all folds."""
    show_status("reading data")
    splits = load_all_rows(config.data)
    rows = splits.train
    assert rows is not None and config.data.folds is not None
    for repeat in sorted({job.config.data.repeat for job in jobs}):
        check_folds(rows, splits.schema, replace(config.data, repeat=repeat))
    rare = rare_classes(rows, config.data.folds)
    if rare:
        are_rare = "class has" if len(rare) == 1 else "classes have"
        print_warning(
            f"{len(rare)} {are_rare} fewer rows than there are folds"
            f" ({format_list(map(quote_value, rare), 4)}): some folds have no row of them"
        )
    return splits


def _run_folds(plan: SweepPlan, launch: Launcher, jobs: Sequence[SweepJob]) -> None:
    progress = SweepProgress.plan(plan.folder, jobs)
    try:
        with TemporaryDirectory(prefix="bertft-sweep-") as printed_dir:
            progress.printed_dir = Path(printed_dir)
            launch_jobs(plan, launch, _FoldRunner(progress))
    except (SweepStopped, StoppedBySignal) as error:
        stopped = error.args[0] if isinstance(error, SweepStopped) else error
        raise StoppedBySignal(stopped.signum, hint=continue_hint(plan.folder)) from None
    except LauncherError as error:
        raise SweepError(
            str(error), where=str(plan.folder), hint=continue_hint(plan.folder)
        ) from error


def _check_finished(plan: SweepPlan, folders: Sequence[Path]) -> None:
    """SweepError unless all folds are finished: a mean over some of them would mislead."""
    unfinished = [folder for folder in folders if not _is_finished(folder)]
    if not unfinished:
        return
    names = {folder.name for folder in unfinished}
    errors = [job.error for job in read_jobs(plan.folder) if job.folder.name in names and job.error]
    reason = f": {errors[0].splitlines()[0]}" if errors else ""
    raise SweepError(
        f"{len(unfinished)} of {len(folders)} folds have no result{reason}",
        where=str(plan.folder),
        hint=f"Fix the cause. {continue_hint(plan.folder)}: finished folds are kept",
    )


def _is_finished(folder: Path) -> bool:
    return RunFolder(folder).is_finished and not folder.is_symlink()


def _report(result: CrossValidation) -> None:
    show_status("writing the result")
    write_files(result)
    console = plain_console()
    console.print(FittedTable(metric_table(result)))
    count, missing = len(result.rows), result.unpredicted_rows
    excluded = f" ({missing:,} have no tokens)" if missing else ""
    file = display_path(result.folder / PREDICTIONS_FILE)
    print_escaped(
        f"{count - missing:,} of {count:,} rows are predicted, each by a model that was not trained"
        f" on it{excluded}: {file}"
    )
    suspects = _report_suspects(result)
    show_status("searching for duplicates with different labels")
    has_label_of_text = TASKS[result.config.data.task].label is not None
    contradictions = find_contradictions(
        result.rows, result.schema.text_fields, with_near=has_label_of_text
    )
    page = result.folder / PAGE_FILE
    atomic_write_text(page, render_cross_validation(result, suspects, contradictions))
    if contradictions:
        pairs = "pair" if len(contradictions) == 1 else "pairs"
        print_escaped(
            f"{len(contradictions):,} {pairs} of rows with the same or nearly the same text and"
            " different labels: see the page"
        )
    print_escaped(f"page: {display_path(page)}")


def _report_suspects(result: CrossValidation) -> list[Suspect] | None:
    """Write and count the suspect labels; None for a task without classes or without cleanlab."""
    if all(fold.outputs.classes is None for fold in result.folds):
        return None
    if not has_cleanlab():
        print_escaped(
            'labels are not checked: cleanlab is not installed. Run pip install "bertft[clean]"'
            f" and repeat the command with hydra.sweep.dir={result.folder}; finished folds are kept"
        )
        return None
    show_status("searching for suspect labels")
    try:
        suspects = find_suspects(result)
    except ValueError as error:
        print_warning(f"cleanlab cannot judge the labels: {first_line(error)}")
        return None
    if suspects is None:
        return None
    write_suspects(result, suspects)
    file = display_path(result.folder / SUSPECTS_FILE)
    labels = "label is" if len(suspects) == 1 else "labels are"
    line = f"{len(suspects):,} {labels} suspect: {file}"
    if suspects:
        line += f". Train without their rows: data.drop_rows={file}"
    print_escaped(line)
    return suspects
