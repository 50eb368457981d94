"""``bertft verify``: hash a run again, and name what is damaged or missing."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.verify import findings
from bertft.config.commands import VerifyConfig
from bertft.config.messages import listing, shortened
from bertft.config.printed import say
from bertft.errors import DataError
from bertft.runs.folder import RunFolder

__all__ = ["run"]

_LONGEST = 1_000  # characters of a problem, which may quote names from the folder


def run(config: VerifyConfig, _: Path) -> None:
    """A line a file or folder on stdout. DataError (status 2) if any is not as it was written."""
    place = RunFolder.open(Path(config.run).expanduser())
    damaged = []
    for finding in findings(place):
        say(
            f"{'DAMAGED' if finding.problems else 'ok':<9}{finding.name:<24}{finding.note}".rstrip()
        )
        for problem in finding.problems:
            say(f"{'':<9}  {shortened(problem, _LONGEST)}")
        if finding.problems:
            damaged.append(finding.name)
    if damaged:
        are = "is" if len(damaged) == 1 else "are"
        raise DataError(
            f"{listing(damaged)} {are} not as written", where=str(place.path),
            hint="Restore them from a copy; resume= goes on from the newest whole checkpoint",
        )  # fmt: skip
