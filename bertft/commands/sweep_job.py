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

from bertft.config.checks import validate_config
from bertft.config.command_line import OPEN_GROUP, split_override, unquote_value
from bertft.config.compose import build_settings
from bertft.config.content import content_digest
from bertft.config.messages import usage_error
from bertft.config.plain import to_plain_dict
from bertft.config.printed import print_escaped
from bertft.config.session import register_schema
from bertft.errors import BertftError, StoppedBySignal
from bertft.reports.sweep import JOB_FILE
from bertft.runs.result import read_metrics_json
from bertft.training.signals import SCHEDULER_SIGNALS

__all__ = ["SweepStopped", "run_job", "report_finished_job"]

register_schema()  # a launcher's processes import this module and compose there


class SweepStopped(BaseException):
    """Carries ``Stopped`` past Hydra, which takes every Exception for one job's failure."""


def run_job(config: DictConfig) -> float | None:
    """The best value of the job's metric, for sweepers that ask; None if it failed."""
    hydra = HydraConfig.get()
    folder, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    settings, content = _override_settings(overrides), content_digest(to_plain_dict(config))
    name = f"job {hydra.job.num}: {_format_settings(settings)}"
    if folder.is_symlink():  # a sweep's folder from elsewhere may hold a link of that name
        print_escaped(f"{name}: {folder}: is a link, and a job writes into the sweep alone", stderr=True)
        return None
    if os.path.lexists(folder / "metrics.json"):
        try:
            best = _best_value(folder)
        except BertftError as error:  # not trained again over what may be all that is left of it
            _write_job_file(folder, settings, content, str(error))
            print_escaped(f"{name}: {error}", stderr=True)
            return None
        report_finished_job(folder, name, overrides, content)
        return best
    print_escaped(name, stderr=True)
    if (folder / "manifest.json").is_file():
        OmegaConf.update(config, "resume", "auto")
    _write_job_file(folder, settings, content, None)
    try:
        problems = list(validate_config("train", to_plain_dict(config)))
        if problems:  # a sweeper that chooses as it goes has chosen it just now
            raise usage_error(problems)
        run = importlib.import_module("bertft.commands.train").run
        run(build_settings("train", config, folder, overrides), folder)
        return _best_value(folder)
    except StoppedBySignal as stopped:
        if stopped.signum in SCHEDULER_SIGNALS:  # all is saved: now the one who listened may hear it
            signal.raise_signal(stopped.signum)
        raise SweepStopped(stopped) from None
    except BertftError as error:
        _write_job_file(folder, settings, content, str(error))
        print_escaped(f"{name}: {error}", stderr=True)
    except Exception as error:
        _write_job_file(folder, settings, content, f"{type(error).__name__}: {error}")
        traceback.print_exc()
    return None


def report_finished_job(folder: Path, name: str, words: Sequence[str], content: str) -> None:
    """The table then calls the job by the ``words`` of this sweep."""
    _write_job_file(folder, _override_settings(words), content, None)
    print_escaped(f"{name}: done before", stderr=True)


def _override_settings(words: Sequence[str]) -> dict[str, str]:
    return {
        key: unquote_value(value or "")
        for _, key, value in map(split_override, words)
        if not key.startswith(f"{OPEN_GROUP}/")
    }


def _format_settings(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def _best_value(folder: Path) -> float | None:
    """DataError where the job's result is damaged."""
    value = read_metrics_json(folder / "metrics.json")["best"]["value"]
    return None if value is None else float(value)


def _write_job_file(folder: Path, settings: Mapping[str, str], content: str, error: str | None) -> None:
    """Write job.json whole or not at all."""
    text = json.dumps(
        {"overrides": settings, "content": content, "error": error}, ensure_ascii=False, indent=1
    )
    temporary = folder / f".{JOB_FILE}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    with temporary.open("x", encoding="utf-8") as file:  # not through a link of that name
        file.write(text)
    temporary.replace(folder / JOB_FILE)
