"""``bertft init``: write a commented YAML file of settings, with the columns of a training file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from bertft.config.command_configs import InitConfig
from bertft.config.data import DataConfig
from bertft.config.data_files import resolve_files
from bertft.config.overrides import parse_data_settings
from bertft.config.project_file import project_text
from bertft.errors import DataError
from bertft.utils.atomic_io import atomic_write_text, convert_write_errors
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run"]


def run(config: InitConfig, _: Path) -> None:
    """Write ``config.output``, and print the command that uses it.

    Raises:
        DataError: the training file cannot be read.
    """
    output = Path(config.output).expanduser()
    data: dict[str, Any] = {}
    if config.train is not None:
        data = {"train": config.train, **_detect_data(config)}
    with convert_write_errors(output):
        atomic_write_text(output, project_text(config.output, data))
    detected = ", ".join(f"{name}={value}" for name, value in data.items() if name != "train")
    print_escaped(f"wrote {config.output}{f' with {detected}' if detected else ''}")
    print_escaped(f"next: {shlex.join(['bertft', 'train', f'config={config.output}'])}")


def _detect_data(config: InitConfig) -> dict[str, Any]:
    """The settings of ``data`` that read the file; without columns, and with a warning, if unclear.

    Raises:
        DataError: the file cannot be read.
    """
    from bertft.data.propose_columns import detect_columns
    from bertft.data.schema import ColumnNotFound

    assert config.train is not None
    data = DataConfig(name="files", train=config.train)
    try:
        first_file = resolve_files(config.train, "train")[0]
        settings = detect_columns(first_file, data, config.task)
    except ColumnNotFound as error:
        print_warning(f"{error.what}. Set data.text and data.label in {config.output}")
        return {} if config.task is None else {"task": config.task}
    except DataError as error:
        error.where = error.where or config.train
        raise
    return parse_data_settings(settings) or {"text": "text", "label": "label"}
