"""Rules of ``trainer``, and of ``device`` and ``precision`` of every command."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bertft.config.choices import TRACKERS
from bertft.config.method_components.low_rank import KINDS
from bertft.config.registry import OPTIMIZERS
from bertft.config.schema import GetSetting, Leaf, default_value, node_from_dataclass
from bertft.config.task_facts import join_words
from bertft.config.values import missing_problem, value_problems
from bertft.utils.messages import Problem, suggest

__all__ = [
    "DEVICE_RULES",
    "TRAINER_RULES",
    "check_device",
    "device_problems",
    "fp16_problems",
]


def check_device(get: GetSetting) -> Iterator[Problem]:
    """``device`` of every command but train."""
    yield from device_problems("device", get("device"))


def _check_precision(get: GetSetting) -> Iterator[Problem]:
    yield from fp16_problems("precision", get("precision"), get("device"))


def device_problems(where: str, device: str) -> Iterator[Problem]:
    """Check the name of a device; whether the device exists is only known when it is used."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        yield Problem(where, f"{device!r} is not a device", "It can be auto, cpu, cuda or cuda:1")


def fp16_problems(where: str, precision: str | None, device: str) -> Iterator[Problem]:
    """fp16 requires CUDA."""
    if precision == "fp16" and device == "cpu":
        yield Problem(where, "fp16 is not supported on the CPU", "Use bf16, fp32 or auto")


DEVICE_RULES = (check_device, _check_precision)


def _check_steps(get: GetSetting) -> Iterator[Problem]:
    if get("trainer.epochs") is not None and get("trainer.max_steps") is not None:
        yield Problem(
            "trainer.max_steps", "cannot be combined with trainer.epochs", "Set only one of them"
        )
    micro, batch = get("trainer.micro_batch"), get("trainer.batch_size")
    if micro is not None and micro > batch:
        yield Problem(
            "trainer.micro_batch",
            f"{micro} is above trainer.batch_size={batch}",
            "A batch consists of micro-batches: use a smaller value",
        )


def _check_evaluations(get: GetSetting) -> Iterator[Problem]:
    if get("trainer.evaluations") is not None and get("trainer.evaluate_every") is not None:
        yield Problem(
            "trainer.evaluations",
            "cannot be combined with trainer.evaluate_every",
            "Set only one of them",
        )


def _check_stop_at(get: GetSetting) -> Iterator[Problem]:
    stop_at, path = get("trainer.stop_at"), "trainer.stop_at"
    if stop_at is None:
        return
    if stop_at >= 1 and not float(stop_at).is_integer():
        yield Problem(
            path,
            f"{stop_at:g} is neither a step nor a fraction of the steps",
            "Set it to a whole number, or to a fraction below 1",
        )
    if get("check"):
        yield Problem(path, "is not supported together with check", "Leave out one of them")


def _check_retries(get: GetSetting) -> Iterator[Problem]:
    path, on_collapse = "trainer.max_retries", get("trainer.on_collapse")
    is_new_run = get("resume") is None  # on_collapse may change when a run is resumed
    if is_new_run and on_collapse != "retry" and get(path) != default_value(path):
        yield Problem(
            path,
            f"has no effect with trainer.on_collapse={on_collapse}",
            "Add trainer.on_collapse=retry",
        )


def _check_weight_decay(get: GetSetting) -> Iterator[Problem]:
    rate, decay = get("trainer.learning_rate"), get("trainer.weight_decay")
    if rate is not None and rate * decay > 1:  # a step multiplies w by 1 − rate · decay
        yield Problem(
            "trainer.weight_decay",
            f"{decay:g} changes the sign of every weight at learning rate {rate:g}",
            f"Their product must be at most 1: set it to {1 / rate:g} or less",
        )


def _check_ema(get: GetSetting) -> Iterator[Problem]:
    kind = get("method.low_rank.kind")
    if get("trainer.ema") is None or kind is None:
        return
    if KINDS[kind].adapts and get("method.low_rank.adapt"):
        yield Problem(
            "trainer.ema",
            "is not supported with method.low_rank.adapt=true: averaging would undo the pruning",
            "Leave it out, or set method.low_rank.adapt=false",
        )


def _check_optimizer(get: GetSetting) -> Iterator[Problem]:
    name, path = get("trainer.optimizer"), "trainer.optimizer_settings"
    settings = get(path)
    if name not in OPTIMIZERS:
        return
    optimizer_spec = OPTIMIZERS[name]
    for setting_name in ("weight_decay", "beta1", "beta2", "epsilon"):
        where = f"trainer.{setting_name}"
        if setting_name not in optimizer_spec.trainer_settings and get(where) not in (
            None,
            default_value(where),
        ):
            yield Problem(where, f"is not supported by trainer.optimizer={name}", "Leave it out")
    if not isinstance(settings, dict):
        yield Problem(
            path, f"{settings!r} is not a group of settings", f"Write {path}.momentum=0.9"
        )
        return
    if settings and optimizer_spec.settings is None:
        supported = join_words(
            [f"trainer.{setting}" for setting in optimizer_spec.trainer_settings]
        )
        yield Problem(
            path, f"{name} has no settings of its own; it uses {supported}", "Leave it out"
        )
        return
    known_settings = (
        {}
        if optimizer_spec.settings is None
        else node_from_dataclass(optimizer_spec.settings, path).children
    )
    for key, value in settings.items():
        leaf = known_settings.get(str(key))
        if isinstance(leaf, Leaf):
            yield from value_problems(leaf, value)
        else:
            yield Problem(
                f"{path}.{key}", f"unknown setting of {name}", suggest(key, list(known_settings))
            )
    for key, leaf in known_settings.items():
        if isinstance(leaf, Leaf) and leaf.required and key not in settings:
            yield missing_problem(leaf)


def _check_trainer_device(get: GetSetting) -> Iterator[Problem]:
    yield from device_problems("trainer.device", get("trainer.device"))
    yield from fp16_problems("trainer.precision", get("trainer.precision"), get("trainer.device"))


def _check_cache_frozen(get: GetSetting) -> Iterator[Problem]:
    """Settings with which no layer has the same output in every epoch.

    Which layers a method trains is only known when it is attached.
    """
    path = "trainer.cache_frozen"
    if get(path) not in (True, "true"):
        return
    base, inner_weights = get("method.base.train"), ("hidden", "attention", "relation")
    if base in ("everything", "biases"):
        trained = "the embeddings" if base == "everything" else "biases of the embeddings"
        problem = f"is not supported by method.base.train={base}, which trains {trained}"
    elif get("method.prefix.length") is not None:
        problem = "is not supported by method.prefix, which changes every layer"
    elif get("data.task") == "masked_lm":
        problem = (
            "is not supported by data.task=masked_lm, which masks different tokens in every epoch"
        )
    elif any(get(f"method.distill.{name}_weight") for name in inner_weights):
        problem = "is not supported by losses of method.distill on inner states"
    elif get("trainer.max_steps") == 0:
        problem = "is not supported by trainer.max_steps=0, which trains nothing"
    else:
        return
    yield Problem(path, problem, "Set it to auto or false")


def _check_trackers(get: GetSetting) -> Iterator[Problem]:
    path, requested = "trainer.trackers", get("trainer.trackers")
    if not isinstance(requested, list):
        yield Problem(path, f"{requested!r} is not a list", "Write trainer.trackers=[tensorboard]")
        return
    for name in requested:
        if name not in TRACKERS:
            yield Problem(path, f"unknown tracker {name!r}", suggest(name, TRACKERS))
    if len({str(name) for name in requested}) < len(requested):
        yield Problem(path, "a tracker is listed twice", "List each tracker once")


TRAINER_RULES = (
    _check_steps,
    _check_evaluations,
    _check_stop_at,
    _check_retries,
    _check_weight_decay,
    _check_ema,
    _check_optimizer,
    _check_trainer_device,
    _check_cache_frozen,
    _check_trackers,
)
