"""Descriptions of components: methods, tasks, readers, metrics and optimizers.

An entry point of another package names an object of one of these classes; see
``bertft.config.registry``. An object that a field names as ``"module:attribute"`` is imported when
it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "LABEL_KINDS",
    "RESERVED_METHOD_SETTINGS",
    "MethodSpec",
    "MetricSpec",
    "OptimizerSpec",
    "ReaderSpec",
    "TaskSpec",
]

# The label of a text row: the name of one class, the names of several, or a number.
LABEL_KINDS = ("class", "classes", "number")
# Settings directly under ``method``: no method component can have one of these names.
RESERVED_METHOD_SETTINGS = frozenset(
    {"name", "rank", "initial_rank", "head_learning_rate", "epochs", "warmup"}
)


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A component of a method; its settings are the group ``method.<name>``.

    Args:
        settings: a dataclass whose fields are ``bertft.config.setting.setting(...)``. The first
            line of its docstring is shown in ``bertft train --help all``.
        build: ``"module:function"``, (settings, method, learning_rate) →
            ``bertft.methods.component.MethodComponent``, where ``learning_rate`` is
            trainer.learning_rate (None: the component's own).
        rules: ``"module:RULES"``, a tuple of functions (get) → Problems that report settings which
            contradict each other. ``get("method.<name>.x")`` is a value, None below a null group.
        peft_types: ``peft_type`` of an adapter in peft's format → ``"module:function"``, (settings,
            tensors) → a MethodComponent that attaches the adapter. Export reads the adapter back
            with it.
        search: settings of the component → distribution, which ``bertft tune`` searches in addition
            to the setting learning_rate, as in ``{"dropout": "choice(0.0,0.1)"}``.
    """

    settings: type
    build: str
    rules: str | None = None
    peft_types: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A value of ``data.task``.

    Args:
        task_class: ``"module:class"``, a ``bertft.tasks.task.BaseTask``: encoding, losses, metrics
            and decoding.
        row_schema: ``"module:class"``, a ``bertft.data.schema.RowSchema``: the columns of a row.
        label: one of LABEL_KINDS for a schema of texts with a label; None if the schema decides.
        supports_class_names: whether data.labels can name the classes.
        class_probabilities: whether the predictions are probabilities of classes, so that loss.*,
            calibrate=temperature and tune_threshold are supported.
        prediction_sets: whether calibrate=conformal is supported (``BaseTask.conformal_fields``).
        settings: the settings of ``data`` that this task reads and some other tasks do not.
        problem_type: transformers' ``problem_type``, for a task that classifies or scores
            sequences.
        sample: the bundled data set and its text columns. A merge or an export is checked on its
            rows if there are no validation rows.
        score_predictions: ``"module:function"``, (predictions, rows, config) → (metrics, name of
            the main metric). It scores the texts in the file of ``eval predictions=<file>``, with
            None for a row without a prediction. None: predictions= is not supported.
        input_encoding: ``"module:attribute"``, a ``bertft.tasks.shared.encoding.InputEncoding``,
            with which ``bertft inspect`` shows rows as the model reads them. Its module must not
            import torch. None: the texts of a row, ``text`` and ``text_pair``, as one sequence.
        model_card_code: ``"module:function"``, (folder, form, labels, max_length) → Python code
            for the model card that predicts one text; None: the default code.
    """

    task_class: str
    row_schema: str = "bertft.tasks.shared.text_schema:TextRowSchema"
    label: str | None = "class"
    supports_class_names: bool = True
    class_probabilities: bool = False
    prediction_sets: bool = False
    settings: tuple[str, ...] = ()
    problem_type: str | None = None
    sample: tuple[str, Any] = ("pair", ("text", "text_pair"))
    score_predictions: str | None = None
    input_encoding: str | None = None
    model_card_code: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReaderSpec:
    """A file format of rows; its name is a value of ``data.format``.

    Args:
        extensions: the file extensions of the format, such as ``(".csv",)``.
        read: ``"module:function"``, (path, columns, config, bad) → (line, requested values) per
            row. Rows that cannot be parsed are added to ``bad``, and every row is counted with
            ``bad.count_row()``.
        read_blocks: ``"module:function"``, as ``read``, for large files: it may yield a
            ``bertft.data.column_blocks.ColumnBlock`` in place of the records of many rows. None:
            large files are read with ``read``.
        tasks: the tasks whose rows have this format; empty: all. For these tasks the format has
            precedence over one for all tasks with the same extension.
        matches: ``"module:function"``, (the first 65,536 characters of a file) → whether the file
            has this format. Formats with such a function can share an extension: the first one
            that matches is used. None: every file with the extension has this format.
        unit: what the numbers of rows count in messages, such as "question"; empty: lines.
        schema: ``"module:function"``, (path) → the pyarrow.Schema of a file with typed columns: the
            types of kept columns, and the class names in the metadata of ``datasets``. None: the
            columns have no types.
        text: whether files are text in data.encoding; the first bytes of a file are checked.
        has_separator: whether the columns of a row are separated by data.separator.
        rejects_json_lines: whether a file with JSON Lines is an error, because it was probably
            renamed by mistake.
        supports_labels: whether the rows can have a label.
    """

    extensions: tuple[str, ...]
    read: str
    read_blocks: str | None = None
    tasks: tuple[str, ...] = ()
    matches: str | None = None
    unit: str = ""
    schema: str | None = None
    text: bool = True
    has_separator: bool = False
    rejects_json_lines: bool = False
    supports_labels: bool = True


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric, which can select the best checkpoint.

    Args:
        higher_is_better: whether a larger value is better.
        tasks: the tasks for which ``compute`` is called.
        compute: ``"module:function"``, (task, logits, features) → float; None: the tasks compute
            the metric themselves.
    """

    higher_is_better: bool = True
    tasks: tuple[str, ...] = ()
    compute: str | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """A value of ``trainer.optimizer``.

    Args:
        build: ``"module:function"``, (parameter groups, trainer, settings) →
            torch.optim.Optimizer. Each group has ``params``, ``lr`` and ``weight_decay`` as in
            torch, and further keys that the optimizer must keep.
        settings: the dataclass of ``trainer.optimizer_settings``; None if there are none.
        trainer_settings: the settings of ``trainer`` among weight_decay, beta1, beta2, epsilon
            that the optimizer reads.
        state_tensors: the names of its state tensors per parameter, if they are known. A checkpoint
            without one of them cannot be resumed.
    """

    build: str
    settings: type | None = None
    trainer_settings: tuple[str, ...] = ("weight_decay",)
    state_tensors: tuple[str, ...] = ()
