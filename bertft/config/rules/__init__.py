"""Settings that are right one by one and make no sense together.

A rule takes ``get`` (path → value, None below a null node) and yields a ``Problem`` for each
nonsense it finds. ``RULES`` names the rules of each command; each module here holds those of one
subject in a tuple of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bertft.config.messages import Problem
from bertft.config.registry import METHODS
from bertft.config.rules import classes, data, device, method, model, runs, trainer
from bertft.config.rules.get import Get

__all__ = ["RULES", "Get"]

Rule = Callable[[Get], Iterator[Problem]]


def _of_methods() -> Iterator[Rule]:
    """The rules that each method component brings."""
    for name, component in METHODS.items().items():
        if component.rules is not None:
            yield from METHODS.implementation(name, "rules")


RULES: dict[str, tuple[Rule, ...]] = {
    "train": (*method.RULES, *_of_methods(), *trainer.RULES, *model.RULES, *data.RULES,
              *classes.RULES, data.training_file, data.files_there, runs.resume, runs.check),
    "eval": (*data.RULES, runs.scored, runs.checkpoint, *device.RULES),
    "merge": (runs.opened, runs.checkpoint, device.known),
    "export": (runs.opened, runs.exported, runs.checkpoint, device.known),
    "predict": (runs.opened, data.text_of_predict, runs.checkpoint, *device.RULES),
    "verify": (),
    "report": (device.known,),
    "compare": (runs.several, device.known),
    "doctor": (device.known,),
}  # fmt: skip
