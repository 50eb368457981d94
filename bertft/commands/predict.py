"""``bertft predict``: unlabelled rows in, one JSON object per row out, in the rows' order.

A bad row is an error before anything is computed; with on_bad_row=skip its place holds an object
with ``error``, so that there is always one answer per row.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from bertft.assembly.features import unlabelled_features
from bertft.assembly.opened import open_asked
from bertft.assembly.saved import Saved
from bertft.assembly.warn import warn
from bertft.config.commands import PredictConfig
from bertft.config.printed import say
from bertft.config.streams import is_unicode, reader_is_gone
from bertft.data.accounting import accounting_line
from bertft.data.bad_rows import by_reason
from bertft.data.features import FeatureTable, NoFeatures
from bertft.data.rows import Rows
from bertft.data.sources import load_inputs
from bertft.errors import DataError, UsageError
from bertft.runs.atomic import environment, temporary
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import predict_logits

__all__ = ["run"]

_OBEYED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # by a terminal
_OF_DATA = re.compile(r"data\.(?=(text|separator|quoting|encoding|on_bad_row|header)\b)")


_TO_A_FILE = "Write the answers to a file with output=<file>"


def run(config: PredictConfig, _: Path) -> None:
    """Nothing but answers goes to stdout."""
    if config.output != "-":
        _check(Path(config.output).expanduser(), Path(config.input).expanduser())
    saved = open_asked(config, config.precision, warn=warn)
    adapted, data = saved.adapted, saved.data
    if saved.unnamed_tags:
        warn(f"{saved.unnamed_tags}. Name them in their order: labels=[O,B-PER,I-PER,...]")
    # What a run left out of its training rows is no reason to leave questions unanswered.
    data = replace(data, on_bad_row=config.on_bad_row)
    for name in ("text", "separator", "quoting", "encoding", "header"):
        if (value := getattr(config, name)) is not None:
            data = replace(data, **{name: value})
    if config.threshold is not None:
        adapted.task.decide_by(config.threshold)
    skip = config.on_bad_row == "skip"
    with _settings_of_predict():
        rows = load_inputs(config.input, data)
        for note in rows.notes:
            warn(f"{rows.source}: {_OF_DATA.sub('', note)}")
        table = _table(rows, saved, skip)
    answers: Iterator[dict[str, Any]] = iter(())
    if table is not None:
        logits = predict_logits(
            adapted.runner, table, adapted.precision, prepare=adapted.task.asking
        )
        answers = adapted.task.answers(logits, table)
    if skip:  # one answer per row, in order; each says which row it belongs to
        answers = _with_bad_rows(answers, table, rows, adapted.task)
    count = 0
    with _output(config.output) as file:
        for answer in answers:
            line = json.dumps(answer, ensure_ascii=not is_unicode(file))
            # JSON itself escapes only the first 32; the value that is read back is the same.
            file.write(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")
            count += 1
            if reader_is_gone(file):
                return
        if count != rows.read:
            raise RuntimeError(f"{rows.source}: {rows.read:,} rows read, but {count:,} answers")
    if rows.skipped:
        reasons = by_reason(rows.skipped)
        warn(f"{rows.source}: {reasons}: such rows have an error in place of an answer")
    told = accounting_line(rows.source, rows.accounting())
    out = "" if config.output == "-" else f"{config.output}: "
    say(f"{out}{count:,} answers; {told}", stderr=True)


def _table(rows: Rows, saved: Saved, skip: bool) -> FeatureTable | None:
    """The features of the rows; None where all of them are bad rows, which ``skip`` admits."""
    if not len(rows) and rows.read:
        return None
    task, length = saved.adapted.task, saved.facts.max_length
    policy = "skip" if skip else "error"
    try:
        return unlabelled_features(rows, task, saved.adapted.tokenizer, length, None, policy)
    except NoFeatures:
        if not skip or rows.every is None:
            raise
        fault = task.without_feature(length)
        rows.every.extend((line, fault.detail) for line in rows.column("line"))
        rows.skipped[fault.reason] += len(rows)
        return None


def _with_bad_rows(
    answers: Iterator[dict[str, Any]], table: FeatureTable | None, rows: Rows, task: BaseTask
) -> Iterator[dict[str, Any]]:
    """Answers with the ``line`` of their row; a bad row has null for an answer, and ``error``."""
    lines = [] if table is None else _lines(table)
    good = ((line, {"line": line, **each}) for line, each in zip(lines, answers, strict=True))
    empty, ids = dict.fromkeys(task.answer_fields), _ids_of_bad_rows(rows)
    bad = (
        (line, {"line": line, **ids.get(line, {}), **empty, "error": error})
        for line, error in sorted(rows.every or ())
    )
    for _, answer in heapq.merge(good, bad, key=lambda each: each[0]):
        yield answer


def _ids_of_bad_rows(rows: Rows) -> dict[int, dict[str, str]]:
    """``{"id": …}`` by line, of the bad rows that have an id of their own, as answers have it."""
    ids = dict(rows.ids)
    if "id" in rows.columns:  # those that were read, and then gave nothing to answer
        bad = {line for line, _ in rows.every or ()}
        pairs = zip(rows.column("line"), rows.column("id"), strict=True) if bad else ()
        ids |= {line: name for line, name in pairs if line in bad and name is not None}
    return {line: {"id": name} for line, name in ids.items()}


def _lines(table: FeatureTable) -> list[int]:
    """Where the rows that have an answer are in the input, in their order."""
    rows = np.flatnonzero(table.has_feature())
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
