"""The commands that usually follow a run, complete and quoted for a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from bertft.config.data import DataConfig
from bertft.config.data_files import file_extension, split_names
from bertft.config.overrides import format_value
from bertft.data.guess_columns import format_column
from bertft.utils.messages import quote_for_shell

__all__ = ["new_rows_file", "next_commands", "predict_merged_command"]

_PREDICTION_EXTENSIONS = {".csv": ".csv", ".tsv": ".csv", ".parquet": ".parquet"}
# Settings of ``predict`` that a run records and a merged folder does not.
_READER_SETTINGS = ("format", "separator", "quoting", "encoding", "header")


def next_commands(
    folder: str | Path,
    *,
    prefix: bool = False,
    merged: str = "merged",
    rows: str = "new.jsonl",
    other: str | Path | None = None,
) -> dict[str, str]:
    """Purpose → command.

    Args:
        folder: The run folder.
        prefix: Whether the run has a prefix, for which ``merge`` needs a setting.
        merged: Name of a new folder for ``merge``.
        rows: File of rows to predict. The predictions have its format if ``predict`` writes it.
        other: Folder of another run; None: without ``compare``.
    """
    output = _predictions_file(rows)
    commands = {
        "evaluate": _command("eval", {"run": folder}),
        "write a transformers folder": (
            _command("merge", {"run": folder, "out": merged})
            + (" prefix=separate" if prefix else "")
        ),
        "predict": f"{_command('predict', {'run': folder, 'input': rows})} output={output}",
    }
    if other is not None:
        words = shlex.join((str(folder), str(other)))
        commands["compare with another run"] = f"bertft compare {words}"
    return commands


def predict_merged_command(merged: str, data: DataConfig) -> str:
    """The command that predicts rows like those of ``data`` with the merged folder ``merged``."""
    rows = new_rows_file(data)
    settings = [f"output={_predictions_file(rows)}"]
    if isinstance(data.text, (str, int)):
        settings.append(f"columns={format_column(data.text)}")
    elif data.text is not None:
        settings.append(f"columns=[{','.join(map(format_column, data.text))}]")
    defaults = DataConfig()
    for name in _READER_SETTINGS:
        value = getattr(data, name)
        if value != getattr(defaults, name):
            settings.append(f"{name}={format_value(value)}")
    words = " ".join(map(quote_for_shell, settings))
    return f"{_command('predict', {'run': merged, 'input': rows})} {words}"


def new_rows_file(data: DataConfig) -> str:
    """A name for a file of new rows, with the extension of the training file."""
    extension = ""
    if data.source == "files" and data.train is not None:
        extension = file_extension(split_names(data.train)[0])
    if data.format is not None:  # the format of files with this extension
        return f"new{extension}"
    return f"new{extension if extension in _PREDICTION_EXTENSIONS else '.jsonl'}"


def _predictions_file(rows: str) -> str:
    return f"predictions{_PREDICTION_EXTENSIONS.get(file_extension(rows), '.jsonl')}"


def _command(name: str, paths: dict[str, str | Path]) -> str:
    """``bertft <name>`` with ``paths`` as positional arguments if they can be such."""
    words = [str(path) for path in paths.values()]
    if any("=" in word or word.startswith(("~", "-")) for word in words):
        words = [f"{setting}={word}" for setting, word in zip(paths, words, strict=True)]
    return f"bertft {name} {shlex.join(words)}"
