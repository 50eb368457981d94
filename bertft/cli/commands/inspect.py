"""``bertft inspect``: show what is detected in training files, and the command to train on them."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bertft.config.command_configs import InspectRequest
from bertft.pipeline.inspection import inspect_files
from bertft.report.inspection import inspection_to_json, print_inspection, train_command
from bertft.utils.status import show_status

__all__ = ["run"]


def run(config: InspectRequest, _: Path) -> None:
    """Print the result to standard output.

    Raises:
        UsageError: the files cannot be read, or not as configured; what could be read is printed.
    """
    show_status("reading rows", brief=True)
    with TemporaryDirectory(prefix="bertft-inspect-") as folder:
        inspection = inspect_files(config, Path(folder))
    command = None if inspection.error is not None else train_command(config, inspection)
    if config.output == "json":
        content = inspection_to_json(inspection, command)
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
    else:
        print_inspection(inspection, command)
    if inspection.error is not None:
        raise inspection.error
