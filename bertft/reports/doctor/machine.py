"""Versions, devices and what they can do, and how fast and how right they multiply."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata

import torch

import bertft
from bertft.assembly.manifest import describe_hardware
from bertft.formats.figures import format_bytes
from bertft.models.attention.varlen import is_varlen_available
from bertft.models.precision import cpu_flags, has_fast_bf16
from bertft.reports.doctor.finding import FAILED, OK, WARNING, CheckResult

__all__ = ["check_cpu", "check_gpus", "check_matmul", "check_versions"]

_PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "safetensors", "numpy")
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_MATRIX_SIZE = 1024
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the largest product


def check_versions() -> CheckResult:
    known = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    python = platform.python_version()
    return CheckResult("versions", OK, f"bertft {bertft.__version__}, Python {python}, {known}")


def check_cpu() -> CheckResult:
    facts, flags = describe_hardware(torch.device("cpu")), cpu_flags()
    capabilities = [name for name in _CPU_FLAGS if name in flags] or [facts["instruction_set"]]
    detail = (
        f"{facts['cpu'] or facts['machine']}; {os.cpu_count()} cores, {facts['threads']} threads;"
        f" {', '.join(capabilities)}"
    )
    if has_fast_bf16(torch.device("cpu")):
        return CheckResult("CPU", OK, f"{detail}: auto computes in bf16")
    advice = "No fast bf16 here: trainer.precision=auto takes fp32 on the CPU"
    if facts["threads"] < (os.cpu_count() or 1) // 2:
        advice += "; trainer.threads or OMP_NUM_THREADS can give it more cores"
    return CheckResult("CPU", OK, detail, advice)


def check_gpus() -> Iterator[CheckResult]:
    """A finding for each CUDA device, or one that there is none."""
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        why = f"torch is built for CUDA {torch.version.cuda}, but sees none" if built else ""
        advice = (
            "Look at the driver with nvidia-smi, and at CUDA_VISIBLE_DEVICES"
            if built
            else "This torch is for CPUs: with a GPU, install the build for its CUDA"
        )
        yield CheckResult("GPU", WARNING if built and _has_nvidia_driver() else OK, why or "none", advice)
        return
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        name = f"GPU {number}"
        try:
            free, total = torch.cuda.mem_get_info(device)
        except RuntimeError as error:
            yield CheckResult(name, FAILED, str(error).split("\n")[0], "Is another process using it?")
            continue
        major, minor = torch.cuda.get_device_capability(device)
        bf16, flash = has_fast_bf16(device), is_varlen_available(device)
        detail = (
            f"{torch.cuda.get_device_name(device)}, compute {major}.{minor}, {format_bytes(free)} of"
            f" {format_bytes(total)} free, bf16 {_yes_or_no(bf16)}, flash attention without padding {_yes_or_no(flash)}"
        )
        advice = "" if bf16 else "Take trainer.precision=fp16: it is faster than fp32 here"
        if free < total / 2:
            advice = "Another process holds half of its memory or more: see nvidia-smi"
        yield CheckResult(name, WARNING if advice else OK, detail, advice)


def check_matmul(device: torch.device, seconds: float = 3.0) -> CheckResult:
    """Products of two square matrices for ``seconds``, against fp64 on the CPU."""
    torch.manual_seed(0)
    left, right = torch.randn(2, _MATRIX_SIZE, _MATRIX_SIZE, dtype=torch.float64)
    exact, speeds = left @ right, []
    dtypes = [torch.float32, *([torch.bfloat16] if has_fast_bf16(device) else [])]
    for dtype in dtypes:
        a, b = left.to(device, dtype), right.to(device, dtype)
        error = float(((a @ b).double().cpu() - exact).abs().max() / exact.abs().max())
        words = str(dtype).removeprefix("torch.")
        if not error <= _TOLERANCE[dtype]:
            return CheckResult(
                "matmul", FAILED, f"{words} products on {device} are wrong by {error:.1e}",
                "Nothing trained here is right. Try another version of torch or of the driver",
            )  # fmt: skip
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / len(dtypes):
            c = a @ b
            count += 1
            if device.type == "cuda" and count % 64 == 0:
                torch.cuda.synchronize(device)
        _ = float(c[0, 0])  # waits for what was asked for
        spent = time.perf_counter() - start
        speeds.append(f"{words} {2 * _MATRIX_SIZE**3 * count / spent / 1e9:,.0f} GFLOP/s")
    return CheckResult("matmul", OK, f"{', '.join(speeds)} on {device}")


def _has_nvidia_driver() -> bool:
    return os.path.exists("/proc/driver/nvidia/version")


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
