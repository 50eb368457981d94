"""What the leaderboard compares: tasks, budgets, methods, and the rates that are tried for each.

A budget is a number of trained parameters without the task head. A method whose size depends on a
rank (or on a prefix length) takes the size that is closest to the budget. A method without such a
size has one row, the same under every budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "BUDGETS",
    "METHODS",
    "RATE_FACTORS",
    "RATE_LIMITS",
    "TASKS",
    "Method",
    "Run",
    "RunKey",
    "Task",
]

BUDGETS = {"0.37 %": 82_944, "1.1 %": 248_832}
"""Parameters of LoRA with rank 2 and 6 on all linear layers, relative to the 22.7 M of MiniLM."""

RATE_FACTORS = (0.5, 1.0, 2.0)
"""Times the default learning rate of the method: the first trials. While the lowest or the highest
one that was tried is the best, its half or its double is tried too, within ``RATE_LIMITS``."""

RATE_LIMITS = (1 / 16, 16.0)

_QUERY_VALUE, _ALL = 9_216, 41_472  # parameters per rank in MiniLM, 6 layers of width 384
_ALL_LINEAR = "method.low_rank.targets=[all_linear]"


class RunKey(NamedTuple):
    task: str
    method: str
    budget: str
    rate_factor: float
    seed: int
    tuning: bool


@dataclass(frozen=True)
class Task:
    """``metric`` of the validation rows; ``settings``: the data group, below the folder of data."""

    name: str
    metric: str
    settings: tuple[str, ...]
    train: str
    validation: str

    def data(self, folder: Path, tuning: bool) -> list[str]:
        """Settings of the rows; ``tuning`` holds out a fifth of train instead of the dev rows."""
        files = [f"data.train={folder / self.train}"]
        if tuning:
            files.append("data.validation_fraction=0.2")
        else:
            files.append(f"data.validation={folder / self.validation}")
        return ["data=files", f"data.metric={self.metric}", *self.settings, *files]


TASKS = {
    task.name: task
    for task in (
        Task("sst2", "accuracy", ("data.text=sentence", "data.max_train_rows=8000"),
             "sst2/train.tsv", "sst2/dev.tsv"),
        Task("stsb", "pearson",
             ("data.task=regression", "data.header=false", "data.text=[0,1]", "data.label=2"),
             "stsb/train.csv", "stsb/dev.csv"),
        Task("wnut17", "f1", ("data.task=token_classification",),
             "wnut17/wnut17train.conll", "wnut17/emerging.dev.conll"),
        Task("squad_v2", "f1", ("data.task=question_answering", "trainer.batch_size=8"),
             "squad_v2/train.json", "squad_v2/dev.json"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A row of the leaderboard.

    Attributes:
        settings: Words of ``bertft train``.
        rate: The setting of the learning rate that is tuned.
        default_rate: Its default.
        size: The setting that determines the number of parameters; None: the number is fixed.
        per_unit: Parameters of MiniLM per unit of ``size``.
    """

    name: str
    settings: tuple[str, ...]
    rate: str
    default_rate: float
    size: str | None = None
    per_unit: int = 1

    def at(self, budget: int) -> list[str]:
        """The settings with the size that is closest to ``budget``."""
        if self.size is None:
            return list(self.settings)
        return [*self.settings, f"{self.size}={max(1, round(budget / self.per_unit))}"]


def _low_rank(name: str, method: str, *settings: str, everywhere: bool, rate: float) -> Method:
    targets = (_ALL_LINEAR,) if everywhere else ()
    return Method(
        f"{name}, {'all linear' if everywhere else 'query and value'}",
        (f"method={method}", *targets, *settings),
        "method.low_rank.learning_rate", rate, "method.rank", _ALL if everywhere else _QUERY_VALUE,
    )  # fmt: skip


def _peft(kind: str, everywhere: bool) -> Method:
    targets = ("method.peft_layers.targets=all_linear",) if everywhere else ()
    return Method(
        f"peft {kind}, {'all linear' if everywhere else 'query and value'}",
        (f"method=peft_{kind}", *targets),
        "method.peft_layers.learning_rate", 2e-3, "method.peft_layers.rank",
        _ALL if everywhere else _QUERY_VALUE,
    )  # fmt: skip


# The scale alpha / r of entries that were measured before the preset had alpha / √r.
_SCALE_BY_RANK = ("method.low_rank.alpha=16", "method.low_rank.use_rslora=false")

METHODS = {
    method.name: method
    for method in (
        _low_rank("svd_lora", "svd_lora", everywhere=True, rate=4e-3),
        _low_rank("lora", "lora", everywhere=True, rate=1e-3),
        _low_rank("lora", "lora", everywhere=False, rate=2e-3),
        _peft("adalora", True),
        _peft("lora", True),
        _low_rank("svd_lora", "svd_lora", everywhere=False, rate=8e-3),
        _peft("lora", False),
        _low_rank("rslora", "lora", "method.low_rank.use_rslora=true", everywhere=True, rate=1e-3),
        _low_rank("dora", "lora", "method.low_rank.use_dora=true", everywhere=True, rate=1e-3),
        _low_rank("pissa", "lora", "method.low_rank.start=principal", everywhere=True, rate=5e-4),
        _low_rank("lora+", "lora", "method.low_rank.b_rate_ratio=4", everywhere=True, rate=5e-4),
        _peft("dora", True),
        _low_rank("lora, activations", "lora", "method.low_rank.start=activations",
                  everywhere=True, rate=1e-3),
        _low_rank("svd_lora, gradient", "svd_lora", "method.low_rank.start=gradient",
                  everywhere=True, rate=4e-3),
        _low_rank("svd_lora, gaussian", "svd_lora", "method.low_rank.start=gaussian",
                  *_SCALE_BY_RANK, everywhere=True, rate=4e-3),
        _low_rank("svd_lora, orthonormal", "svd_lora", "method.low_rank.start=orthonormal",
                  "method.low_rank.e_rate_ratio=20", *_SCALE_BY_RANK, everywhere=True, rate=2e-3),
        Method("prefix", ("method=prefix",), "method.prefix.learning_rate", 3e-2,
               "method.prefix.length", 4_608),
        Method("vera", ("method=vera",), "method.low_rank.learning_rate", 1e-2),
        Method("ia3", ("method=ia3",), "method.ia3.learning_rate", 1e-2),
        Method("bitfit", ("method=bitfit",), "method.base.learning_rate", 2e-3),
        Method("last_k", ("method=last_k",), "method.base.learning_rate", 1e-4),
        Method("head", ("method=head",), "method.head_learning_rate", 1e-3),
        Method("full", ("method=full",), "method.base.learning_rate", 1e-4),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        rate_factor: Times the default rate of the method.
        tuning: Whether it selects the rate: then a fifth of train is the validation set.
    """

    task: Task
    method: Method
    budget: str
    rate_factor: float
    seed: int
    tuning: bool

    @property
    def key(self) -> RunKey:
        """What identifies the run in the results."""
        # A method without a size is the same run under every budget.
        budget = self.budget if self.method.size else "any"
        return RunKey(
            self.task.name, self.method.name, budget, self.rate_factor, self.seed, self.tuning
        )

    def words(self, data: Path) -> list[str]:
        """The words of ``bertft train``, without the folder of the output."""
        return [
            *self.method.at(BUDGETS[self.budget]),
            f"{self.method.rate}={self.method.default_rate * self.rate_factor:g}",
            *self.task.data(data, self.tuning), f"seed={self.seed}",
        ]  # fmt: skip
