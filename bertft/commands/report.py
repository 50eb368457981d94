"""``bertft report``: make a finished run's report.html and plots/ again.

For a run whose report a kill cut off, that was trained with ``report=false``, or whose report an
earlier version made. Validation is answered anew by the best checkpoint; nothing else of the run
changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bertft.assembly import base
from bertft.assembly.adapted import fill
from bertft.assembly.calibrate import apply, recorded
from bertft.assembly.checkpoint import read_weights
from bertft.assembly.manifest import read_manifest
from bertft.assembly.prepare import prepare
from bertft.assembly.warn import warn
from bertft.commands.run_report import report_on
from bertft.config.commands import ReportConfig
from bertft.config.printed import say
from bertft.config.resumed import runnable_config
from bertft.errors import EnvironmentFailed, UsageError
from bertft.reports.console import line_printer, plain_console
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.runs.lock import alone
from bertft.runs.result import read_result
from bertft.training.signals import EndingSignal

__all__ = ["run"]


def run(config: ReportConfig, _: Path) -> None:
    """Print the page's path. EnvironmentFailed if there is none in the end; ``warn`` said why."""
    place = RunFolder.open(Path(config.run).expanduser())
    if not place.finished:
        raise UsageError(
            "is not finished", where=str(place.path),
            hint=f"Go on with bertft train resume={place.path}",
        )  # fmt: skip
    place.refuse_links()
    place.check_seal(place.metrics)
    with alone(place.path), EndingSignal():
        made = _make(place, config)
    if made is None:
        raise EnvironmentFailed("no report was left", where=str(place.path))
    say(f"report: {made}")


def _make(place: RunFolder, config: ReportConfig) -> Path | None:
    of_run = runnable_config(place.path, config.trust_remote_code)
    metrics = read_result(place.metrics)
    of_run = replace(of_run, trainer=replace(of_run.trainer, device=config.device))
    step = metrics["best"]["step"]
    # A run without validation rows keeps its last checkpoint alone.
    which = Checkpoints(place.checkpoints).find("last" if step is None else str(step))
    say = line_printer(plain_console(stderr=True))
    try:
        prepared = prepare(of_run, place, read_manifest(place), say, checkpoint=which, opened=True)
    finally:
        base.discard(place)
    fill(prepared.adapted.model, read_weights(which))
    fitted = recorded(place, step)
    if fitted is not None:
        apply(fitted, prepared.adapted)
    rows = of_run.trainer.micro_batch or of_run.trainer.batch_size
    return report_on(place, of_run, prepared, metrics, None, rows, warn, again=True)
