"""``bertft merge``: fold the trained updates of a run, or the average of several, into the base."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import MergeConfig
from bertft.config.resume import read_run_config
from bertft.export.merge import write_merged_model
from bertft.export.transformers_folder import new_output_folder
from bertft.report.console import plain_console
from bertft.report.next_commands import predict_merged_command
from bertft.report.terminal_table import FittedTable
from bertft.runs.run_folder import RunFolder
from bertft.soups.model import write_soup
from bertft.utils.atomic_io import convert_write_errors
from bertft.utils.terminal import print_escaped

__all__ = ["run"]


def run(config: MergeConfig, _: Path) -> None:
    """Write the merged model. MergeError if its predictions differ; then nothing is written."""
    out = Path(config.out).expanduser()
    table = None
    with new_output_folder(out) as folder, convert_write_errors(out):
        if config.runs is None:
            messages = write_merged_model(config, folder, out.name)
        else:
            messages, table = write_soup(config, folder, out.name)
    if table is not None:
        plain_console().print(FittedTable(table))
    for line in messages:
        print_escaped(line)
    if config.run is not None and RunFolder(Path(config.run)).has_run:
        data = read_run_config(Path(config.run)).data
        print_escaped(f"next: {predict_merged_command(config.out, data)}")
