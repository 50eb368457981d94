"""Devices that there are not, and precisions that they do not compute in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bertft.config.messages import Problem
from bertft.config.rules.get import Get

__all__ = ["RULES", "half_on_cpu", "known", "unknown_device"]


def known(get: Get) -> Iterator[Problem]:
    """``device`` of eval, merge and predict."""
    yield from unknown_device("device", get("device"))


def _precision(get: Get) -> Iterator[Problem]:
    yield from half_on_cpu("precision", get("precision"), get("device"))


def unknown_device(where: str, device: str) -> Iterator[Problem]:
    """A name that is none; whether the device is there shows when it is used."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        yield Problem(where, f"{device!r} is no device", "It can be auto, cpu, cuda or cuda:1")


def half_on_cpu(where: str, precision: str | None, device: str) -> Iterator[Problem]:
    """fp16 needs CUDA."""
    if precision == "fp16" and device == "cpu":
        yield Problem(where, "fp16 does not run on the CPU", "Take bf16, fp32 or auto")


RULES = (known, _precision)
