"""Score a run, a merged folder or a plain transformers folder on labelled rows."""

from __future__ import annotations

from dataclasses import replace

from bertft.assembly.features import features_of
from bertft.assembly.saved import Saved, open_saved
from bertft.assembly.warn import warn
from bertft.config.commands import EvalConfig
from bertft.data.features import cache_folder
from bertft.data.rows import Rows
from bertft.data.sources import load
from bertft.errors import UsageError
from bertft.training.evaluate import evaluate

__all__ = ["score"]


def score(config: EvalConfig) -> tuple[dict[str, float], str, Rows]:
    """The metrics, the one that counts, and the rows."""
    assert config.run is not None, "checked with the configuration"
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
        cache_folder(saved.data.cache), saved.data.on_bad_row,
    )  # fmt: skip
    for reason, count in rows.skipped.items():
        warn(f"{rows.source}: left out {count:,} × {reason}")
    metrics = evaluate(adapted.runner, task, tables[config.split], adapted.precision)
    return metrics, task.metric, rows


def _rows(saved: Saved, split: str) -> Rows:
    """The labelled rows of ``split``. UsageError if there are none."""
    # The classes are the model's, in its order, whatever the rows' own order would be.
    data = replace(saved.data, labels=saved.adapted.task.labels)
    # Of a run's training rows, those that validation was cut from are not part.
    need = ("train", "validation") if split == "train" and saved.run is not None else (split,)
    rows = dict(load(data, need).items()).get(split)
    if rows is None or (saved.adapted.task.supervised and not rows.labelled):
        raise UsageError(
            f"there is no {split} split" if rows is None else f"the {split} split has no labels",
            where="split", hint=f"Give data.{split}=<file> with labels, or another split",
        )  # fmt: skip
    return rows


def _compare(saved: Saved, split: str, rows: Rows) -> None:
    """Tell where the files of the run have changed since."""
    assert saved.run is not None
    told = saved.run.read_manifest()["data"]["splits"].get(split)
    if told is not None and told["fingerprint"] != rows.fingerprint:
        warn(f"{rows.source}: the {split} rows are not those that the run recorded")
