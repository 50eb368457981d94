"""``bertft doctor``: what this machine can do, and whether training works on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bertft.commands.doctor_training import try_training
from bertft.config.commands import DoctorConfig
from bertft.config.messages import listing
from bertft.errors import EnvironmentFailed
from bertft.models.precision import resolve_device
from bertft.reports.console import plain_console
from bertft.reports.doctor import machine, places
from bertft.reports.doctor.finding import FAILED, OK, Finding, findings_table

__all__ = ["run"]


def run(config: DoctorConfig, _: Path) -> None:
    """Print what was found. EnvironmentFailed (status 4) where training cannot work."""
    findings = list(_looked_at(config))
    plain_console().print(findings_table(findings))
    failed = [each for each in findings if each.state == FAILED]
    if failed:
        raise EnvironmentFailed(
            f"training cannot work here: {listing([each.name for each in failed])}",
            hint=failed[0].advice or None,
        )
    notes = sum(each.state != OK for each in findings)
    print(f"training works here{f', with {notes} notes above' if notes else ''}: bertft train")


def _looked_at(config: DoctorConfig) -> Iterator[Finding]:
    answered = places.ask(config.timeout)  # they have time while everything else is looked at
    yield machine.versions()
    yield machine.cpu()
    yield from machine.gpus()
    yield places.offline_base()
    yield places.disk("disk, runs", Path("outputs"))
    yield places.disk("disk, cache")
    try:
        device = resolve_device(config.device)
    except EnvironmentFailed as error:
        yield Finding("device", FAILED, error.what, error.hint or "")
    else:
        yield machine.matmul(device)
        yield try_training(config.device)
    yield from answered()
