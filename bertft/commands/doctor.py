"""``bertft doctor``: what this machine can do, and whether training works on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bertft.commands.doctor_training import check_training
from bertft.config.commands import DoctorConfig
from bertft.config.messages import format_list
from bertft.errors import SystemResourceError
from bertft.models.precision import resolve_device
from bertft.reports.console import plain_console
from bertft.reports.doctor import machine, places
from bertft.reports.doctor.finding import FAILED, OK, CheckResult, checks_table

__all__ = ["run"]


def run(config: DoctorConfig, _: Path) -> None:
    """Print what was found. EnvironmentFailed (status 4) where training cannot work."""
    findings = list(_run_checks(config))
    plain_console().print(checks_table(findings))
    failed = [finding for finding in findings if finding.status == FAILED]
    if failed:
        raise SystemResourceError(
            f"training cannot work here: {format_list([each.name for each in failed])}",
            hint=failed[0].advice or None,
        )
    notes = sum(each.status != OK for each in findings)
    print(f"training works here{f', with {notes} notes above' if notes else ''}: bertft train")


def _run_checks(config: DoctorConfig) -> Iterator[CheckResult]:
    network_findings = places.start_hub_check(config.timeout)  # they have time while everything else is looked at
    yield machine.check_versions()
    yield machine.check_cpu()
    yield from machine.check_gpus()
    yield places.check_offline_base()
    yield places.check_disk("disk, runs", Path("outputs"))
    yield places.check_disk("disk, cache")
    try:
        device = resolve_device(config.device)
    except SystemResourceError as error:
        yield CheckResult("device", FAILED, error.what, error.hint or "")
    else:
        yield machine.check_matmul(device)
        yield check_training(config.device)
    yield from network_findings()
