"""``bertft eval``: score a run, a merged folder or a plain transformers folder on labelled rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bertft.assembly.features import features_of
from bertft.assembly.saved import Saved, open_saved
from bertft.assembly.warn import warn
from bertft.config.commands import EvalConfig
from bertft.data.features import cache_folder
from bertft.data.rows import Rows
from bertft.data.sources import load
from bertft.errors import UsageError
from bertft.reports.tables import group_table, score_table
from bertft.runs.atomic import environment
from bertft.runs.folder import RunFolder
from bertft.tasks import row_form
from bertft.training.evaluate import evaluate

__all__ = ["run"]


def run(config: EvalConfig, folder: Path) -> None:
    """Print the metrics and leave them in ``folder``/metrics.json under the split's name."""
    place = RunFolder(folder)
    place.refuse_a_run()
    saved = open_saved(
        config.run, checkpoint=config.checkpoint, precision=config.precision, device=config.device,
        data=config.data, warn=warn,
    )  # fmt: skip
    if saved.run is None and config.data is None:
        raise UsageError(
            f"{config.run} is a plain folder and knows no rows", where="data",
            hint="Add data=files data.validation=<file>, or another data=",
        )  # fmt: skip
    rows = _rows(saved, config.split)
    if config.data is None:
        _compare(saved, config.split, rows)
    task, adapted = saved.adapted.task, saved.adapted
    tables = features_of(
        {config.split: rows}, task, adapted.tokenizer, saved.facts.max_length,
        cache_folder(saved.data.cache),
    )  # fmt: skip
    metrics = evaluate(adapted.runner, task, tables[config.split], adapted.precision)
    with environment(place.path):
        place.path.mkdir(parents=True, exist_ok=True)
    place.write_metrics({config.split: metrics})
    Console().print(score_table(metrics, task.metric, config.split, len(rows)))
    details = group_table(metrics, config.split)
    if details is not None:
        Console().print(details)
    print(place.metrics)


def _rows(saved: Saved, split: str) -> Rows:
    """The labelled rows of ``split``. UsageError if there are none."""
    # The classes are the model's, in its order, whatever the rows' own order would be.
    data = replace(saved.data, labels=saved.adapted.task.labels)
    # Of a run's training rows, those that validation was cut from are not part.
    need = ("train", "validation") if split == "train" and saved.run is not None else (split,)
    rows = dict(load(data, need, row_form(data)).items()).get(split)
    if rows is None or (saved.adapted.task.supervised and not rows.labelled):
        raise UsageError(
            f"there is no {split} split" if rows is None else f"the {split} split has no labels",
            where="split", hint=f"Give data.{split}=<file> with labels, or another split",
        )  # fmt: skip
    for reason, count in rows.skipped.items():
        warn(f"{rows.source}: left out {count:,} × {reason}")
    return rows


def _compare(saved: Saved, split: str, rows: Rows) -> None:
    """Tell where the files of the run have changed since."""
    assert saved.run is not None
    told = saved.run.read_manifest()["data"]["splits"].get(split)
    if told is not None and told["fingerprint"] != rows.fingerprint:
        warn(f"{rows.source}: the {split} rows are not those that the run recorded")
