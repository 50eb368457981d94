"""Settings that are right one by one and make no sense together.

A rule takes ``get`` (path → value, None below a null node) and yields a ``Problem`` for each
nonsense it finds. ``RULES`` names the rules of each command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bertft.config.messages import Problem
from bertft.config.schema import Leaf, locate, tree

__all__ = ["RULES", "Get"]

Get = Callable[[str], Any]

_SVD_ONLY = ("adapt", "begin", "end", "interval", "beta1", "beta2", "orthogonality", "l1")
_LORA_ONLY = ("rank_stabilised", "magnitude")
_STARTS = {"lora": ("zero_b", "principal"), "svd_lora": ("orthonormal", "gaussian")}


def _rank(get: Get) -> Iterator[Problem]:
    rank, initial = get("method.rank"), get("method.initial_rank")
    kind = get("method.low_rank.kind")
    if kind is None:
        for name, value in (("rank", rank), ("initial_rank", initial)):
            if value is not None:
                yield Problem(
                    f"method.{name}", f"means nothing for method={get('method.name')}, which has"
                    " no low-rank part", "Leave it out, or choose method=lora or method=svd_lora",
                )  # fmt: skip
    elif rank is None:
        yield Problem("method.rank", "is missing: a low-rank part needs it", "Try method.rank=8")
    elif initial is not None and kind == "lora":
        yield Problem(
            "method.initial_rank", "means nothing for lora, whose rank stays",
            "Leave it out, or choose method=svd_lora",
        )  # fmt: skip
    elif initial is not None and initial < rank:
        yield Problem(
            "method.initial_rank", f"{initial} is below method.rank={rank}, the average in the end",
            "Start with at least as many as shall be left",
        )  # fmt: skip


def _low_rank(get: Get) -> Iterator[Problem]:
    kind = get("method.low_rank.kind")
    if kind is None:
        return
    other, foreign = ("svd_lora", _SVD_ONLY) if kind == "lora" else ("lora", _LORA_ONLY)
    for name in foreign:
        path = f"method.low_rank.{name}"
        if get(path) != _default(path):
            yield Problem(
                path, f"means nothing for kind={kind}", f"Leave it out, or take kind={other}"
            )
    start = get("method.low_rank.start")
    if start is not None and start not in _STARTS[kind]:
        fitting = " or ".join(_STARTS[kind])
        yield Problem(
            "method.low_rank.start", f"{start!r} does not fit kind={kind}", f"Take {fitting}"
        )
    begin, end = get("method.low_rank.begin"), get("method.low_rank.end")
    if kind == "svd_lora" and begin + end >= 1:
        yield Problem(
            "method.low_rank.begin", f"begin={begin:g} and end={end:g} leave no step to prune in",
            "Their sum must be below 1",
        )  # fmt: skip


def _targets(get: Get) -> Iterator[Problem]:
    targets = get("method.low_rank.targets")
    if get("method.low_rank.kind") is None:
        return
    names = targets if isinstance(targets, list) else [targets]
    if not names or not all(isinstance(name, str) and name for name in names):
        yield Problem(
            "method.low_rank.targets", f"{targets!r} names no layers",
            "Give a name or a list, as in [query,value]",
        )  # fmt: skip
    elif any("," in name for name in names):
        yield Problem(
            "method.low_rank.targets", f"{targets!r} is one name with a comma in it",
            "Write a list, as in [query,value]",
        )  # fmt: skip


def _base(get: Get) -> Iterator[Problem]:
    train, last_k = get("method.base.train"), get("method.base.last_k")
    if train == "last_k" and last_k is None:
        yield Problem(
            "method.base.last_k", "is missing: train=last_k needs it", "Try method.base.last_k=2"
        )
    if train not in (None, "last_k") and last_k is not None:
        yield Problem(
            "method.base.last_k", f"means nothing for train={train}",
            "Leave it out, or take method=last_k",
        )  # fmt: skip


def _prefix(get: Get) -> Iterator[Problem]:
    path = "method.prefix.mlp_hidden"
    if get("method.prefix.mlp") is False and get(path) != _default(path):
        yield Problem(path, "means nothing without the MLP", "Add method.prefix.mlp=true")


def _steps(get: Get) -> Iterator[Problem]:
    if get("trainer.epochs") is not None and get("trainer.steps") is not None:
        yield Problem(
            "trainer.steps", "and trainer.epochs both say when to end", "Give one of them"
        )
    micro, batch = get("trainer.micro_batch"), get("trainer.batch_size")
    if micro is not None and micro > batch:
        yield Problem(
            "trainer.micro_batch", f"{micro} is above trainer.batch_size={batch}",
            "A batch is made of micro-batches: give fewer rows",
        )  # fmt: skip


def _trainer_device(get: Get) -> Iterator[Problem]:
    yield from _device("trainer.device", get("trainer.device"))
    yield from _half("trainer.precision", get("trainer.precision"), get("trainer.device"))


def _own_device(get: Get) -> Iterator[Problem]:
    yield from _device("device", get("device"))


def _own_precision(get: Get) -> Iterator[Problem]:
    yield from _half("precision", get("precision"), get("device"))


def _device(where: str, device: str) -> Iterator[Problem]:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        yield Problem(where, f"{device!r} is no device", "It can be auto, cpu, cuda, cuda:1, mps")


def _half(where: str, precision: str | None, device: str) -> Iterator[Problem]:
    if precision == "fp16" and device == "cpu":
        yield Problem(where, "fp16 does not run on the CPU", "Take bf16, fp32 or auto")


def _model(get: Get) -> Iterator[Problem]:
    architecture, weights = get("model.architecture"), get("model.weights")
    if architecture is not None and not isinstance(architecture, dict):
        yield Problem(
            "model.architecture", f"{architecture!r} is no group of settings",
            "As in model.architecture.hidden_size=64",
        )  # fmt: skip
        return
    if weights == "pretrained":
        if architecture:
            yield Problem(
                "model.architecture", "cannot change a pretrained model",
                "Add model.weights=random, or leave it out",
            )  # fmt: skip
        if get("model.path") is None:
            yield Problem(
                "model.path", "is missing: pretrained weights need it",
                "Give a folder or a Hub id, or choose a preset with model=",
            )  # fmt: skip
    elif get("model.path") is None:
        if not (architecture or {}).get("model_type"):
            yield Problem(
                "model.architecture.model_type", "is missing: without model.path it says what to build",
                "Try model=tiny",
            )  # fmt: skip
        if get("model.tokenizer") is None:
            yield Problem(
                "model.tokenizer", "is missing: without model.path there is none",
                "Give a folder or a Hub id",
            )  # fmt: skip


_FILES = ("train", "validation", "test")
_NEEDED = {"hub": "a Hub id", "sample": "the name of an embedded sample"}


def _source(get: Get) -> Iterator[Problem]:
    source = get("data.source")
    if source in _NEEDED and get(f"data.{source}") is None:
        yield Problem(
            f"data.{source}", f"is missing: source={source} needs it", f"Give {_NEEDED[source]}"
        )
    elsewhere = [name for name in ("hub", "subset", "sample") if get(f"data.{name}") is not None]
    for name in elsewhere:
        if source not in (None, name) and not (name == "subset" and source == "hub"):
            yield Problem(
                f"data.{name}", f"is not read with source={source}",
                f"Leave it out, or choose data={get('data.name')} without changing its source",
            )  # fmt: skip
    if source == "sample":
        for name in _FILES:
            if get(f"data.{name}") is not None:
                yield Problem(
                    f"data.{name}", "is not read: the rows are those of the embedded sample",
                    "Add data=files",
                )  # fmt: skip


def _training_file(get: Get) -> Iterator[Problem]:
    if get("data.source") == "files" and get("data.train") is None and not _goes_on(get):
        yield Problem("data.train", "is missing: what shall be learnt?", "Give a file")


def _columns(get: Get) -> Iterator[Problem]:
    task = get("data.task")
    if task is None:
        return
    text, label, labels = get("data.text"), get("data.label"), get("data.labels")
    yield from _text_columns("data.text", text)
    if isinstance(label, list):
        if task != "multi_label":
            yield Problem(
                "data.label", f"a list of columns is for task=multi_label, not {task}",
                "Give one column",
            )  # fmt: skip
        elif not label or not all(_is_column(each) for each in label):
            yield Problem("data.label", f"{label!r} names no columns", "As in [sports,politics]")
    elif not _is_column(label):
        yield Problem("data.label", f"{label!r} is no column", "Give a name, or a position from 0")
    if labels is None:
        return
    if task == "regression":
        yield Problem("data.labels", "means nothing for regression, which has no classes")
    elif not isinstance(labels, list):
        yield Problem("data.labels", f"{labels!r} is no list", "As in [negative,positive]")
    elif len({str(each) for each in labels}) < len(labels):
        yield Problem("data.labels", f"a name stands twice in {labels}", "Name each class once")


def _text_of_predict(get: Get) -> Iterator[Problem]:
    if get("text") is not None:
        yield from _text_columns("text", get("text"))


def _text_columns(where: str, text: Any) -> Iterator[Problem]:
    columns = text if isinstance(text, list) else [text]
    if not 1 <= len(columns) <= 2 or not all(_is_column(column) for column in columns):
        yield Problem(
            where, f"{text!r} is no column and no pair of columns",
            "Give a name, a position from 0, or two of them: [question,sentence]",
        )  # fmt: skip


def _is_column(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) and value >= 0 or isinstance(value, str) and bool(value)


def _checkpoint(get: Get) -> Iterator[Problem]:
    if not re.fullmatch(r"best|last|\d+", get("checkpoint")):
        yield Problem(
            "checkpoint", f"{get('checkpoint')!r} is none", "It can be best, last or a step number"
        )


def _resume(get: Get) -> Iterator[Problem]:
    run = get("resume")
    if run not in (None, "auto") and not Path(run).is_dir():
        yield Problem("resume", f"there is no folder {run}", "Give a run folder, or auto")


def _goes_on(get: Get) -> bool:
    """Whether the run's own configuration will be taken instead of this one."""
    return get("resume") not in (None, "auto")


def _default(path: str) -> Any:
    entry, _ = locate(tree("train"), path)
    assert isinstance(entry, Leaf)
    return entry.default


RULES: dict[str, tuple[Callable[[Get], Iterator[Problem]], ...]] = {
    "train": (
        _rank, _low_rank, _targets, _base, _prefix, _steps, _trainer_device, _model, _source,
        _training_file, _columns, _resume,
    ),
    "eval": (_source, _columns, _checkpoint, _own_device, _own_precision),
    "merge": (_checkpoint, _own_device),
    "predict": (_text_of_predict, _checkpoint, _own_device, _own_precision),
}  # fmt: skip
