"""Rules of ``cross_validate``: the settings of train that it does not support."""

from __future__ import annotations

from collections.abc import Iterator

from bertft.config.schema import GetSetting
from bertft.utils.messages import Problem

__all__ = ["CROSS_VALIDATE_RULES"]

_HINTS = {
    "check": "Use bertft train check=true",
    "resume": "Repeat the command with its hydra.sweep.dir to continue",
    "trainer.stop_at": "Leave it out",
}


def _check_unsupported(get: GetSetting) -> Iterator[Problem]:
    for name, hint in _HINTS.items():
        if get(name) not in (None, False):
            yield Problem(name, "is not supported by cross_validate", hint)
    if get("data.task") == "masked_lm":
        yield Problem(
            "data.task",
            "masked_lm is not supported by cross_validate: its rows have no labels to predict",
            "Use bertft train, which reports the loss on held-out rows",
        )


def _check_folds(get: GetSetting) -> Iterator[Problem]:
    hints = {
        "data.folds": "Set folds=<number>",
        "data.repeat": "Set repeats=<number>",
        "data.fold": "For one fold, use bertft train data.folds=<number> data.fold=<number>",
    }
    for name, hint in hints.items():
        if get(name) not in (None, 1):
            yield Problem(name, "is set by cross_validate", hint)


CROSS_VALIDATE_RULES = (_check_unsupported, _check_folds)
