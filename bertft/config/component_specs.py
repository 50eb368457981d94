"""Descriptions of components: what a method, task, reader, metric or optimizer is made of.

An entry point of another package names one of these objects; see ``bertft.config.registry``. Fields
of the form ``"module:attribute"`` are imported when they are first used.
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

# What the label of a usual row is: the name of one class, names of several, or a number.
LABEL_KINDS = ("class", "classes", "number")
# Settings that stand directly under ``method``: no method component has one of these names.
RESERVED_METHOD_SETTINGS = frozenset(
    {"name", "rank", "initial_rank", "head_learning_rate", "epochs", "warmup"}
)


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A component of a method; its settings are the node ``method.<name>``.

    settings: a dataclass whose fields are ``bertft.config.setting.setting(...)``.
    build: ``"module:function"``, (settings, method, rate) →
    ``bertft.methods.component.MethodComponent``, where
        ``rate`` is trainer.learning_rate (None: the component's own). The Part attaches, says what
        trains, keeps state, folds, exports and reports.
    rules: ``"module:RULES"``, a tuple of functions (get) → Problems: settings that contradict each
        other. ``get("method.<name>.x")`` is a value, None below a null node.
    peft_types: ``peft_type`` of an adapter in peft's format → ``"module:function"``, (settings,
        tensors) → Part that attaches the adapter; export checks what it wrote by reading it back.
    """

    settings: type
    build: str
    rules: str | None = None
    peft_types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What ``data.task`` can be.

    task: ``"module:class"``, a ``bertft.tasks.task.BaseTask``: encoding, loss, metrics, answers.
    rows: ``"module:class"``, a ``bertft.data.schema.RowSchema``: the columns of a row.
    label: one of LABELS, for ``rows`` that are texts with a label; None where ``rows`` decide.
    named_classes: whether data.labels can name its classes.
    class_probabilities: whether the answers are probabilities of classes, so that loss.*,
        calibrate and tune_threshold are supported.
    settings: the settings of ``data`` that it reads and that not every task does.
    problem_type: transformers' word for its head, of a task that classifies or scores sequences.
    sample: the embedded sample, and its text columns, whose rows check a merge or an export where
        no rows of the run are at hand.
    code: ``"module:function"``, (folder, form, labels, max_length) → Python lines that answer one
        text, for the model card; None: the usual ones.
    """

    task: str
    rows: str = "bertft.tasks.shared.text_schema:TextRowSchema"
    label: str | None = "class"
    supports_class_names: bool = True
    class_probabilities: bool = False
    settings: tuple[str, ...] = ()
    problem_type: str | None = None
    sample: tuple[str, Any] = ("pair", ("text", "text_pair"))
    code: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReaderSpec:
    """A file format of rows.

    endings: the file name extensions that it reads, as in ``(".csv",)``.
    read: ``"module:function"``, (path, columns, config, bad) → (line, requested values) per row;
        rows that do not parse go to ``bad``, and every row is counted with ``bad.count_row()``.
    text: whether files are text in data.encoding, which their first bytes must confirm.
    separated: whether its rows are columns with a separator between them.
    refuses_json_lines: whether a file that holds JSON Lines is refused, as renamed by mistake.
    labelled: whether its rows can have a label.
    """

    extensions: tuple[str, ...]
    read: str
    text: bool = True
    has_separator: bool = False
    rejects_json_lines: bool = False
    supports_labels: bool = True


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A number that says how good answers are, and can choose the best checkpoint.

    higher_is_better: its direction.
    compute: ``"module:function"``, (task, logits, features) → float, for every task in ``tasks``;
        None: the tasks that have it compute it themselves.
    """

    higher_is_better: bool = True
    tasks: tuple[str, ...] = ()
    compute: str | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """What ``trainer.optimizer`` can be.

    build: ``"module:function"``, (parameter groups, trainer, settings) → torch.optim.Optimizer.
        Each group has ``params``, ``lr`` and ``weight_decay`` as torch has them; other keys are
        kept as they are.
    settings: a dataclass of ``trainer.optimizer_settings``; None: it has none.
    trainer_settings: those of weight_decay, beta1, beta2, epsilon of ``trainer`` that it reads.
    state: the names of the tensors that it keeps per parameter, where they are known: a checkpoint
        that lacks one is refused.
    """

    build: str
    settings: type | None = None
    trainer_settings: tuple[str, ...] = ("weight_decay",)
    state_tensors: tuple[str, ...] = ()
