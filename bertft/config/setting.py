"""``setting(default, meaning, ...)``: one typed, bounded, explained key of the configuration.

The type comes from the dataclass annotation and is held by OmegaConf; the bounds and choices
below are held by ``bertft.config.validation``, which reports every violation at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MAX_LEARNING_RATE", "MISSING", "group", "setting"]

MISSING = "???"  # OmegaConf's mark of a mandatory value
# AdamW moves each weight by about the rate in a step, and weights are around 0.1.
MAX_LEARNING_RATE = 100.0


def setting(
    default: Any,
    meaning: str,
    *,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    former: str | None = None,
    former_choices: Mapping[str, str] | None = None,
) -> Any:
    """A dataclass field with its one-line ``meaning`` and what it admits (bounds skip null).

    ``former``: the name that the setting had, which is still read; ``former_choices``: former
    choices → present ones.
    """
    metadata = {
        "meaning": meaning,
        "choices": tuple(choices) if choices is not None else None,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "below": below,
        "former": former,
        "former_choices": dict(former_choices or {}),
    }
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(cls: type, meaning: str) -> Any:
    """A dataclass field that holds another dataclass of settings."""
    return dataclasses.field(default_factory=cls, metadata={"meaning": meaning})
