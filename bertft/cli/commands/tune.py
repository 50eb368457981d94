"""``bertft tune`` and ``bertft train -m hydra/sweeper=halving``: run and print a search."""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Callable
from dataclasses import dataclass, field

from omegaconf import DictConfig

from bertft.cli.commands.sweep import SweepProgress, SweepStopped, run_job
from bertft.config.search_plan import SearchPlan
from bertft.errors import BertftError, StoppedBySignal, SweepError
from bertft.runs.run_folder import continue_hint, exclusive_lock
from bertft.search.proposals import check_optuna
from bertft.training.signals import InterruptOnSignal
from bertft.utils.atomic_io import atomic_write_text
from bertft.utils.messages import display_path, first_line
from bertft.utils.status import show_status
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run_search"]

Launcher = Callable[[Callable[[DictConfig], float | None]], None]  # starts Hydra's sweeper


@dataclass(frozen=True)
class _TrialRunner:
    """Runs one job of a search without output: the search prints a line per job.

    A launcher copies the object into its processes.
    """

    progress: SweepProgress = field(default_factory=SweepProgress)

    def __call__(self, config: DictConfig) -> float | None:
        with contextlib.redirect_stdout(io.StringIO()):
            return run_job(config, self.progress, log=lambda _: None)


def run_search(plan: SearchPlan, launch: Launcher) -> int:
    """Run the search with ``launch(job)``, print and write its result.

    Raises:
        UsageError: optuna is missing, or the folder has another search.
        SweepError: the default or all trials failed, or the launcher failed.
        StoppedBySignal: a signal stopped the search; it continues if the command is repeated.
    """
    check_optuna()
    with exclusive_lock(plan.folder, "hydra.sweep.dir"):
        try:
            _launch(plan, launch)
        except (SweepStopped, StoppedBySignal) as error:
            stopped = error.args[0] if isinstance(error, SweepStopped) else error
            raise StoppedBySignal(stopped.signum, hint=continue_hint(plan.folder)) from None
        _report(plan)
    return 0


def _launch(plan: SearchPlan, launch: Launcher) -> None:
    """Run Hydra's sweeper. An exception of the launcher becomes SweepError."""
    try:
        with InterruptOnSignal():
            launch(_TrialRunner())
    except BertftError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # of the journal: not the launcher's
        reason = first_line(f"{type(error).__name__}: {error}")
        raise SweepError(
            f"the launcher {plan.launcher} failed: {reason}",
            where=str(plan.folder),
            hint=f"HYDRA_FULL_ERROR=1 shows the traceback. {continue_hint(plan.folder)}",
        ) from error


def _report(plan: SearchPlan) -> None:
    from bertft.report.console import wide_console
    from bertft.report.terminal_table import FittedTable
    from bertft.search.page import PAGE_FILE, render_search
    from bertft.search.result import (
        read_result,
        train_command,
        trials_table,
        verdict_lines,
        write_files,
    )

    show_status("comparing the best configuration with the default")
    result = read_result(plan, print_warning)
    write_files(result)
    console = wide_console()
    console.print(FittedTable(trials_table(result)))
    for line in verdict_lines(result):
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)
    print_escaped(f"train with it: {train_command(result)}")
    show_status("drawing page")
    page = plan.folder / PAGE_FILE
    atomic_write_text(page, render_search(result))
    print_escaped(f"page: {display_path(page)}")
