"""Devices that there are not, and precisions that they do not compute in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bertft.config.messages import Problem
from bertft.config.rules.get import GetSetting

__all__ = ["DEVICE_RULES", "fp16_problems", "check_device", "device_problems"]


def check_device(get: GetSetting) -> Iterator[Problem]:
    """``device`` of eval, merge and predict."""
    yield from device_problems("device", get("device"))


def _check_precision(get: GetSetting) -> Iterator[Problem]:
    yield from fp16_problems("precision", get("precision"), get("device"))


def device_problems(where: str, device: str) -> Iterator[Problem]:
    """A name that is none; whether the device is there shows when it is used."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        yield Problem(where, f"{device!r} is no device", "It can be auto, cpu, cuda or cuda:1")


def fp16_problems(where: str, precision: str | None, device: str) -> Iterator[Problem]:
    """fp16 needs CUDA."""
    if precision == "fp16" and device == "cpu":
        yield Problem(where, "fp16 does not run on the CPU", "Take bf16, fp32 or auto")


DEVICE_RULES = (check_device, _check_precision)
