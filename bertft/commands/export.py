"""``bertft export``: a model in somebody else's form, proven to answer as it did.

Each form is a module here, ``export_<format>.write(config, folder, name)``.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from bertft.assembly.disk import wrap_write_errors
from bertft.config.commands import ExportConfig
from bertft.config.printed import print_escaped
from bertft.formats.transformers_folder import new_output_folder

__all__ = ["run"]


def run(config: ExportConfig, _: Path) -> None:
    """Raises MergeRefused, and writes nothing, where what is written would answer otherwise."""
    exporter = importlib.import_module(f"bertft.commands.export_{config.format}")
    out = Path(config.out).expanduser()
    with new_output_folder(out) as folder, wrap_write_errors(out):
        messages: list[str] = exporter.write(config, folder, out.name)
    for line in messages:
        print_escaped(line)
