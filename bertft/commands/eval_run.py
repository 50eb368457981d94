"""Score a run, an adapter, a merged or a plain transformers folder on labelled rows."""

from __future__ import annotations

from typing import Any

from bertft.assembly.features import features_of
from bertft.assembly.opened import open_asked
from bertft.assembly.split_rows import split_rows
from bertft.assembly.warn import warn
from bertft.config.commands import EvalRequest
from bertft.config.printed import say
from bertft.data.features import cache_folder
from bertft.errors import UsageError
from bertft.training.evaluate import evaluate

__all__ = ["score"]


def score(config: EvalRequest) -> tuple[dict[str, float], str, dict[str, Any]]:
    """The metrics, the one that counts, and the accounting of the rows with their source."""
    saved = open_asked(config, config.precision, config.data, warn)
    if saved.run is None and config.data is None:
        raise UsageError(
            f"{config.adapter or config.run} is no run and knows no rows", where="data",
            hint="Add data=files data.validation=<file>, or another data=",
        )  # fmt: skip
    rows = split_rows(saved, config.split, say, config.typed)
    for note in rows.notes:
        warn(f"{rows.source}: {note}")
    task, adapted = saved.adapted.task, saved.adapted
    tables = features_of(
        {config.split: rows}, task, adapted.tokenizer, saved.facts.max_length,
        cache_folder(saved.data.cache), saved.data.on_bad_row, saved.data.max_skipped,
    )  # fmt: skip
    metrics = evaluate(adapted.runner, task, tables[config.split], adapted.precision)
    return metrics, task.metric, {"source": rows.source, **rows.accounting()}
