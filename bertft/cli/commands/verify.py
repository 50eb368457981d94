"""``bertft verify``: verify the files of a run and list what is damaged or missing."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import VerifyConfig
from bertft.errors import DataError
from bertft.pipeline.verify import verify_files
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import format_list, shorten
from bertft.utils.status import show_status
from bertft.utils.terminal import print_escaped

__all__ = ["run"]

_MAX_PROBLEM_LENGTH = 1_000  # a problem can quote names from the folder


def run(config: VerifyConfig, _: Path) -> None:
    """Print one line per file or folder. DataError (status 2) if any is damaged."""
    run_folder = RunFolder.open(Path(config.run).expanduser())
    show_status("computing checksums")
    damaged = []
    for finding in verify_files(run_folder):
        print_escaped(
            f"{'DAMAGED' if finding.problems else 'ok':<9}{finding.name:<24}{finding.note}".rstrip()
        )
        for problem in finding.problems:
            print_escaped(f"{'':<9}  {shorten(problem, _MAX_PROBLEM_LENGTH)}")
        if finding.problems:
            damaged.append(finding.name)
    if damaged:
        verb = "has" if len(damaged) == 1 else "have"
        raise DataError(
            f"{format_list(damaged)} {verb} changed since the run",
            where=str(run_folder.path),
            hint="Restore the files from a copy. bertft train resume=<run> uses the newest intact"
            " checkpoint",
        )
