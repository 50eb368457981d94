"""``bertft eval``: score a model, or answers from elsewhere, on labelled rows."""

from __future__ import annotations

from pathlib import Path

from bertft.config.commands import EvalRequest
from bertft.config.printed import print_escaped
from bertft.data.accounting import format_accounting
from bertft.reports.console import plain_console
from bertft.reports.tables import group_table, score_table
from bertft.runs.atomic import convert_write_errors, atomic_write_json
from bertft.runs.folder import RunFolder

__all__ = ["run"]

_ROWS_FILE = "rows.json"


def run(config: EvalRequest, folder: Path) -> None:
    """Print the metrics and leave them in ``folder``/metrics.json under the split's name.

    Next to it rows.json has the accounting of the rows, under that name too.
    """
    run_folder = RunFolder(folder)
    run_folder.ensure_no_run()
    if config.predictions is not None:  # which takes neither a model nor torch
        from bertft.commands.eval_predictions import score_predictions

        metrics, metric_name, counts = score_predictions(config)
    else:
        from bertft.commands.eval_run import score_run as score_run

        metrics, metric_name, counts = score_run(config)
    with convert_write_errors(run_folder.path):
        run_folder.path.mkdir(parents=True, exist_ok=True)
        atomic_write_json(run_folder.path / _ROWS_FILE, {config.split: counts})
    run_folder.write_metrics({config.split: metrics})
    plain_console().print(score_table(metrics, metric_name, config.split, counts["used"]))
    details = group_table(metrics, config.split)
    if details is not None:
        plain_console().print(details)
    print_escaped(format_accounting(f"{config.split} ({counts['source']})", counts))
    print_escaped(run_folder.metrics_path)
