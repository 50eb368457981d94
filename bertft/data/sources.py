"""``load``: the configured splits, read, checked, cut and sampled.

    read → made to fit each other → labels made one of the classes → bad rows settled
         → validation cut → samples drawn

Everything random here is a function of data.seed alone, so that all runs of a sweep see the
same rows.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.choices import SPLITS
from bertft.config.data import DataConfig
from bertft.data import classes
from bertft.data.bad_rows import BadRows, Fault, settle
from bertft.data.checks import check_enough, drop
from bertft.data.columns import ColumnNotFound
from bertft.data.files import is_file_name, is_separated, read_stream
from bertft.data.forms import RowForm, form_of
from bertft.data.header import check_header
from bertft.data.origin import Origin, open_file, open_sample
from bertft.data.read_once import read
from bertft.data.rows import Rows
from bertft.data.split import cut, sample
from bertft.errors import DataError, UsageError

__all__ = ["Splits", "load", "load_inputs", "load_sample"]

_WITHOUT_LABELS = {
    "validation": "Rows without labels score nothing: without data.validation a part of train is"
    " held out",
    "test": "Rows without labels score nothing: leave out data.test and answer them with bertft"
    " predict",
}
_SCORED = {"train": "validation"}


@dataclass
class Splits:
    """``labels`` are the class names in order, None where ``form`` knows no classes.

    ``cut``: validation was cut from train. ``unlabelled`` are rows to learn from a teacher alone;
    ``load`` leaves them to those who have one. A test split whose labels are not public (all −1 or
    empty) has no ``label`` column.
    """

    train: Rows | None
    validation: Rows | None
    test: Rows | None
    labels: list[str] | None
    cut: bool
    form: RowForm
    unlabelled: Rows | None = None

    def items(self) -> list[tuple[str, Rows]]:
        """The splits that there are, by name."""
        pairs = [(name, getattr(self, name)) for name in (*SPLITS, "unlabelled")]
        return [(name, rows) for name, rows in pairs if rows is not None]


def load(
    config: DataConfig,
    need: Sequence[str] = SPLITS,
    model_classes: list[str] | None = None,
    learn: bool = True,
    cached_only: bool = False,
) -> Splits:
    """The splits named in ``need``, as ``config`` describes them; those it has not are None.

    ``learn`` False: train is read as validation is, to be scored and not learned from.
    ``cached_only``: nothing is fetched; a data set of the Hub must be in the local cache.

    Classes are ``model_classes`` (those of a model to be scored), else data.labels, else the
    source's own, else those of train (of the first split read where train is neither needed nor
    given). Raises DataError, UsageError, EnvironmentFailed.
    """
    form = form_of(config)
    form.model_classes = model_classes
    origins = {
        name: _open(config, name, form, cached_only) for name in _to_read(config, need, form)
    }
    first = next(iter(origins), None)
    if first is None:
        raise UsageError(
            f"there is no {' or '.join(need)} split", where="data", hint="Give its file"
        )
    parts = {
        name: _Part.read(origin, form, name if learn else _SCORED.get(name, name), config)
        for name, origin in origins.items()
    }
    own = origins[first].classes
    named = config.labels if isinstance(config.labels, (list, tuple, dict)) else ()
    given = [str(label) for label in (*named, *(own or ()), *(model_classes or ()))]
    for name, part in parts.items():
        others = parts["train"].labels() if name != "train" and "train" in parts else []
        part.settle_missing([*given, *others])
    form.judge(parts[first].table, own, parts[first].bad)
    for part in parts.values():
        part.table = form.settle(part.table, own, part.bad)
    names = form.class_names(parts[first].table, own)
    for part in parts.values():
        part.settle_labels(names, config.labels)
    settle([part.bad for part in parts.values()], config.on_bad_row, config.max_skipped)
    for name, part in parts.items():
        check_enough(form, part.table, part.bad, training=learn and name == "train")
    rows = {name: part.rows() for name, part in parts.items()}
    is_cut = "validation" in need and "validation" not in rows
    if is_cut:
        rows["train"], rows["validation"] = cut(
            rows["train"], config.validation_fraction, config.seed, form.stratified(), form.together
        )
    sizes = {"train": config.max_train_rows, "validation": config.max_validation_rows}
    kept = {
        name: sample(rows[name], sizes.get(name), config.seed, f"data.max_{name}_rows")
        if name in rows and name in need
        else None
        for name in SPLITS
    }
    return Splits(**kept, labels=names, cut=is_cut, form=form)


def load_inputs(name: str, config: DataConfig, setting: str = "input") -> Rows:
    """Rows to predict: a file, or ``-`` for JSON lines on stdin. Labels are not looked at."""
    form = form_of(config, labelled=False)
    if name == "-":
        columns = form.columns
        origin = Origin("stdin", lambda bad: read_stream(sys.stdin.buffer, columns, config, bad))
    else:
        origin = open_file(config, name, setting, form)
    part = _Part.read(origin, form, setting, config, keep=setting != "input")
    # What is predicted gets an answer, if only what is wrong with the row: no share is too large.
    settle([part.bad], config.on_bad_row, None if setting == "input" else config.max_skipped)
    return part.rows()


def load_sample(config: DataConfig, split: str) -> Rows:
    """Rows of ``split`` of the embedded sample that ``config`` names, without their labels."""
    form = form_of(config, labelled=False)
    return _Part.read(open_sample(config, split, form.columns), form, split, config).rows()


@dataclass
class _Part:
    """One split on its way from records to ``Rows``."""

    name: str
    origin: Origin
    form: RowForm
    table: pa.Table
    bad: BadRows

    @classmethod
    def read(
        cls, origin: Origin, form: RowForm, name: str, config: DataConfig, keep: bool = True
    ) -> _Part:
        try:
            part = cls(name, origin, form, *read(origin, form, name, config, keep))
            if origin.path is not None and is_separated(origin.path, form, config):
                check_header(part.table, part.bad, form, config)
            return part
        except ColumnNotFound as error:
            if not error.labels_alone or name not in _WITHOUT_LABELS:
                raise
            hint = f"Name it with data.label=<column>. {_WITHOUT_LABELS[name]}"
            raise DataError(error.what, where=error.where, hint=hint) from error

    def labels(self) -> list[str | float]:
        """The labels that occur, of a task with one label per row."""
        if "label" not in self.table.column_names:
            return []
        values = self.table.column("label")
        if pa.types.is_list(values.type):
            return []
        found: list[str | float] = pc.unique(values.drop_null()).to_pylist()
        return found

    def settle_missing(self, known: Collection[str | float]) -> None:
        """Rows without a label are bad ones, but for a test split in which no row has one.

        ``known``: the labels of other splits and of the configuration.
        """
        if "label" not in self.table.column_names or not self.table.num_rows:
            return
        if not classes.unlabelled(self.table, known):
            fault = Fault("missing label", "no label")
            self.table = drop(self.table, [(classes.missing(self.table), fault)], self.bad)
        elif self.name == "test":
            minus = "−1, as in public test sets" if self.labels() else "empty"
            self.bad.notes.append(f"all labels are {minus}: the split is taken as unlabelled")
            self.table = self.table.drop_columns(list(self.form.gold))
        else:
            raise DataError("no row has a label", where=self.origin.source, hint=self.form.advice)

    def settle_labels(self, names: Sequence[str] | None, labels: Any) -> None:
        if names is not None and "label" in self.table.column_names:
            self.table, faulty = classes.renamed(
                self.table, names, labels, source=self.origin.source,
                training=self.name == "train", applied=self.form.mapping,
            )  # fmt: skip
            self.table = drop(self.table, faulty, self.bad)

    def rows(self) -> Rows:
        origin, bad = self.origin, self.bad
        bad.check_conserved(self.table.num_rows)
        return Rows(
            self.table, origin.source, Counter(bad.counts), origin.files, origin.unit,
            read=bad.read, blank=bad.blank, dropped=bad.dropped, first=bad.first, every=bad.every,
            ids=bad.ids,
            notes=tuple(bad.notes), other_lines=bad.other_lines,
        )  # fmt: skip


def _to_read(config: DataConfig, need: Sequence[str], form: RowForm) -> list[str]:
    """Splits to read, train first: validation may be cut from it, and classes are found in it."""
    given = _given(config, form)
    wanted = set(need) & given
    if "validation" in need and "validation" not in given:
        wanted.add("train")
    if config.source == "hub" and "train" in need:  # of files, the configuration's rules say it
        wanted.add("train")
    known = config.labels is not None or form.model_classes is not None
    if not known and form.classes and "train" in given:
        wanted.add("train")
    if "train" in wanted and "train" not in given:
        raise UsageError(
            "there is no training file", where="data.train", hint="Set data.train=<file>"
        )
    return [name for name in SPLITS if name in wanted]


def _given(config: DataConfig, form: RowForm) -> set[str]:
    """The splits that there are. Next to a file of the user's own, none of the Hub's is fetched:
    rows of two sources would be trained on and scored as one data set."""
    if config.source == "sample":
        return set(SPLITS)
    given = {name for name in SPLITS if getattr(config, name)}
    if config.source != "hub":
        return given
    own = {name for name in given if is_file_name(getattr(config, name), form)}
    return own or given | {"train"}


def _open(config: DataConfig, name: str, form: RowForm, cached_only: bool) -> Origin:
    if config.source == "sample":
        return open_sample(config, name, form.columns)
    given = getattr(config, name)
    if config.source == "hub" and not (given and is_file_name(given, form)):
        from bertft.data.hub import open_hub

        return open_hub(config, given or name, form.columns, cached_only)
    return open_file(config, given, f"data.{name}", form)
