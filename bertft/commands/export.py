"""``bertft export``: a model in somebody else's form, proven to answer as it did.

Each form is a module here, ``export_<format>.write(config, folder, name)``.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from bertft.assembly.disk import writing
from bertft.config.commands import ExportConfig
from bertft.config.printed import say
from bertft.formats.transformers_folder import new_folder

__all__ = ["run"]


def run(config: ExportConfig, _: Path) -> None:
    """Raises MergeRefused, and writes nothing, where what is written would answer otherwise."""
    form = importlib.import_module(f"bertft.commands.export_{config.format}")
    out = Path(config.out).expanduser()
    with new_folder(out) as folder, writing(out):
        said: list[str] = form.write(config, folder, out.name)
    for line in said:
        say(line)
