"""Where the rows of one split come from, before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bertft.config.data import DataConfig
from bertft.data.bad_rows import BadRows
from bertft.data.columns import Asked, find
from bertft.data.separated import Record
from bertft.data.text_files import existing
from bertft.errors import UsageError

__all__ = ["Origin", "open_file", "open_sample"]


@dataclass(frozen=True)
class Origin:
    """``records`` reads; what does not parse goes to the BadRows it is given.

    ``classes`` are the class names where the source itself has them.
    """

    source: str
    records: Callable[[BadRows], Iterator[Record]]
    classes: list[str] | None = None
    files: tuple[str, ...] = ()


def open_file(name: str, setting: str, read: Callable[[Path, BadRows], Iterator[Record]]) -> Origin:
    """The file ``name``, which ``setting`` gave; ``read`` gives its records."""
    path = existing(name, setting)
    return Origin(
        name,
        lambda bad: read(path, bad),
        files=(str(path.resolve()),),
    )


def open_sample(config: DataConfig, split: str, columns: Asked) -> Origin:
    """Split ``split`` of an embedded sample."""
    from bertft.samples import generate

    if not config.sample:
        raise UsageError("data.source=sample needs a name", where="data.sample")
    source = f"sample {config.sample}/{split}"
    content = generate(config.sample, split)
    names = list(content)
    places = find(columns, names, len(names), source)
    wanted = [content[names[place]] for place in places]

    def records(_: BadRows) -> Iterator[Record]:
        for line, fields in enumerate(zip(*wanted, strict=True), start=1):
            yield line, list(fields)

    return Origin(source, records)
