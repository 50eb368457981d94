"""A first line that looks like the names of the columns, where columns are asked for by position.

Read as a row it would be a class of its own (``label``), or one answer too many.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.data import DataConfig
from bertft.config.messages import quote_value
from bertft.data.bad_rows import BadRows, format_location
from bertft.data.forms.form import RowSchema
from bertft.data.labels import NOT_NUMERIC, NOT_BINARY, class_name_as_number
from bertft.errors import DataError

__all__ = ["check_unmarked_header"]

_TEXT_COLUMN_NAMES = {
    "abstract", "body", "comment", "content", "context", "description", "document", "hypothesis",
    "input", "message", "passage", "premise", "query", "question", "question1", "question2",
    "review", "sentence", "sentence1", "sentence2", "text", "text1", "text2", "text_a", "text_b",
    "texts", "title", "tweet", "utterance", "内容", "句子", "问题", "文本", "标题", "评论",
}  # fmt: skip
_LABEL_COLUMN_NAMES = {
    "category", "class", "gold", "gold_label", "intent", "is_duplicate", "label", "labels",
    "polarity", "rating", "score", "sentiment", "similarity", "stars", "tag", "tags", "target",
    "topic", "分类", "情感", "标签", "类别",
}  # fmt: skip
_COLUMN_NAME_PATTERN = re.compile(r"[^\W\d][\w.-]{0,23}")
_MIN_ROWS = 10  # from which on the shape of the rows says something
_MIN_LENGTH_RATIO = 4  # times: how much longer than a column's name texts are


def check_unmarked_header(table: pa.Table, bad: BadRows, schema: RowSchema, config: DataConfig) -> None:
    """DataError where the first line of a CSV or TSV file may be a header; data.header decides.

    ``table`` and ``bad`` are its rows. Nothing is checked where data.header is set, or where a
    column is asked for by name: then there is a header.
    """
    if config.header is not None or schema.columns.has_names:
        return
    line = table.column("line")[0].as_py() if table.num_rows else None
    if bad.first and (line is None or bad.first[0][0] < line):
        line, detail = bad.first[0]
        label_error = detail if bad.counts[NOT_NUMERIC] + bad.counts[NOT_BINARY] == 1 else ""
        candidates = label_error if "the label" in label_error else ""
    else:
        candidates = "" if line is None else _header_candidates(table, schema)
    if candidates:
        raise DataError(
            f"the first line may be the names of the columns ({candidates})",
            where=format_location(bad.source, line or 1, bad.unit),
            hint="Set data.header=true if it is, data.header=false if it is a row",
        )


def _header_candidates(table: pa.Table, schema: RowSchema) -> str:
    """The fields of the first row, where they look like names of columns; else empty."""
    texts = [name for name in schema.text_fields if name in table.column_names]
    first = [table.column(name)[0].as_py() for name in texts]
    are_known_names = all(value.strip().casefold() in _TEXT_COLUMN_NAMES for value in first)
    if "label" not in table.column_names:
        return ", ".join(map(quote_value, first)) if are_known_names else ""
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
    numbers = class_name_as_number(label) is None and all(class_name_as_number(name) is not None for name in counts)
    is_header = are_known_names or label.casefold() in _LABEL_COLUMN_NAMES or numbers
    if not is_header and table.num_rows >= _MIN_ROWS and min(counts.values(), default=0) > 1:
        lengths = pc.utf8_length(table.column(texts[0]))
        median = pc.quantile(lengths, 0.5)[0].as_py()
        words = all(_COLUMN_NAME_PATTERN.fullmatch(value.strip()) for value in (*first, label))
        is_header = words and median >= _MIN_LENGTH_RATIO * len(first[0])
    return ", ".join(map(quote_value, [*first, label])) if is_header else ""
