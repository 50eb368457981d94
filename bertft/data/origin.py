"""Where the rows of one split come from, before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows
from bertft.data.class_labels import select_class_names, parquet_class_names, numbers_to_names
from bertft.data.columns import ColumnSpec, find_columns
from bertft.data.files import PARQUET_EXTENSIONS, read_records
from bertft.data.forms.form import RowSchema
from bertft.data.separated import Record
from bertft.data.text_files import resolve_existing_file
from bertft.errors import UsageError

__all__ = ["DataSource", "open_file", "open_sample"]


@dataclass(frozen=True)
class DataSource:
    """``read`` reads; what does not parse goes to the BadRows it is given.

    ``class_names`` are the class names where the source itself has them. ``unit``: what the records'
    numbers count where it is not lines. ``path``: the file whose bytes are all that is read.
    """

    source: str
    read: Callable[[BadRows], Iterator[Record]]
    class_names: list[str] | None = None
    files: tuple[str, ...] = ()
    unit: str = ""
    path: Path | None = None


def open_file(config: DataConfig, name: str, setting: str, schema: RowSchema) -> DataSource:
    """The file ``name``, which ``setting`` gave."""
    path = resolve_existing_file(name, setting)
    columns, declared = schema.columns, None
    if len(columns.label) == 1 and path.suffix.lower() in PARQUET_EXTENSIONS:
        declared = parquet_class_names(path, columns.label[0])
    names = select_class_names(declared, config.labels)

    def records(bad: BadRows) -> Iterator[Record]:
        rows = read_records(path, schema, config, bad)
        return rows if declared is None else numbers_to_names(rows, len(columns.text), names)

    return DataSource(
        name,
        records,
        names,
        files=(str(path.resolve()),),
        unit=schema.record_unit(path.suffix.lower()),
        path=path,
    )


def open_sample(config: DataConfig, split: str, columns: ColumnSpec) -> DataSource:
    """Split ``split`` of an embedded sample."""
    from bertft.samples import load_sample

    if not config.sample:
        raise UsageError("data.source=sample needs a name", where="data.sample")
    source = f"sample {config.sample}/{split}"
    content = load_sample(config.sample, split)
    names = list(content)
    positions = find_columns(columns, names, len(names), source)
    count = len(next(iter(content.values())))
    columns_read = [[None] * count if position is None else content[names[position]] for position in positions]

    def records(bad: BadRows) -> Iterator[Record]:
        bad.count_row(count)
        for line, fields in enumerate(zip(*columns_read, strict=True), start=1):
            yield line, list(fields)

    return DataSource(source, records)
