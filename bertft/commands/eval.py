"""``bertft eval``: score a run, a merged folder or a plain transformers folder on labelled rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bertft.assembly.features import features_of
from bertft.assembly.saved import open_saved
from bertft.config.commands import EvalConfig
from bertft.data.features import cache_folder
from bertft.data.sources import load
from bertft.errors import UsageError
from bertft.reports.tables import score_table
from bertft.runs.folder import RunFolder
from bertft.training.evaluate import evaluate

__all__ = ["run"]


def run(config: EvalConfig, folder: Path) -> None:
    """Print the metrics and leave them in ``folder``/metrics.json under the split's name."""
    place = RunFolder(folder)
    place.refuse_a_run()
    saved = open_saved(
        config.run, checkpoint=config.checkpoint, precision=config.precision, device=config.device,
        data=config.data, warn=Console(stderr=True).print,
    )  # fmt: skip
    if saved.run is None and config.data is None:
        raise UsageError(
            f"{config.run} is a plain folder and knows no rows", where="data",
            hint="Add data=files data.validation=<file>, or another data=",
        )  # fmt: skip
    task = saved.adapted.task
    # The classes are the model's, in its order, whatever the rows' own order would be.
    data = replace(saved.data, labels=task.labels)
    splits = load(data, (config.split,))
    rows = dict(splits.items())
    tables = features_of(
        rows, task, saved.adapted.tokenizer, saved.facts.max_length, cache_folder(data.cache)
    )
    if config.split not in tables:
        raise UsageError(
            f"the {config.split} split has no labels" if config.split in rows
            else f"there is no {config.split} split",
            where="split", hint=f"Give data.{config.split}=<file> with labels, or another split",
        )  # fmt: skip
    metrics = evaluate(saved.adapted.runner, task, tables[config.split], saved.adapted.precision)
    place.path.mkdir(parents=True, exist_ok=True)
    place.write_metrics({config.split: metrics})
    console = Console()
    console.print(score_table(metrics, task.metric, config.split, len(rows[config.split])))
    print(f"{place.metrics}")
