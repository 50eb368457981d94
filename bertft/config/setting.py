"""``setting(default, help, ...)``: one typed, bounded, documented key of the configuration.

OmegaConf enforces the type, which is the dataclass annotation. ``bertft.config.validation`` checks
the bounds and choices, and reports every violation at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["MAX_LEARNING_RATE", "MISSING", "FileUse", "ResumePolicy", "group", "setting"]

FileUse = Literal["input", "output"]
ResumePolicy = Literal["fixed", "increase", "change"]

MISSING = "???"  # OmegaConf's marker of a mandatory value
# AdamW changes each weight by about the learning rate per step, and weights are around 0.1.
MAX_LEARNING_RATE = 100.0


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    former: str | None = None,
    former_choices: Mapping[str, str] | None = None,
    file: FileUse | None = None,
    affects_result: bool = True,
    on_resume: ResumePolicy = "fixed",
) -> Any:
    """A dataclass field that is a setting.

    Args:
        default: the value if none is given; ``MISSING`` if one must be given.
        help: the text in ``bertft <command> --help``.
        choices: the valid values; None for any value of the type.
        at_least, above, at_most, below: bounds; null is not compared with them.
        former: the former name of the setting, which is still supported.
        former_choices: former choices → present ones.
        file: ``input`` or ``output`` if the value can be the path of a file or folder that is read
            or written. The shell completes it, and the content of an input is part of the name of
            a sweep's job.
        affects_result: whether a run with another value can have another result.
        on_resume: what ``resume=<run>`` accepts: no other value (fixed), a larger value (increase),
            or any value (change).
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices is not None else None,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "below": below,
        "former": former,
        "former_choices": dict(former_choices or {}),
        "file": file,
        "affects_result": affects_result,
        "on_resume": on_resume,
    }
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def group(cls: type, help: str) -> Any:
    """A dataclass field that holds the settings of another dataclass."""
    return dataclasses.field(default_factory=cls, metadata={"help": help})
