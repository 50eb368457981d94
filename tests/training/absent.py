"""A device that is not there: its tensors have shapes and types, and no numbers.

What runs on it would run on a GPU as far as Python can tell: a tensor of the CPU among its own is
an error, and whatever a GPU would be waited for is written down. torch lets one such device be
registered in a process, so that it wants one of its own (``absent_job.py``).
"""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.library import Library, fallthrough_kernel
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map


class _Module:
    """``torch.absent``: what torch asks of a device before it computes on it."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        pass

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend("absent", _Module())  # type: ignore[no-untyped-call]
DEVICE = torch.device("absent", 0)


def _autocast() -> list[Library]:
    """torch.autocast on the device: products in bf16, norms and losses in fp32, as on CUDA."""
    key = "AutocastPrivateUse1"
    others, casts = Library("_", "IMPL", key), Library("aten", "IMPL", key)
    others.fallback(fallthrough_kernel)

    def cast(name: str, dtype: torch.dtype) -> None:
        packet, _, overload = name.partition(".")
        operation = getattr(getattr(torch.ops.aten, packet), overload or "default")

        def casting(*args: Any, **kwargs: Any) -> Any:
            def moved(value: Any) -> Any:
                floating = isinstance(value, Tensor) and value.is_floating_point()
                return value.to(dtype) if floating else value

            without = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
            with torch._C._ExcludeDispatchKeyGuard(without):
                return operation(*tree_map(moved, args), **tree_map(moved, kwargs))

        casts.impl(name, casting)

    for name in ("linear", "matmul", "mm", "bmm", "addmm", "scaled_dot_product_attention"):
        cast(name, torch.bfloat16)
    for name in ("layer_norm", "softmax.int", "log_softmax.int", "cross_entropy_loss"):
        cast(name, torch.float32)
    return [others, casts]


_LIBRARIES = _autocast()  # they serve as long as somebody holds them


class _Shapes(FakeTensorMode):
    avoid_device_init = True  # a constant is not computed on a device that cannot


_SHAPES = _Shapes(allow_non_fake_inputs=True)


def lies_there(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == DEVICE.type


class Watch(TorchDispatchMode):
    """While it is on, tensors go to the device; ``waits``: what and where it would be waited for.

    ``reads`` counts what is fetched as it should be, in one piece. Numbers so read are 1, arrays 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        there = any(map(lies_there, given))
        requested = kwargs.get("device")
        if not there and (requested is None or torch.device(requested).type != DEVICE.type):
            return func(*args, **kwargs)
        name = func._schema.name.split("::")[1]
        if name == "_local_scalar_dense":
            self._note("a number is read")
            return 1
        if name == "_to_copy" and not there and not kwargs.get("non_blocking"):
            self._note("a copy is waited for")
        if there and name.startswith("index") and not all(map(lies_there, given)):
            self._note("indices of the CPU are fetched")
        with _SHAPES:
            return func(*args, **kwargs)

    def _note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/bertft/" in frame.filename]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "here"
        self.waits.append(f"{what}: {where}")

    def __enter__(self) -> Watch:
        def listed(tensor: Tensor) -> list[float]:
            self.reads += 1
            return [1.0] * tensor.numel()

        def fetched(tensor: Tensor) -> Tensor:
            self.reads += 1
            return torch.zeros(tensor.shape, dtype=tensor.dtype)

        FakeTensor.tolist, FakeTensor.cpu = listed, fetched  # type: ignore[assignment, method-assign]
        # Modes belong to a thread, and the device would get one of its own for its gradients.
        self._single = contextlib.ExitStack()
        self._single.enter_context(torch.autograd.set_multithreading_enabled(False))
        # torch.tensor(..., device=...) shows its copy then.
        self._single.callback(
            torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors()
        )
        torch._C._set_only_lift_cpu_tensors(True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._single.close()


_to = nn.Module.to


def _moved(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """``nn.Module.to``; to the device it goes with new parameters: old ones cannot change kind."""
    if not args or args[0] != DEVICE:
        return _to(module, *args, **kwargs)
    made: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # those of two names stay one

    def empty(tensor: Tensor) -> Tensor:
        with _SHAPES:
            return torch.empty_strided(
                tensor.size(), tensor.stride(), dtype=tensor.dtype, device=DEVICE
            )

    for submodule in module.modules():
        for name, buffer in submodule._buffers.items():
            submodule._buffers[name] = None if buffer is None else empty(buffer)
        for name, old in submodule._parameters.items():
            if old is not None and not lies_there(old):
                if id(old) not in made:
                    made[id(old)] = nn.Parameter(empty(old), old.requires_grad), old
                submodule._parameters[name] = made[id(old)][0]
    return module


nn.Module.to = _moved  # type: ignore[method-assign, assignment]
