"""A first line of a table that may be a header, though no setting says so."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.data import DataConfig
from bertft.data.guess_columns import LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES
from bertft.data.labels import NOT_BINARY, NOT_NUMERIC, class_name_as_number
from bertft.data.rows import BadRows, encode_line
from bertft.data.schema import RowSchema
from bertft.errors import DataError
from bertft.utils.messages import quote_value

__all__ = ["check_unmarked_header"]

_COLUMN_NAME_PATTERN = re.compile(r"[^\W\d][\w.-]{0,23}")
_MIN_ROWS = 10  # fewer rows are not compared with the first line
_MIN_LENGTH_RATIO = 4  # texts are at least so many times longer than a column name


def check_unmarked_header(
    table: pa.Table, bad: BadRows, schema: RowSchema, config: DataConfig
) -> None:
    """Raise DataError if the first line of a CSV or TSV file may be a header.

    ``table`` and ``bad`` are the rows of the file, or of several files: the first one is checked.
    Nothing is checked if data.header is set or a column is requested by name, because then it is
    known whether there is a header.
    """
    if config.header is not None or schema.columns.has_names:
        return
    if bad.files:
        table = table.filter(pc.less(table.column("line"), encode_line(0, 1)))
    line = table.column("line")[0].as_py() if table.num_rows else None
    if bad.first_errors and (line is None or bad.first_errors[0][0] < line):
        line, detail = bad.first_errors[0]
        label_error = detail if bad.counts[NOT_NUMERIC] + bad.counts[NOT_BINARY] == 1 else ""
        candidates = label_error if "the label" in label_error else ""
    else:
        candidates = "" if line is None else _header_candidates(table, schema)
    if candidates:
        raise DataError(
            f"the first line may be a header ({candidates})",
            where=bad.location(line or 1),
            hint="Set data.header=true if it is, data.header=false if it is a row",
        )


def _header_candidates(table: pa.Table, schema: RowSchema) -> str:
    """The fields of the first row if they look like column names; else empty."""
    texts = [name for name in schema.text_fields if name in table.column_names]
    row_texts = [table.column(name)[0].as_py() for name in texts]
    are_known_names = all(value.strip().casefold() in TEXT_COLUMN_NAMES for value in row_texts)
    if "label" not in table.column_names:
        return ", ".join(map(quote_value, row_texts)) if are_known_names else ""
    values = table.column("label")
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    if not pa.types.is_string(values.type) or not len(values):
        return ""
    label = values[0].as_py()
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()}
    if label is None or counts.pop(label) > 1 or not counts:
        return ""
    counts.pop(None, None)
    is_only_text = class_name_as_number(label) is None and all(
        class_name_as_number(name) is not None for name in counts
    )
    is_header = are_known_names or label.casefold() in LABEL_COLUMN_NAMES or is_only_text
    if not is_header and table.num_rows >= _MIN_ROWS and min(counts.values(), default=0) > 1:
        lengths = pc.utf8_length(table.column(texts[0]))
        median = pc.quantile(lengths, 0.5)[0].as_py()
        fields = [*row_texts, label]
        are_words = all(_COLUMN_NAME_PATTERN.fullmatch(value.strip()) for value in fields)
        is_header = are_words and median >= _MIN_LENGTH_RATIO * len(row_texts[0])
    return ", ".join(map(quote_value, [*row_texts, label])) if is_header else ""
