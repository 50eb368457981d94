"""``bertft verify``: hash a run again, and name what is damaged or missing."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import VerifyConfig
from bertft.errors import DataError
from bertft.pipeline.verify import verify_files
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import format_list, shorten
from bertft.utils.terminal import print_escaped

__all__ = ["run"]

_LONGEST = 1_000  # characters of a problem, which may quote names from the folder


def run(config: VerifyConfig, _: Path) -> None:
    """A line a file or folder on stdout. DataError (status 2) if any is not as it was written."""
    run_folder = RunFolder.open(Path(config.run).expanduser())
    damaged = []
    for finding in verify_files(run_folder):
        print_escaped(
            f"{'DAMAGED' if finding.problems else 'ok':<9}{finding.name:<24}{finding.note}".rstrip()
        )
        for problem in finding.problems:
            print_escaped(f"{'':<9}  {shorten(problem, _LONGEST)}")
        if finding.problems:
            damaged.append(finding.name)
    if damaged:
        are = "is" if len(damaged) == 1 else "are"
        raise DataError(
            f"{format_list(damaged)} {are} not as written",
            where=str(run_folder.path),
            hint="Restore them from a copy; resume= goes on from the newest whole checkpoint",
        )
