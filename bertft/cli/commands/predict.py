"""``bertft predict``: one prediction per row, in the order of the rows.

An invalid row of a file is an error before anything is computed, one of standard input after the
rows before it. With on_bad_row=skip, an object with ``error`` takes the place of the prediction, so
that there is always one object per row.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from bertft.cli.prediction_output import PredictionWriter, check_output_path, open_output
from bertft.config.command_configs import PredictConfig
from bertft.config.data import DataConfig
from bertft.config.data_files import inherited_format
from bertft.data.prediction_rows import (
    InputSummary,
    PredictionInput,
    check_rows,
    check_sentence_columns,
    open_input_file,
)
from bertft.data.rows import format_accounting, format_reasons
from bertft.data.rows_in_memory import open_rows
from bertft.data.schema import ColumnNotFound
from bertft.data.standard_input import has_column, open_standard_input, standard_input_stream
from bertft.errors import DataError, UsageError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.open_model import open_from_settings
from bertft.pipeline.prediction import RowPredictor, output_columns
from bertft.tasks.task import BaseTask
from bertft.utils.atomic_io import convert_write_errors
from bertft.utils.messages import expand_home, quote_for_shell
from bertft.utils.numbers import format_count
from bertft.utils.status import keep_status, mute_status, set_status_rows, show_status
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run"]

# A setting, but not a column of this name: those are in quotes or are the value of a setting.
_DATA_SETTING = re.compile(
    r"(?<![\w.=,\[])data\.(text|sentence|format|separator|quoting|encoding|on_bad_row|header)\b"
    r"(?![\w.]*['\"])"
)
_SIMILAR_COLUMN = re.compile(r"Did you mean '(\w+)'\?")
_TERMINAL_HINT = (
    "Reading rows from the terminal: type one text or JSON object per line, and end with Ctrl-D."
    " For a file, set input=<file>; for a text, text='...'"
)


def run(config: PredictConfig, _: Path) -> None:
    """Write the predictions; nothing else goes to stdout."""
    check_output_path(config.output, config.input)
    reads_standard_input = config.input == "-" and config.question is None
    stream = standard_input_stream() if reads_standard_input else None
    is_typed = stream is not None and config.text is None and sys.stdin.isatty()
    if is_typed:
        print_escaped(_TERMINAL_HINT, stderr=True)
    with _report_interruption(config):
        loaded = open_from_settings(config, config.precision, warn=print_warning, accepts_onnx=True)
    if loaded.unnamed_tags_message:
        hint = "Name them in their order: labels=[O,B-PER,I-PER,...]"
        print_warning(f"{loaded.unnamed_tags_message}. {hint}")
    if config.threshold is not None:
        loaded.task_model.task.set_threshold(config.threshold)
    # A status line would overwrite the predictions, or the text that the user types.
    is_quiet = is_typed or (config.output == "-" and sys.stdout.isatty())
    with mute_status(is_quiet), _rename_data_settings(config):
        _predict(config, loaded, stream)


def _predict(config: PredictConfig, loaded: LoadedModel, stream: BinaryIO | None) -> None:
    data = _data_settings(config, loaded.data)
    with _report_interruption(config):
        show_status("reading rows", brief=True, waits=stream is not None)
        rows = _open_input(config, data, loaded.task_model.task, stream)
        if rows.note:
            with keep_status():
                print_escaped(rows.note, stderr=True)
        summary = InputSummary()
        if rows.is_repeatable:
            summary = check_rows(rows, data, set_status_rows)
    predictor = RowPredictor(loaded, rows, config.on_bad_row, config.skip_rows)
    columns = output_columns(loaded.task_model.task, rows, config.on_bad_row == "skip")
    total = max(0, summary.rows - config.skip_rows)
    show_status("predicting", brief=True, total=total, waits=rows.is_live)
    start = time.monotonic()
    path = expand_home(config.output, "output")
    with convert_write_errors(path):
        writer = open_output(config.output, columns, predictor.kept_types(summary.kept_types))
        is_complete = _write_predictions(predictor, writer, config, rows)
    if not is_complete:  # the reader of a pipe has closed it
        return
    predictor.check_complete()
    for note in predictor.notes:
        print_warning(f"{rows.name}: {_DATA_SETTING.sub(_setting_of_predict, note)}")
    if predictor.invalid_counts:
        reasons = format_reasons(predictor.invalid_counts)
        print_warning(
            f"{rows.name}: invalid rows have an error in place of a prediction ({reasons})"
        )
    prefix = "" if config.output == "-" else f"{config.output}: "
    speed = f"{format_count(predictor.count / max(1e-9, time.monotonic() - start))} rows/s"
    accounting = format_accounting(rows.name, predictor.accounting())
    noun = "prediction" if predictor.count == 1 else "predictions"
    print_escaped(f"{prefix}{predictor.count:,} {noun} ({speed}); {accounting}", stderr=True)


def _write_predictions(
    predictor: RowPredictor, writer: PredictionWriter, config: PredictConfig, rows: PredictionInput
) -> bool:
    """Write all predictions; False if the reader of a pipe has closed it.

    After an interruption, and after an invalid row of standard input, the rows that are done become
    the output. After any other error, an output file is as it was before.
    """
    try:
        for block in predictor.iter_blocks():
            with keep_status():  # of a block on standard output
                writer.write(block)
            set_status_rows(predictor.count)
            if writer.is_closed:
                return False
        writer.finish()
        return True
    except BaseException as error:
        is_interrupted = isinstance(error, KeyboardInterrupt)
        is_streamed = isinstance(error, DataError) and not rows.is_repeatable
        keeps_rows = writer.count > 0 and (is_interrupted or is_streamed)
        if keeps_rows:
            writer.finish()
        else:
            writer.discard()
        if keeps_rows or is_interrupted:
            print_escaped(_describe_kept_rows(writer.count, config), stderr=True)
        raise


@contextlib.contextmanager
def _report_interruption(config: PredictConfig) -> Iterator[None]:
    """Report that there are no predictions if a signal interrupts the block."""
    try:
        yield
    except KeyboardInterrupt:
        print_escaped(_describe_kept_rows(0, config), stderr=True)
        raise


def _describe_kept_rows(count: int, config: PredictConfig) -> str:
    target = "standard output" if config.output == "-" else config.output
    if not count:
        exists = config.output != "-" and expand_home(config.output, "output").exists()
        unchanged = f"; {target} is as it was before" if exists else ""
        return f"no predictions are written: none was complete{unchanged}"
    rows = "row" if count == 1 else "rows"
    other_output = "" if config.output == "-" else " and another output"
    return (
        f"the predictions of {count:,} {rows} are in {target}. To continue, run the command again"
        f" with skip_rows={config.skip_rows + count}{other_output}"
    )


def _data_settings(config: PredictConfig, data: DataConfig) -> DataConfig:
    """How rows are read: as recorded with the model, unless a setting changes it."""
    # on_bad_row of the run is for its training rows.
    data = replace(data, on_bad_row=config.on_bad_row)
    columns = config.columns
    if columns is None and config.input != "-":
        columns = config.text
    changes = {"text": columns} | {
        name: getattr(config, name)
        for name in ("sentence", "separator", "quoting", "encoding", "header")
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    inherited = inherited_format(data.format, data.train, config.input)
    return replace(data, format=config.format or inherited, **changes)


def _open_input(
    config: PredictConfig, data: DataConfig, task: BaseTask, stream: BinaryIO | None
) -> PredictionInput:
    """The rows that the settings select: texts, a file, or standard input."""
    if config.question is not None or (config.text is not None and config.input == "-"):
        names = config.text if isinstance(config.text, list) else [config.text]
        if stream is None or not all(has_column(stream, str(name), data) for name in names):
            return _open_texts(config, data, task)
        # Until 0.2.0, text was the name of the column.
        value = f"[{','.join(map(str, names))}]" if isinstance(config.text, list) else config.text
        setting = quote_for_shell(f"columns={value}")
        print_warning(
            f"text={value} selects columns of standard input, which was its meaning up to 0.1.0."
            f" Write {setting} instead"
        )
        data = replace(data, text=config.text)
    if config.input != "-":
        rows = open_input_file(config.input, data, config.keep)
        if config.sentence is not None:
            check_sentence_columns(rows, data)
        return rows
    if config.sentence is not None:
        raise UsageError(
            "is not supported on standard input",
            where="sentence",
            hint="Write the rows to a file and set input=<file>",
        )
    assert stream is not None
    is_table = config.separator is not None or config.header is not None
    return open_standard_input(stream, data, config.keep, is_table)


def _open_texts(config: PredictConfig, data: DataConfig, task: BaseTask) -> PredictionInput:
    """The texts on the command line as rows.

    Raises UsageError if the task needs other texts.
    """
    if config.keep is not None:
        raise UsageError(
            "is not supported without input: it copies columns", where="keep", hint="Leave it out"
        )
    if task.name == "question_answering":
        if config.question is None:
            raise UsageError(
                "this model answers questions about a text",
                where="text",
                hint="Set question='...' context='...'",
            )
        row = {"question": config.question, "context": config.context}
        return open_rows([row], replace(data, text=["question", "context"]), name="question")
    if config.question is not None:
        raise UsageError(
            f"the task of this model is {task.name}", where="question", hint="Set text='...'"
        )
    count = len(data.text) if isinstance(data.text, (list, tuple)) else 1
    if count > 2:
        raise UsageError(
            f"this model reads {count} texts per row", where="text", hint="Set input=<file>"
        )
    is_pair = count == 2
    if is_pair != (config.text_pair is not None):
        what = "this model compares two texts" if is_pair else "this model reads one text per row"
        hint = "Set text='...' text_pair='...'" if is_pair else "Leave out text_pair"
        raise UsageError(what, where="text" if is_pair else "text_pair", hint=hint)
    if is_pair:
        if isinstance(config.text, list):
            raise UsageError(
                "is a list, but text_pair is one text",
                where="text",
                hint="Set one text and one text_pair, or write the pairs to a file",
            )
        row = {"text": str(config.text), "text_pair": config.text_pair}
        return open_rows([row], replace(data, text=["text", "text_pair"]), name="text")
    texts = config.text if isinstance(config.text, list) else [config.text]
    return open_rows([str(text) for text in texts], replace(data, text="text"), name="text")


@contextlib.contextmanager
def _rename_data_settings(config: PredictConfig) -> Iterator[None]:
    """Rename data.<setting> in errors: the settings of predict are not in the group ``data``."""
    text_is_column = config.columns is None and config.input != "-" and config.text is not None

    def rename(match: re.Match[str]) -> str:
        return match[1] if text_is_column else _setting_of_predict(match)

    try:
        yield
    except UsageError as error:
        message, hint = (
            text and _DATA_SETTING.sub(rename, text) for text in (error.what, error.hint)
        )
        where = error.where  # of a file or row, whose name is not changed
        if where and (setting := _DATA_SETTING.fullmatch(where)):
            where = rename(setting)
        if isinstance(error, ColumnNotFound):
            if text_is_column:
                note = "With input, text names a column: to predict a text, leave out input"
                hint = ". ".join(filter(None, (hint, note)))
            else:
                hint = hint and _SIMILAR_COLUMN.sub(r"If '\1' has the text, set columns=\1", hint)
        renamed = type(error)(message or "", where=where, hint=hint)
        renamed.proposed_settings = [
            _DATA_SETTING.sub(rename, setting) for setting in error.proposed_settings
        ]
        raise renamed from error


def _setting_of_predict(match: re.Match[str]) -> str:
    return "columns" if match[1] == "text" else match[1]
