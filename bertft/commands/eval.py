"""``bertft eval``: score a model, or answers from elsewhere, on labelled rows."""

from __future__ import annotations

from pathlib import Path

from bertft.config.commands import EvalRequest
from bertft.config.printed import say
from bertft.data.accounting import accounting_line
from bertft.reports.console import plain_console
from bertft.reports.tables import group_table, score_table
from bertft.runs.atomic import environment, write_json
from bertft.runs.folder import RunFolder

__all__ = ["run"]

_ROWS = "rows.json"


def run(config: EvalRequest, folder: Path) -> None:
    """Print the metrics and leave them in ``folder``/metrics.json under the split's name.

    Next to it rows.json has the accounting of the rows, under that name too.
    """
    place = RunFolder(folder)
    place.refuse_a_run()
    if config.predictions is not None:  # which takes neither a model nor torch
        from bertft.commands.eval_predictions import score

        metrics, chosen, counts = score(config)
    else:
        from bertft.commands.eval_run import score as score_run

        metrics, chosen, counts = score_run(config)
    with environment(place.path):
        place.path.mkdir(parents=True, exist_ok=True)
        write_json(place.path / _ROWS, {config.split: counts})
    place.write_metrics({config.split: metrics})
    plain_console().print(score_table(metrics, chosen, config.split, counts["used"]))
    details = group_table(metrics, config.split)
    if details is not None:
        plain_console().print(details)
    say(accounting_line(f"{config.split} ({counts['source']})", counts))
    say(place.metrics)
