"""A loop that cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from bertft.config.messages import Problem, suggestion
from bertft.config.registry import OPTIMIZERS
from bertft.config.rules.device import half_on_cpu, unknown_device
from bertft.config.rules.get import Get, default
from bertft.config.schema import Leaf, node_of
from bertft.config.tasks import in_words
from bertft.config.trackers import tracker_names
from bertft.config.values import faults

__all__ = ["RULES"]


def _steps(get: Get) -> Iterator[Problem]:
    if get("trainer.epochs") is not None and get("trainer.max_steps") is not None:
        yield Problem(
            "trainer.max_steps", "and trainer.epochs both say when to end", "Give one of them"
        )
    micro, batch = get("trainer.micro_batch"), get("trainer.batch_size")
    if micro is not None and micro > batch:
        yield Problem(
            "trainer.micro_batch", f"{micro} is above trainer.batch_size={batch}",
            "A batch is made of micro-batches: give fewer rows",
        )  # fmt: skip


def _decay(get: Get) -> Iterator[Problem]:
    rate, decay = get("trainer.learning_rate"), get("trainer.weight_decay")
    if rate is not None and rate * decay > 1:  # w becomes w · (1 − rate · decay) in a step
        yield Problem(
            "trainer.weight_decay", f"{decay:g} reverses every weight at learning rate {rate:g}",
            f"Their product must be at most 1: set it to {1 / rate:g} or less",
        )  # fmt: skip


def _optimizer(get: Get) -> Iterator[Problem]:
    name, path = get("trainer.optimizer"), "trainer.optimizer_settings"
    given = get(path)
    if name not in OPTIMIZERS:
        return
    chosen = OPTIMIZERS[name]
    for each in ("weight_decay", "beta1", "beta2", "epsilon"):
        where = f"trainer.{each}"
        if each not in chosen.trainer_settings and get(where) not in (None, default(where)):
            yield Problem(where, f"is not supported by trainer.optimizer={name}", "Leave it out")
    if not isinstance(given, dict):
        yield Problem(path, f"{given!r} is not a group of settings", f"As in {path}.momentum=0.9")
        return
    if given and chosen.settings is None:
        read = in_words([f"trainer.{each}" for each in chosen.trainer_settings])
        yield Problem(path, f"{name} has none of its own; it reads {read}", "Leave it out")
        return
    known = {} if chosen.settings is None else node_of(chosen.settings, path).children
    for key, value in given.items():
        leaf = known.get(str(key))
        if isinstance(leaf, Leaf):
            yield from faults(leaf, value)
        else:
            yield Problem(
                f"{path}.{key}", f"unknown setting of {name}", suggestion(key, list(known))
            )
    for key, leaf in known.items():
        if isinstance(leaf, Leaf) and leaf.required and key not in given:
            yield Problem(leaf.path, "is missing", leaf.meaning)


def _trainer_device(get: Get) -> Iterator[Problem]:
    yield from unknown_device("trainer.device", get("trainer.device"))
    yield from half_on_cpu("trainer.precision", get("trainer.precision"), get("trainer.device"))


def _trackers(get: Get) -> Iterator[Problem]:
    path, given = "trainer.trackers", get("trainer.trackers")
    if not isinstance(given, list):
        yield Problem(path, f"{given!r} is no list", "As in trainer.trackers=[tensorboard]")
        return
    names = tracker_names()
    for name in given:
        if name not in names:
            yield Problem(path, f"there is no tracker {name!r}", suggestion(name, names))
    if len({str(name) for name in given}) < len(given):
        yield Problem(path, "a tracker stands twice", "Name each once")


RULES = (_steps, _decay, _optimizer, _trainer_device, _trackers)
