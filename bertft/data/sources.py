"""``load``: the configured splits, read, checked, cut and sampled.

    read → labels made one of the classes → bad rows settled → validation cut → samples drawn

Everything random here is a function of data.seed alone, so that all runs of a sweep see the
same rows.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from bertft.config.data import DataConfig
from bertft.data import classes
from bertft.data.bad_rows import BadRows, Fault, settle
from bertft.data.checks import check_enough, check_form, drop, table_of
from bertft.data.columns import Asked, asked
from bertft.data.files import read_stream
from bertft.data.labels import FORMS, Form, class_name, zero_or_one
from bertft.data.origin import Origin, open_file, open_sample
from bertft.data.rows import Rows
from bertft.data.split import cut, sample
from bertft.errors import DataError, UsageError

__all__ = ["SPLITS", "Splits", "load", "load_inputs"]

SPLITS = ("train", "validation", "test")


@dataclass
class Splits:
    """``labels`` are the class names in order, None for regression.

    ``cut``: validation was cut from train. ``unlabelled`` are rows to learn from a teacher alone;
    ``load`` leaves them to those who have one. A test split whose labels are not public (all −1 or
    empty) has no ``label`` column.
    """

    train: Rows | None
    validation: Rows | None
    test: Rows | None
    labels: list[str] | None
    cut: bool
    unlabelled: Rows | None = None

    def items(self) -> list[tuple[str, Rows]]:
        """The splits that there are, by name."""
        pairs = [(name, getattr(self, name)) for name in (*SPLITS, "unlabelled")]
        return [(name, rows) for name, rows in pairs if rows is not None]


def load(config: DataConfig, need: Sequence[str] = SPLITS) -> Splits:
    """The splits named in ``need``, as ``config`` describes them; those it has not are None.

    Classes are data.labels, else the source's own, else those of train (of the first split
    read where train is neither needed nor given). Raises DataError, UsageError, EnvironmentFailed.
    """
    columns, form = asked(config), _form(config)
    origins = {name: _open(config, name, columns) for name in _to_read(config, need)}
    first = next(iter(origins), None)
    if first is None:
        raise UsageError(
            f"there is no {' or '.join(need)} split", where="data", hint="Give its file"
        )
    parts = {
        name: _Part.read(origin, columns, form, config, name) for name, origin in origins.items()
    }
    named = config.labels is not None or origins[first].classes is not None or _by_column(config)
    check_form(config.task, parts[first].table, named, parts[first].bad)
    names = _names(config, parts[first])
    for part in parts.values():
        part.settle_labels(names)
    settle([part.bad for part in parts.values()], config.on_bad_row)
    for name, part in parts.items():
        check_enough(config.task, part.table, part.bad, training=name == "train")
    rows = {name: part.rows() for name, part in parts.items()}
    is_cut = "validation" in need and "validation" not in rows
    if is_cut:
        rows["train"], rows["validation"] = cut(
            rows["train"], config.validation_share, config.seed, config.task == "classification"
        )
    sizes = {"train": config.max_train_rows, "validation": config.max_validation_rows}
    kept = {
        name: sample(rows[name], sizes.get(name), config.seed)
        if name in rows and name in need
        else None
        for name in SPLITS
    }
    return Splits(**kept, labels=names, cut=is_cut)


def load_inputs(name: str, config: DataConfig, setting: str = "input") -> Rows:
    """Rows to predict: a file, or ``-`` for JSON lines on stdin. Labels are not looked at."""
    columns = asked(config, labelled=False)
    if name == "-":
        origin = Origin("stdin", lambda bad: read_stream(sys.stdin.buffer, columns, config, bad))
    else:
        origin = open_file(config, name, setting, columns)
    part = _Part.read(origin, columns, None, config, setting)
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
    def read(
        cls, origin: Origin, columns: Asked, form: Form | None, config: DataConfig, name: str
    ) -> _Part:
        bad = BadRows(origin.source)
        table = table_of(origin.records(bad), columns, form, config.label_separator, bad)
        part = cls(name, origin, table, bad)
        if form is not None and table.num_rows:
            part._settle_missing()
        return part

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
        if names is not None and "label" in self.table.column_names:
            self.table, faulty = classes.renamed(self.table, names)
            self.table = drop(self.table, faulty, self.bad)

    def rows(self) -> Rows:
        return Rows(self.table, self.origin.source, Counter(self.bad.counts), self.origin.files)


def _form(config: DataConfig) -> Form:
    form = FORMS[config.task]
    if not _by_column(config):
        return form
    names = _column_names(config)
    return dataclasses.replace(
        form,
        parse=lambda fields, _: [
            name for name, field in zip(names, fields, strict=True) if zero_or_one(field)
        ],
    )


def _by_column(config: DataConfig) -> bool:
    """Whether each class has a 0/1 column of its own."""
    return config.task == "multi_label" and not isinstance(config.label, (str, int))


def _column_names(config: DataConfig) -> list[str]:
    """Class names of a list of 0/1 columns: data.labels, else the columns themselves."""
    names = [str(name) for name in config.labels or config.label]
    if len(names) != len(config.label):
        raise UsageError(
            f"{len(names)} names for {len(config.label)} columns", where="data.labels",
            hint="Name each column of data.label once, in its order",
        )  # fmt: skip
    return names


def _names(config: DataConfig, first: _Part) -> list[str] | None:
    if config.task == "regression":
        return None
    if _by_column(config):
        return _column_names(config)
    if config.labels is not None:
        return [class_name(name) or "" for name in config.labels]
    if first.origin.classes is not None:
        return first.origin.classes
    return classes.found(first.table)


def _to_read(config: DataConfig, need: Sequence[str]) -> list[str]:
    """Splits to read, train first: validation may be cut from it, and classes are found in it."""
    given = {name for name in SPLITS if config.source == "sample" or getattr(config, name)}
    if config.source == "hub":
        given.add("train")
    wanted = set(need) & given
    if "validation" in need and "validation" not in given:
        wanted.add("train")
    if config.labels is None and config.task != "regression" and "train" in given:
        wanted.add("train")
    if "train" in wanted and "train" not in given:
        raise UsageError(
            "there is no training file", where="data.train", hint="Give data.train=<file>"
        )
    return [name for name in SPLITS if name in wanted]


def _open(config: DataConfig, name: str, columns: Asked) -> Origin:
    if config.source == "sample":
        return open_sample(config, name, columns)
    if config.source == "hub":
        from bertft.data.hub import open_hub

        return open_hub(config, getattr(config, name) or name, columns)
    return open_file(config, getattr(config, name), f"data.{name}", columns)
