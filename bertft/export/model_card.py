"""``README.md`` of a merged or exported folder: what it is, its results, how to load it.

    model_card(facts) -> str         YAML front matter as the Hub reads it, then Markdown

The text is in the templates of ``formats/card``. The same facts give the same text. Only the last
name of a local path is shown; class names and texts in any script stay as they are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bertft.config.registry import TASKS
from bertft.export.markdown import escape_cell, escape_markdown, inline_code, markdown_table
from bertft.utils.numbers import format_count, format_number, format_score, split_metric_groups

__all__ = ["CardFacts", "MergeCheck", "SplitFacts", "render_model_card"]

_TEMPLATES = Path(__file__).parent / "card"
# The Hub's name for the task of a head.
_PIPELINE_TAGS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
}
# Our metrics by their names on hf.co/metrics.
_HUB_METRICS = {
    "accuracy": "accuracy",
    "f1": "f1",
    "f1_macro": "f1",
    "f1_micro": "f1",
    "f1_samples": "f1",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "mse": "mse",
    "exact": "exact_match",
    "precision": "precision",
    "recall": "recall",
    "perplexity": "perplexity",
}
_COUNTS = {
    "total": "total, with the base model",
    "trainable": "trainable",
    "head": "of these, head and other new modules",
    "method": "of these, the method's own",
    "kept": "kept after pruning",
    "exported": "exported",
}
_SHOWN_LABELS = 50
# Example inputs of the code that loads a model; the other tasks have one or two texts.
_TEXTS = ("A text to judge.", "A second text about it.")
_TASK_TEXTS = {
    "question_answering": ("Who wrote it?", "It was Ada who wrote it, in London."),
    "token_classification": ("A sentence with names in it.",),
    "masked_lm": ("A word is [MASK] here.",),
}


@dataclass(frozen=True)
class SplitFacts:
    """The rows of a split: their source, their number and the hash of their content."""

    source: str
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class MergeCheck:
    """Metrics of the same ``rows`` before and after merging, and the largest |Δlogit|.

    ``kind`` describes the rows. Rows without labels have no metrics.
    """

    rows: int
    max_difference: float
    before: Mapping[str, float]
    after: Mapping[str, float]
    kind: str = "validation rows"


@dataclass(frozen=True)
class CardFacts:
    """What a card says. ``base_model`` and ``dataset`` are Hub ids or local paths.

    ``metric`` selected the checkpoint of ``step`` if there is a ``validation``. ``counts``,
    ``distillation`` and ``calibration`` are as in metrics.json. ``prefix_file`` names the file or
    folder of a prefix, which is not part of the model. ``license`` is the base model's identifier
    on the Hub. A model that does not come from a run has an ``origin``, its folder, and may have a
    ``threshold``; its ``step`` is None and it has neither splits nor metrics.
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
    library: str = "transformers"
    labels: Sequence[str] | None = None
    pair: bool = False
    max_length: int | None = None
    test: Mapping[str, float] | None = None
    merge: MergeCheck | None = None
    prefix_file: str | None = None
    license: str | None = None
    language: Sequence[str] = field(default=())
    dataset: str | None = None
    distillation: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    threshold: float | Mapping[str, float] | None = None
    origin: str | None = None


def render_model_card(facts: CardFacts) -> str:
    """The content of the file."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "base_name": _base_name,
        "cell": escape_cell,
        "code": inline_code,
        "count": format_count,
        "literal": _literal,
        "measure": format_number,
        "plain": escape_markdown,
        "score": format_score,
    }
    body = environment.get_template("model_card.md.j2").render(
        facts=facts,
        name=_base_name(facts.name),
        base_model=_base_name(facts.base_model),
        task=facts.task.replace("_", " "),
        threshold=_threshold(facts),
        loading_code=_loading_code(environment, facts),
        run_argument=shlex.quote(f"run={_base_name(facts.name)}"),
        result_tables=list(_result_tables(facts)),
        merge_metrics=_ordered(split_metric_groups(facts.merge.before)[0], facts)
        if facts.merge
        else [],
        settings=_flat_settings(facts.settings),
        counts=_COUNTS,
        shown_labels=_SHOWN_LABELS,
    )
    return str(ModelCard(f"---\n{_metadata(facts).to_yaml()}\n---\n\n{body}"))


def _metadata(facts: CardFacts) -> ModelCardData:
    """The front matter; what is not known is left out."""
    metrics = [name for name in _ordered(facts.validation, facts) if name in _HUB_METRICS]
    return ModelCardData(
        license=facts.license or None,
        language=list(facts.language) or None,
        library_name=facts.library,
        pipeline_tag=_PIPELINE_TAGS.get(facts.auto_class),
        base_model=_base_name(facts.base_model),
        base_model_relation="adapter" if facts.library == "peft" else "finetune",
        datasets=[facts.dataset] if facts.dataset else None,
        metrics=list(dict.fromkeys(_HUB_METRICS[name] for name in metrics)) or None,
        tags=["bertft", *([facts.method] if facts.method else [])],
    )


def _threshold(facts: CardFacts) -> float | Mapping[str, float] | None:
    return (facts.calibration or {}).get("threshold", facts.threshold)


def _loading_code(environment: Environment, facts: CardFacts) -> str:
    """Python that predicts one row, run from the folder that contains the model's folder."""
    if facts.task in TASKS and TASKS[facts.task].code is not None:
        write = TASKS.implementation(facts.task, "code")
        lines: str = write(_base_name(facts.name), facts.library, facts.labels, facts.max_length)
        return lines
    template_name = {"onnx": "onnx", "peft": "torch"}.get(facts.library, "transformers")
    cut = '"only_second"' if facts.task == "question_answering" else "True"
    length = f", max_length={facts.max_length}" if facts.max_length else ""
    template = environment.get_template(f"load_{template_name}.py.j2")
    return template.render(
        library=facts.library,
        task=facts.task,
        auto_class=facts.auto_class,
        folder=_base_name(facts.name),
        labels=list(facts.labels or ()),
        threshold=_threshold(facts),
        texts=_TASK_TEXTS.get(facts.task, _TEXTS if facts.pair else _TEXTS[:1]),
        options=f"truncation={cut}{length}",
    ).rstrip()


def _result_tables(facts: CardFacts) -> Iterable[str]:
    """Metrics × splits, then for each split the metrics of its groups (types of entities, say)."""
    splits = {"validation": facts.validation, "test": facts.test}
    shown = {split: split_metric_groups(values) for split, values in splits.items() if values}
    names = dict.fromkeys(name for metrics, _ in shown.values() for name in metrics)
    if names:
        yield markdown_table(
            ["metric", *shown],
            [
                [
                    escape_markdown(name),
                    *(format_score(metrics.get(name)) for metrics, _ in shown.values()),
                ]
                for name in _ordered(names, facts)
            ],
        )
    for split, (_, groups) in shown.items():
        names = dict.fromkeys(name for values in groups.values() for name in values)
        rows = [
            [
                escape_markdown(group),
                *(
                    (format_count if name == "support" else format_score)(values.get(name))
                    for name in names
                ),
            ]
            for group, values in groups.items()
        ]
        if rows:
            yield markdown_table([split, *map(escape_markdown, names)], rows)


def _ordered(names: Mapping[str, Any], facts: CardFacts) -> list[str]:
    """The metric that chose the checkpoint first."""
    return sorted(names, key=lambda name: name != facts.metric)


def _flat_settings(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """``{"low_rank": {"alpha": 16}}`` → ``low_rank.alpha`` 16, without settings that are null."""
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            pairs += _flat_settings(value, f"{above}{name}.")
        elif value is not None:
            pairs.append((f"{above}{name}", _value(value)))
    return pairs


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_number(value) if value.is_integer() else f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(each) for each in value)
    return _base_name(str(value))


def _base_name(text: str) -> str:
    """``text``; of a local path, which may name people and machines, only the last part."""
    if "\\" in text or re.match(r"[A-Za-z]:/", text):
        return PureWindowsPath(text).name
    if text.startswith(("/", "~", "./", "../", "file:")) or "/../" in text:
        return PurePosixPath(text).name
    return text


def _literal(value: Any) -> str:
    """A Python literal of texts, numbers, lists and dicts."""
    return json.dumps(value, ensure_ascii=False)
