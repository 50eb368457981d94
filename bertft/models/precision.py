"""Number formats: which one a device computes fast in, and which one each weight is kept in.

If nothing of the base trains, its frozen weights are cast once to the compute type. What trains
(adapters, new modules) stays in fp32, and modules that train as a whole get their inputs in fp32.
If the base itself trains (full, last_k, bitfit), its weights stay in fp32 and autocast makes the
copies; only frozen linear layers are cast once.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.config.choices import PRECISIONS
from bertft.errors import SystemResourceError, UsageError

__all__ = [
    "Precision",
    "at_least_fp32",
    "autocast_disabled",
    "cast_for_autocast",
    "choose_precision",
    "cpu_flags",
    "has_fast_bf16",
    "recorded_precision",
    "resolve_device",
]

_TYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


def resolve_device(setting: str, where: str = "device") -> torch.device:
    """The device of a setting auto | cpu | cuda | cuda:N, given at ``where``.

    Raises an error if it does not exist.
    """
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(setting)
    except RuntimeError:
        raise UsageError(
            f"unknown device {setting!r}", where=where, hint="Use auto, cpu, cuda or cuda:1"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"{setting!r} is not supported", where=where, hint="Use cpu or cuda")
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count:
            devices = "only cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
            raise SystemResourceError(
                f"there is no {setting}: torch finds {devices}",
                where=where,
                hint=f"Use one of them, or {where}=auto",
            )
        raise SystemResourceError(
            f"{setting} is not available: torch {torch.__version__} finds no CUDA device",
            where=where,
            hint=f"Use {where}=auto, or install a CUDA build of torch and its driver",
        )
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than fp32 ones on this hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    flags = cpu_flags()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def cpu_flags() -> set[str]:
    """The CPU's features, by Linux's names; empty on other systems."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("flags"):
                return set(line.split())
    return set()


def choose_precision(
    setting: str, device: torch.device, where: str = "trainer.precision"
) -> Precision:
    """The precision that ``setting`` (auto | fp32 | bf16 | fp16), given at ``where``, names."""
    if setting == "auto":
        setting = "bf16" if has_fast_bf16(device) else "fp32"
    if setting == "fp16" and device.type != "cuda":
        raise UsageError("fp16 needs CUDA", where=where, hint="Use bf16, fp32 or auto on a CPU")
    return Precision(setting, device)


def recorded_precision(name: str, device: torch.device, run: Path) -> Precision:
    """The precision that ``run`` was trained in. UsageError if the device does not support it."""
    if name == "fp16" and device.type != "cuda":
        raise UsageError(
            f"the run was trained in fp16, which needs CUDA; the device is {device}",
            where=str(run),
            hint="Use a CUDA device, or precision=fp32 with eval and predict",
        )
    return Precision(name, device)


class Precision:
    """The precision of a run on a device.

    Attributes:
        name: fp32, bf16 or fp16.
        dtype: The compute type.
        uses_loss_scaling: fp16 needs a gradient scaler.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device, self.dtype = name, device, _TYPES[name]
        self.uses_loss_scaling = name == "fp16"
        self._autocast = False

    def place_model(self, model: nn.Module, base_trains: bool) -> None:
        """Move the model and cast what is frozen; call it after components are attached."""
        if self.device.type == "cuda":
            _set_up_cuda(self.device)
        model.to(self.device)
        if self.dtype == torch.float32 or next(model.parameters()).dtype == torch.float64:
            return
        self._autocast = base_trains
        for parameter in _castable_parameters(model, linear_only=base_trains):
            if not parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.to(self.dtype)
        if not base_trains:
            _cast_inputs_to_fp32(model)
            _add_trained_biases_in_fp32(model)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of every forward pass."""
        if not self._autocast:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def _set_up_cuda(device: torch.device) -> None:
    """Make ``device`` torch's current device, and disable cuDNN's attention.

    Newer torch prefers it on newer devices. It compiles a plan for every shape, and here nearly
    every batch has its own; its dropout rates are multiples of 1/16 (pytorch issue 174245).
    """
    if device.index is not None:  # "cuda" is the current device
        torch.cuda.set_device(device)
    torch.backends.cuda.enable_cudnn_sdp(False)


def _castable_parameters(model: nn.Module, linear_only: bool) -> Iterator[Tensor]:
    """All parameters, or under autocast linear weights: norms and embeddings need fp32 there."""
    if not linear_only:
        yield from model.parameters()
        return
    for module in model.modules():
        if isinstance(module, nn.Linear):
            yield module.weight


def _cast_inputs_to_fp32(model: nn.Module) -> None:
    """Modules that train as a whole (head, new pooler) get inputs in fp32."""
    for module in _outermost_trained_modules(model):
        module.register_forward_pre_hook(_to_fp32)


def _add_trained_biases_in_fp32(model: nn.Module) -> None:
    """For frozen weights with a trained bias, such as a decoder tied to the word embeddings."""
    for module in model.modules():
        if type(module) is not nn.Linear or module.bias is None:
            continue
        if module.bias.dtype != module.weight.dtype:
            module.forward = partial(_linear_with_fp32_bias, module)  # type: ignore[method-assign]


def _linear_with_fp32_bias(module: nn.Linear, inputs: Tensor) -> Tensor:
    product = F.linear(inputs.to(module.weight.dtype), module.weight)
    return product.to(module.bias.dtype) + module.bias


def _outermost_trained_modules(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        parameters = list(child.parameters())
        if not parameters or getattr(child, "casts_inputs", False):
            continue  # adapters and prefixes cast to the type of what they are added to
        if all(parameter.requires_grad for parameter in parameters):
            yield child
        else:
            yield from _outermost_trained_modules(child)


def _to_fp32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for value in inputs
    )


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """fp64 for fp64, fp32 for all other types."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def cast_for_autocast(x: Tensor) -> Tensor:
    """``x`` in autocast's type if autocast is on: one cast for several products."""
    device_type = x.device.type
    available = torch.amp.is_autocast_available(device_type)  # not on the meta device
    if available and torch.is_autocast_enabled(device_type) and x.dtype != torch.float64:
        return x.to(torch.get_autocast_dtype(device_type))
    return x


def autocast_disabled(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """A context without autocast on the device of ``x``."""
    device_type = x.device.type
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
