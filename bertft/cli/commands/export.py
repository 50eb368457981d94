"""``bertft export``: a model in somebody else's form, proven to answer as it did.

Each form is a module here, ``export_<format>.write(config, folder, name)``.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from bertft.config.command_configs import ExportConfig
from bertft.export.transformers_folder import new_output_folder
from bertft.utils.atomic_io import convert_write_errors
from bertft.utils.terminal import print_escaped

__all__ = ["run"]


def run(config: ExportConfig, _: Path) -> None:
    """Raises MergeRefused, and writes nothing, where what is written would answer otherwise."""
    exporter = importlib.import_module(f"bertft.cli.commands.export_{config.format}")
    out = Path(config.out).expanduser()
    with new_output_folder(out) as folder, convert_write_errors(out):
        messages: list[str] = exporter.write(config, folder, out.name)
    for line in messages:
        print_escaped(line)
