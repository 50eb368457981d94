"""``README.md`` of a merged or exported folder: what it is, how good, how made, how to load.

    model_card(facts) -> str         YAML front matter as the Hub reads it, then Markdown

A pure function: the same facts give the same text. Of a path that leads through somebody's
machine only the last name is told; class names and texts of any script stay as they are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from bertft.formats.calibration import calibration_lines
from bertft.formats.figures import count, measure, score
from bertft.formats.groups import by_group
from bertft.formats.loading_code import loading_code
from bertft.formats.markdown import code, plain, table

__all__ = ["CardFacts", "MergeCheck", "SplitFacts", "model_card"]

# The Hub's word for what a head does.
_PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
}
# Our metrics by the names under which hf.co/metrics has them.
_METRICS = {
    "accuracy": "accuracy", "f1": "f1", "f1_macro": "f1", "f1_micro": "f1", "f1_samples": "f1",
    "matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr",
    "mse": "mse", "exact": "exact_match", "precision": "precision", "recall": "recall",
    "perplexity": "perplexity",
}  # fmt: skip
_COUNTS = {
    "total": "all, the base included",
    "trainable": "trained, head and other new modules included",
    "head": "of these, head and other new modules",
    "method": "of these, the method's own",
    "kept": "kept after pruning",
    "exported": "exported",
}
_SHOWN_LABELS = 50


@dataclass(frozen=True)
class SplitFacts:
    """Which rows: where they came from, how many, and the hash of their content."""

    source: str
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class MergeCheck:
    """The same ``rows`` before (adapter) and after (merged): metrics and the largest |Δlogit|.

    ``kind`` says what rows they are; those without labels have no metrics.
    """

    rows: int
    max_difference: float
    before: Mapping[str, float]
    after: Mapping[str, float]
    kind: str = "validation rows"


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells. ``base_model``: the Hub id; of a path only the last name is told.

    ``metric`` chose the checkpoint of ``step`` if there is a ``validation``; ``counts`` are
    metrics.json's "parameters". ``beside`` names the file or folder of a prefix that the model
    lies without. ``license`` is the base's identifier on the Hub where known. ``dataset`` is a
    Hub id. ``distillation``, ``calibration``: as in metrics.json. ``origin``: the folder that a
    model came from which is no run's, ``threshold`` the one that it keeps; then ``step`` is None,
    and there is neither a split nor a metric.
    """

    name: str
    task: str
    auto_class: str
    base_model: str
    method: str
    settings: Mapping[str, Any]
    splits: Mapping[str, SplitFacts]
    metric: str
    step: int | None
    validation: Mapping[str, float]
    counts: Mapping[str, int]
    versions: Mapping[str, str]
    form: str = "transformers"
    labels: Sequence[str] | None = None
    pair: bool = False
    max_length: int | None = None
    test: Mapping[str, float] | None = None
    merge: MergeCheck | None = None
    beside: str | None = None
    license: str | None = None
    language: Sequence[str] = field(default=())
    dataset: str | None = None
    distillation: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    threshold: float | Mapping[str, float] | None = None
    origin: str | None = None


def model_card(facts: CardFacts) -> str:
    """The whole file, a newline at its end."""
    sections = [
        _front_matter(facts),
        f"# {plain(_told(facts.name))}",
        _introduction(facts),
        _loading(facts),
        _results(facts),
        *([_data(facts)] if facts.splits else []),
        _method(facts),
        "## Versions\n\n" + plain(", ".join(f"{name} {v}" for name, v in facts.versions.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: CardFacts) -> str:
    metrics = [_METRICS[name] for name in _ordered(facts.validation, facts) if name in _METRICS]
    content: dict[str, Any] = {
        "license": facts.license,
        "language": list(facts.language),
        "library_name": facts.form,
        "pipeline_tag": _PIPELINES.get(facts.auto_class),
        "base_model": _told(facts.base_model),
        "base_model_relation": "adapter" if facts.form == "peft" else "finetune",
        "datasets": [facts.dataset] if facts.dataset else [],
        "metrics": list(dict.fromkeys(metrics)),
        "tags": ["bertft", *([facts.method] if facts.method else [])],
    }
    known = {name: value for name, value in content.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def _introduction(facts: CardFacts) -> str:
    what = facts.task.replace("_", " ")
    if facts.origin is None:
        method = facts.method.replace("_", " ")
        base = plain(_told(facts.base_model))
        lines = [f"{base}, fine-tuned for {what} by {plain(method)} with bertft."]
    else:
        on = f", a LoRA adapter of {plain(_told(facts.base_model))}" if facts.method else ""
        lines = [
            f"Made with bertft from {code(facts.origin)}{on}, for {what}. What it was trained on,"
            " and how well it answers, is not known here."
        ]
    if facts.form == "peft":
        lines.append("This folder holds an adapter in PEFT's format; the base is not in it.")
    elif facts.beside:
        lines.append("What can be folded into the base is folded; the prefix is not.")
    elif facts.form == "onnx":
        lines.append(
            "What was trained is in the graph, `model.onnx`, which takes any number of rows of any"
            " length; onnxruntime runs it, without torch."
        )
    else:
        lines.append("What was trained is in the weights: this is a plain transformers model.")
    if facts.labels:
        names = ", ".join(code(name) for name in facts.labels[:_SHOWN_LABELS])
        rest = len(facts.labels) - _SHOWN_LABELS
        lines.append(f"Classes, in order: {names}{f', and {rest} more' if rest > 0 else ''}.")
    if facts.pair:
        lines.append("It takes two texts.")
    if facts.max_length:
        lines.append(f"It was trained on at most {facts.max_length} tokens a row.")
    text = "\n".join(lines)
    if facts.beside:
        text += (
            f"\n\n> **A prefix lies beside this model, in {code(facts.beside)}.** It cannot be "
            "folded into weights, and plain transformers ignores it: what it answers is not what "
            "was measured below. `bertft predict` and `bertft eval` use it."
        )
    return text


def _loading(facts: CardFacts) -> str:
    name = _told(facts.name)
    lines = loading_code(
        name, form=facts.form, task=facts.task, auto_class=facts.auto_class,
        labels=facts.labels, pair=facts.pair, max_length=facts.max_length,
        threshold=_threshold(facts),
    )  # fmt: skip
    parts = ["## How to load", f"```python\n{lines}\n```"]
    if facts.form == "transformers":
        command = (
            f"bertft predict {shlex.quote(f'run={name}')} input=new.jsonl output=answers.jsonl"
        )
        parts.append(f"Or with bertft, many rows at once:\n\n```\n{command}\n```")
    if _threshold(facts) is not None and facts.form != "onnx":
        parts.append(
            "A plain transformers pipeline does not know the threshold: it gives the likelier"
            " class, or all labels with their scores. `bertft predict` and `bertft eval` use it."
        )
    return "\n\n".join(parts)


def _threshold(facts: CardFacts) -> float | Mapping[str, float] | None:
    return (facts.calibration or {}).get("threshold", facts.threshold)


def _results(facts: CardFacts) -> str:
    columns = {"validation": facts.validation, "test": facts.test}
    shown = {name: values for name, values in columns.items() if values}
    names = dict.fromkeys(name for values in shown.values() for name in by_group(values)[0])
    rows = [
        [plain(name), *(score(values.get(name)) for values in shown.values())]
        for name in _ordered(names, facts)
    ]
    parts = ["## Results"]
    if facts.step is not None:
        chosen = f", chosen by {facts.metric} on validation" if facts.validation else ""
        parts += [
            f"The checkpoint of step {count(facts.step)}{chosen}.",
            table(["metric", *shown], rows),
        ]
    for split, values in shown.items():
        parts += _groups(split, values)
    parts += calibration_lines(facts.calibration, facts.labels or ())
    parts += _teacher(facts.distillation)
    check = facts.merge
    if check is not None:
        doing = "merging" if facts.form == "transformers" else "exporting"
        parts.append(
            f"On {count(check.rows)} {check.kind}, before {doing} and after, the logits differ "
            f"by at most {check.max_difference:.1e} (max |Δlogit|)."
        )
        rows = [
            [plain(name), score(check.before[name]), score(check.after[name])]
            for name in _ordered(by_group(check.before)[0], facts)
        ]
        if rows:
            parts.append(table(["metric", "before", "after"], rows))
    return "\n\n".join(parts)


def _teacher(told: Mapping[str, Any] | None) -> list[str]:
    if told is None:
        return []
    rows = [
        [name, score(each["value"]), count(each["parameters"]), count(each["rows_per_second"])]
        for name, each in ((name, told[name]) for name in ("teacher", "student"))
    ]
    head = ["validation", told["metric"], "parameters", "rows/s"]
    name = code(_told(told["teacher"]["path"]))
    agreed = (
        f"Distilled from {name}, with which it agrees on {told['agreement']:.1%} of validation."
    )
    return [agreed, table(head, rows)]


def _groups(split: str, metrics: Mapping[str, float]) -> list[str]:
    """A table of the metrics that groups of the rows have of their own."""
    groups = by_group(metrics)[1]
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    rows = [
        [
            plain(group),
            *(count(values.get(n)) if n == "support" else score(values.get(n)) for n in names),
        ]
        for group, values in groups.items()
    ]
    return [table([split, *map(plain, names)], rows)] if rows else []


def _data(facts: CardFacts) -> str:
    rows = [
        [name, code(_told(split.source)), count(split.rows), code(split.fingerprint)]
        for name, split in facts.splits.items()
    ]
    return f"## Data\n\n{table(['split', 'source', 'rows', 'fingerprint'], rows)}"


def _method(facts: CardFacts) -> str:
    settings = [[code(name), code(value)] for name, value in _flat(facts.settings)]
    counts = [
        [words, count(facts.counts[name])]
        for name, words in _COUNTS.items()
        if name in facts.counts
    ]
    parts = ["## Method", code(facts.method)] if facts.method else ["## Size"]
    if settings:
        parts.append(table(["setting", "value"], settings))
    return "\n\n".join([*parts, table(["parameters", ""], counts)])


def _ordered(names: Mapping[str, Any], facts: CardFacts) -> list[str]:
    """The metric that chose the checkpoint first."""
    return sorted(names, key=lambda name: name != facts.metric)


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """``{"low_rank": {"alpha": 16}}`` → ``low_rank.alpha`` 16; what is null is left out."""
    found: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{above}{name}.")
        elif value is not None:
            found.append((f"{above}{name}", _value(value)))
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return measure(value) if value.is_integer() else f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(each) for each in value)
    return _told(str(value))


def _told(text: str) -> str:
    """``text``, but of a path through somebody's machine only the last name."""
    if "\\" in text or re.match(r"[A-Za-z]:/", text):
        return PureWindowsPath(text).name
    if text.startswith(("/", "~", "./", "../", "file:")) or "/../" in text:
        return PurePosixPath(text).name
    return text
