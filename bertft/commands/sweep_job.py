"""One job of a sweep, as Hydra calls it: in this process, in another, or on another machine.

    job folder    <sweep>/<slug>-<hash of the config>, holding job.json beside the run
    job.json      {"overrides": {setting: value}, "content": sha256 of the files that the settings
                  name, "error": null or why it failed}

A job whose folder holds metrics.json is done and skipped; one that was begun goes on. A queue may
take a job back (SIGUSR1 or SIGUSR2): it is saved, given back, and goes on when it comes again.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bertft.config.checks import check_whole
from bertft.config.command_line import OPEN, split, unquoted
from bertft.config.compose import settings_of
from bertft.config.content import content_digest
from bertft.config.messages import usage_error
from bertft.config.plain import plain
from bertft.config.printed import say
from bertft.config.session import register_schema
from bertft.errors import BertftError, Stopped
from bertft.reports.sweep import JOB_FILE
from bertft.runs.result import read_result
from bertft.training.signals import QUEUE_SIGNALS

__all__ = ["Halt", "run_job", "say_done_before"]

register_schema()  # a launcher's processes import this module and compose there


class Halt(BaseException):
    """Carries ``Stopped`` past Hydra, which takes every Exception for one job's failure."""


def run_job(config: DictConfig) -> float | None:
    """The best value of the job's metric, for sweepers that ask; None if it failed."""
    hydra = HydraConfig.get()
    folder, words = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    settings, content = _settings(words), content_digest(plain(config))
    name = f"job {hydra.job.num}: {_told(settings)}"
    if folder.is_symlink():  # a sweep's folder from elsewhere may hold a link of that name
        say(f"{name}: {folder}: is a link, and a job writes into the sweep alone", stderr=True)
        return None
    if os.path.lexists(folder / "metrics.json"):
        try:
            best = _best(folder)
        except BertftError as error:  # not trained again over what may be all that is left of it
            _note(folder, settings, content, str(error))
            say(f"{name}: {error}", stderr=True)
            return None
        say_done_before(folder, name, words, content)
        return best
    say(name, stderr=True)
    if (folder / "manifest.json").is_file():
        OmegaConf.update(config, "resume", "auto")
    _note(folder, settings, content, None)
    try:
        problems = list(check_whole("train", plain(config)))
        if problems:  # a sweeper that chooses as it goes has chosen it just now
            raise usage_error(problems)
        run = importlib.import_module("bertft.commands.train").run
        run(settings_of("train", config, folder, words), folder)
        return _best(folder)
    except Stopped as stopped:
        if stopped.signum in QUEUE_SIGNALS:  # all is saved: now the one who listened may hear it
            signal.raise_signal(stopped.signum)
        raise Halt(stopped) from None
    except BertftError as error:
        _note(folder, settings, content, str(error))
        say(f"{name}: {error}", stderr=True)
    except Exception as error:
        _note(folder, settings, content, f"{type(error).__name__}: {error}")
        traceback.print_exc()
    return None


def say_done_before(folder: Path, name: str, words: Sequence[str], content: str) -> None:
    """The table then calls the job by the ``words`` of this sweep."""
    _note(folder, _settings(words), content, None)
    say(f"{name}: done before", stderr=True)


def _settings(words: Sequence[str]) -> dict[str, str]:
    return {
        key: unquoted(value or "")
        for _, key, value in map(split, words)
        if not key.startswith(f"{OPEN}/")
    }


def _told(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def _best(folder: Path) -> float | None:
    """DataError where the job's result is damaged."""
    value = read_result(folder / "metrics.json")["best"]["value"]
    return None if value is None else float(value)


def _note(folder: Path, settings: Mapping[str, str], content: str, error: str | None) -> None:
    """Write job.json whole or not at all."""
    text = json.dumps(
        {"overrides": settings, "content": content, "error": error}, ensure_ascii=False, indent=1
    )
    temporary = folder / f".{JOB_FILE}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    with temporary.open("x", encoding="utf-8") as file:  # not through a link of that name
        file.write(text)
    temporary.replace(folder / JOB_FILE)
