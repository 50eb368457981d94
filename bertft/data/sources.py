"""``load``: the configured splits, read, checked, cut and sampled.

    read → labels made one of the classes → bad rows settled → validation cut → samples drawn

Everything random here is a function of data.seed alone, so that all runs of a sweep see the
same rows.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data import classes
from bertft.data.bad_rows import BadRows, Fault, settle
from bertft.data.checks import drop, table_of
from bertft.data.columns import Asked
from bertft.data.files import read_stream
from bertft.data.origin import Origin, open_file, open_sample
from bertft.data.row_form import RowForm
from bertft.data.rows import Rows
from bertft.data.split import cut, sample
from bertft.errors import DataError, UsageError

__all__ = ["SPLITS", "Splits", "load", "load_inputs"]

SPLITS = ("train", "validation", "test")


@dataclass
class Splits:
    """``labels`` are the class names in order, None where there are none.

    ``cut``: validation was cut from train. A test split whose labels are not public (all −1 or
    empty) has no ``label`` column. ``notes`` say what was found out about the rows.
    """

    train: Rows | None
    validation: Rows | None
    test: Rows | None
    labels: list[str] | None
    cut: bool
    notes: list[str] = field(default_factory=list)

    def items(self) -> list[tuple[str, Rows]]:
        """The splits that there are, by name."""
        pairs = [(name, getattr(self, name)) for name in SPLITS]
        return [(name, rows) for name, rows in pairs if rows is not None]


def load(config: DataConfig, need: Sequence[str] = SPLITS, form: RowForm | None = None) -> Splits:
    """The splits named in ``need``, as ``config`` describes them; those it has not are None.

    ``form`` is that of the task's rows (``bertft.tasks.row_form``); None: texts with a label.

    Classes are data.labels, else the source's own, else those of train (of the first split
    read where train is neither needed nor given). Raises DataError, UsageError, EnvironmentFailed.
    """
    form = form or RowForm(config)
    columns = form.asked()
    origins = {name: _open(config, name, columns, form) for name in _to_read(config, need, form)}
    first = next(iter(origins), None)
    if first is None:
        raise UsageError(
            f"there is no {' or '.join(need)} split", where="data", hint="Give its file"
        )
    parts = {name: _Part.read(origin, columns, form, name) for name, origin in origins.items()}
    names = _settle(form, parts, first)
    settle([part.bad for part in parts.values()], config.on_bad_row)
    for name, part in parts.items():
        form.check_enough(part.table, part.bad, training=name == "train")
    rows = {name: part.rows() for name, part in parts.items()}
    is_cut = "validation" in need and "validation" not in rows
    if is_cut:
        rows["train"], rows["validation"] = cut(
            rows["train"], config.validation_share, config.seed, form.stratified
        )
    sizes = {"train": config.max_train_rows, "validation": config.max_validation_rows}
    kept = {
        name: sample(rows[name], sizes.get(name), config.seed)
        if name in rows and name in need
        else None
        for name in SPLITS
    }
    return Splits(**kept, labels=names, cut=is_cut, notes=form.notes)


def load_inputs(name: str, config: DataConfig, form: RowForm | None = None) -> Rows:
    """Rows to predict: a file, or ``-`` for JSON lines on stdin. Labels are not looked at."""
    form = form or RowForm(config)
    columns = form.asked(labelled=False)
    if name == "-":
        origin = Origin("stdin", lambda bad: read_stream(sys.stdin.buffer, columns, config, bad))
    else:
        origin = open_file(name, "input", lambda path, bad: form.read(path, columns, bad))
    part = _Part.read(origin, columns, form, "input")
    settle([part.bad], config.on_bad_row)
    return part.rows()


@dataclass
class _Part:
    """One split on its way from records to ``Rows``."""

    name: str
    origin: Origin
    table: pa.Table
    bad: BadRows

    @classmethod
    def read(cls, origin: Origin, columns: Asked, form: RowForm, name: str) -> _Part:
        bad = BadRows(origin.source)
        table = table_of(
            origin.records(bad), form.fields(columns), lambda row: form.parse(row, columns), bad
        )
        part = cls(name, origin, table, bad)
        if part.labelled and table.num_rows:
            part._settle_missing()
        return part

    @property
    def labelled(self) -> bool:
        return "label" in self.table.column_names

    def _settle_missing(self) -> None:
        if not classes.unlabelled(self.table):
            fault = Fault("missing label", "no label")
            self.table = drop(self.table, [(classes.missing(self.table), fault)], self.bad)
        elif self.name == "test":
            self.table = self.table.drop_columns("label")
        else:
            raise DataError(
                "no row has a label", where=self.origin.source,
                hint="Is data.label the column you mean?",
            )  # fmt: skip

    def settle_labels(self, names: Sequence[str] | None) -> None:
        if names is not None and self.labelled:
            self.table, faulty = classes.renamed(self.table, names)
            self.table = drop(self.table, faulty, self.bad)

    def rows(self) -> Rows:
        return Rows(self.table, self.origin.source, Counter(self.bad.counts), self.origin.files)


def _settle(form: RowForm, parts: Mapping[str, _Part], first: str) -> list[str] | None:
    """Make every label one of the classes, and every row fit the others; the class names."""
    named = form.named or parts[first].origin.classes
    form.check(parts[first].table, named is not None, parts[first].bad)
    for part in parts.values():
        part.settle_labels(named)
    form.learn(parts[first].table)
    for part in parts.values():
        part.table = form.settle(part.table, part.bad)
    names = form.classes(parts[first].table, named) if form.has_classes else None
    if named is None:
        for part in parts.values():
            part.settle_labels(names)
    return names


def _to_read(config: DataConfig, need: Sequence[str], form: RowForm) -> list[str]:
    """Splits to read, train first: validation may be cut from it, and classes are found in it."""
    given = {name for name in SPLITS if config.source == "sample" or getattr(config, name)}
    if config.source == "hub":
        given.add("train")
    wanted = set(need) & given
    if "validation" in need and "validation" not in given:
        wanted.add("train")
    if config.labels is None and form.has_classes and "train" in given:
        wanted.add("train")
    if "train" in wanted and "train" not in given:
        raise UsageError(
            "there is no training file", where="data.train", hint="Give data.train=<file>"
        )
    return [name for name in SPLITS if name in wanted]


def _open(config: DataConfig, name: str, columns: Asked, form: RowForm) -> Origin:
    if config.source == "sample":
        return open_sample(config, name, columns)
    if config.source == "hub":
        from bertft.data.hub import open_hub

        return open_hub(config, getattr(config, name) or name, columns)
    return open_file(
        getattr(config, name), f"data.{name}", lambda path, bad: form.read(path, columns, bad)
    )
