"""``bertft export``: write a run or an average of runs as a peft adapter, or an ONNX graph."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import ExportConfig
from bertft.export.transformers_folder import new_output_folder
from bertft.report.console import plain_console
from bertft.report.terminal_table import FittedTable
from bertft.utils.atomic_io import convert_write_errors
from bertft.utils.terminal import print_escaped

__all__ = ["run"]


def run(config: ExportConfig, _: Path) -> None:
    """Write the export. MergeError if its predictions differ; then nothing is written."""
    out = Path(config.out).expanduser()
    table = None
    with new_output_folder(out) as folder, convert_write_errors(out):
        if config.runs is not None:
            from bertft.soups.adapter import export_soup_adapter

            messages, table = export_soup_adapter(config, folder, out.name)
        elif config.format == "onnx":
            from bertft.export.onnx_graph import export_onnx

            messages = export_onnx(config, folder, out.name)
        else:
            from bertft.export.peft_adapter import export_peft_adapter

            messages = export_peft_adapter(config, folder, out.name)
    if table is not None:
        plain_console().print(FittedTable(table))
    for line in messages:
        print_escaped(line)
