"""The result of a cross-validation as one HTML page: ``cross_validation.html``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import bertft
from bertft.config.dataset_title import dataset_title
from bertft.cross_validation.contradictions import Contradiction, contradiction_table
from bertft.cross_validation.files import fold_table, metric_table
from bertft.cross_validation.result import CrossValidation
from bertft.cross_validation.suspects import Suspect, suspect_table
from bertft.report.page.render import render_page
from bertft.utils.numbers import format_duration, format_score

__all__ = ["PAGE_FILE", "render_cross_validation"]

PAGE_FILE = "cross_validation.html"


def render_cross_validation(
    result: CrossValidation,
    suspects: Sequence[Suspect] | None,
    contradictions: Sequence[Contradiction],
) -> str:
    """The content of the page; ``suspects`` None: they were not searched."""
    first = result.metrics[0]
    return render_page(
        "cross_validation.html.j2",
        title=dataset_title(result.config.data),
        extent=(
            f"{len(result.folds)} runs, {len(result.rows):,} rows,"
            f" {format_duration(sum(fold.seconds for fold in result.folds))} of training, version"
            f" {bertft.__version__}"
        ),
        date=f"{datetime.now():%d %B %Y, %H:%M}",
        headline=f"{first.name} {format_score(first.mean)} ± {format_score(first.std)}",
        method=result.config.method.name,
        metrics=metric_table(result),
        folds=fold_table(result),
        labels=[
            *([] if suspects is None else [suspect_table(result, suspects)]),
            *([contradiction_table(result.rows, contradictions)] if contradictions else []),
        ],
    )
