"""Where the rows of one split come from, before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows
from bertft.data.class_labels import names_to_use, parquet_names, with_names
from bertft.data.columns import Asked, find
from bertft.data.files import PARQUET, read_file
from bertft.data.forms.form import RowForm
from bertft.data.separated import Record
from bertft.data.text_files import existing
from bertft.errors import UsageError

__all__ = ["Origin", "open_file", "open_sample"]


@dataclass(frozen=True)
class Origin:
    """``records`` reads; what does not parse goes to the BadRows it is given.

    ``classes`` are the class names where the source itself has them. ``unit``: what the records'
    numbers count where it is not lines. ``path``: the file whose bytes are all that is read.
    """

    source: str
    records: Callable[[BadRows], Iterator[Record]]
    classes: list[str] | None = None
    files: tuple[str, ...] = ()
    unit: str = ""
    path: Path | None = None


def open_file(config: DataConfig, name: str, setting: str, form: RowForm) -> Origin:
    """The file ``name``, which ``setting`` gave."""
    path = existing(name, setting)
    columns, declared = form.columns, None
    if len(columns.label) == 1 and path.suffix.lower() in PARQUET:
        declared = parquet_names(path, columns.label[0])
    names = names_to_use(declared, config.labels)

    def records(bad: BadRows) -> Iterator[Record]:
        rows = read_file(path, form, config, bad)
        return rows if declared is None else with_names(rows, len(columns.text), names)

    return Origin(
        name,
        records,
        names,
        files=(str(path.resolve()),),
        unit=form.unit(path.suffix.lower()),
        path=path,
    )


def open_sample(config: DataConfig, split: str, columns: Asked) -> Origin:
    """Split ``split`` of an embedded sample."""
    from bertft.samples import load_sample

    if not config.sample:
        raise UsageError("data.source=sample needs a name", where="data.sample")
    source = f"sample {config.sample}/{split}"
    content = load_sample(config.sample, split)
    names = list(content)
    places = find(columns, names, len(names), source)
    count = len(next(iter(content.values())))
    wanted = [[None] * count if place is None else content[names[place]] for place in places]

    def records(bad: BadRows) -> Iterator[Record]:
        bad.count_row(count)
        for line, fields in enumerate(zip(*wanted, strict=True), start=1):
            yield line, list(fields)

    return Origin(source, records)
