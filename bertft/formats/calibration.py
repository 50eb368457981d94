"""What a card says of the temperature and the thresholds that were fitted on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bertft.formats.figures import measure, score
from bertft.formats.markdown import code, table

__all__ = ["calibration_lines"]

_SHOWN = 50


def calibration_lines(told: Mapping[str, Any] | None, labels: Sequence[str]) -> list[str]:
    """Paragraphs and tables; ``told`` as in metrics.json, ``labels`` in order."""
    if told is None:
        return []
    lines = []
    if told.get("temperature") is not None:
        lines += [
            f"The logits are divided by a temperature of {measure(told['temperature'])}, fitted on"
            f" validation; it is folded into the head. ECE has {told['bins']} bins.",
            table(
                ["validation", "before", "after"],
                [
                    [name, score(told[key]["before"]), score(told[key]["after"])]
                    for name, key in (("ECE", "ece"), ("loss", "loss"))
                ],
            ),
        ]
    threshold = told.get("threshold")
    if threshold is None:
        return lines
    tuned = told["tuned"]
    gain = (
        f"tuned on validation, where {tuned['metric']} went from {score(tuned['before'])} to"
        f" {score(tuned['after'])}: the validation numbers above flatter, the test's do not."
    )
    if not isinstance(threshold, Mapping):
        return [
            *lines,
            f"{code(labels[-1])} is given from a probability of {threshold:.4g}, {gain}",
        ]
    rows = [[code(name), f"{each:.4g}"] for name, each in list(threshold.items())[:_SHOWN]]
    rest = len(threshold) - len(rows)
    more = f" (the other {rest} are in config.json)" if rest else ""
    return [
        *lines,
        f"A label is given from its own probability{more}, {gain}",
        table(["label", "threshold"], rows),
    ]
