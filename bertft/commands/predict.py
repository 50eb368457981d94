"""``bertft predict``: unlabelled rows in, one JSON object a line out, in the rows' order."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa

from bertft.assembly.features import unlabelled_features
from bertft.assembly.opened import open_asked
from bertft.assembly.warn import warn
from bertft.config.commands import PredictConfig
from bertft.config.streams import is_unicode, reader_is_gone
from bertft.data.features import FeatureTable
from bertft.data.sources import load_inputs
from bertft.errors import DataError, UsageError
from bertft.runs.atomic import environment, temporary
from bertft.training.evaluate import predict_logits

__all__ = ["run"]

_OF_DATA = re.compile(r"data\.(?=(text|separator|quoting|encoding|on_bad_row)\b)")


_TO_A_FILE = "Write the answers to a file with output=<file>"


def run(config: PredictConfig, _: Path) -> None:
    """Nothing but answers goes to stdout."""
    if config.output != "-":
        _check(Path(config.output).expanduser(), Path(config.input).expanduser())
    saved = open_asked(config, config.precision, warn=warn)
    adapted, data = saved.adapted, saved.data
    # What a run left out of its training rows is no reason to leave questions unanswered.
    data = replace(data, on_bad_row=config.on_bad_row)
    for name in ("text", "separator", "quoting", "encoding"):
        if (value := getattr(config, name)) is not None:
            data = replace(data, **{name: value})
    if config.threshold is not None:
        adapted.task.decide_by(config.threshold)
    with _settings_of_predict():
        rows = load_inputs(config.input, data)
        for note in rows.notes:
            warn(f"{rows.source}: {_OF_DATA.sub('', note)}")
        table = unlabelled_features(
            rows, adapted.task, adapted.tokenizer, saved.facts.max_length, None, data.on_bad_row
        )
    for reason, count in rows.skipped.items():
        warn(f"{rows.source}: {count:,} × {reason} left out, and so without an answer")
    logits = predict_logits(adapted.runner, table, adapted.precision, prepare=adapted.task.asking)
    count = 0
    # Answers may be fewer than rows then: each tells which it belongs to.
    lines = _lines(table) if config.on_bad_row == "skip" else None
    with _output(config.output) as file:
        for answer in adapted.task.answers(logits, table):
            if lines is not None:
                answer = {"line": lines[count], **answer}
            file.write(json.dumps(answer, ensure_ascii=not is_unicode(file)) + "\n")
            count += 1
            if reader_is_gone(file):
                return
    if config.output != "-":
        print(f"{config.output}: {count:,} answers", file=sys.stderr)


def _lines(table: FeatureTable) -> list[int]:
    """Where the rows that have an answer stand in the input, in their order."""
    rows = np.unique(table.gather("row", np.arange(len(table))))
    lines: list[int] = table.rows.values("line").take(pa.array(rows)).to_pylist()
    return lines


@contextlib.contextmanager
def _settings_of_predict() -> Iterator[None]:
    """Errors of reading in the words of this command, whose settings are in no ``data``."""
    try:
        yield
    except DataError as error:
        what, hint = (text and _OF_DATA.sub("", text) for text in (error.what, error.hint))
        raise DataError(what or "", where=error.where, hint=hint) from error


def _check(path: Path, given: Path) -> None:
    """UsageError where no file can be written, before anything is computed."""
    if path.is_dir():
        raise UsageError("is a folder", where=f"output={path}", hint="Name a file in it")
    if given.is_file() and path.exists() and path.samefile(given):
        raise UsageError("is the input as well", where=f"output={path}", hint="Name another file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", where=f"output={path}")


@contextlib.contextmanager
def _output(name: str) -> Iterator[TextIO]:
    """stdout, or a file that is there whole or not at all; a pipe or device is written to."""
    if name == "-":
        if reader_is_gone(sys.stdout):
            raise UsageError("standard output is closed", where="output=-", hint=_TO_A_FILE)
        yield sys.stdout
        return
    path = Path(name).expanduser().resolve()
    plain = path.is_file() or not path.exists()
    new = temporary(path) if plain else path
    try:
        with environment(path):
            with new.open("w", encoding="utf-8") as file:
                yield file
            if plain:
                new.replace(path)
    finally:
        if plain:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
