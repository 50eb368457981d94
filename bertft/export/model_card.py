"""``README.md`` of a merged or exported folder: the model, its results, and code to load it.

``render_model_card(facts)`` returns the YAML front matter that the Hub reads, then Markdown. The
text is in the templates of ``export/card``. Equal facts give equal text. Only the last part
of a local path is shown. Class names and texts in any script stay as they are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bertft.config.registry import TASKS
from bertft.config.task_facts import join_words
from bertft.export.markdown import (
    escape_cell,
    escape_markdown,
    inline_code,
    item_to_markdown,
    markdown_table,
)
from bertft.export.result_tables import (
    calibration_table,
    describe_calibration,
    group_table,
    metrics_table,
    teacher_table,
)
from bertft.tasks.report_items import TableItem
from bertft.tasks.task import Threshold
from bertft.utils.metric_names import order_metrics, split_metric_groups
from bertft.utils.numbers import format_count, format_number, format_score

__all__ = ["CardFacts", "MergeCheck", "SoupFacts", "SplitFacts", "render_model_card"]

_TEMPLATES = Path(__file__).parent / "card"
# The Hub's name of the task of each head.
_PIPELINE_TAGS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
}
# Metric names of bertft → names on hf.co/metrics.
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
_COUNT_TITLES = {
    "total": "total, including the base model",
    "trainable": "trainable",
    "head": "of these, head and other new modules",
    "method": "of these, added or changed by the method",
    "kept": "kept after pruning, without the head",
    "exported": "exported, without the head",
}
_MAX_SHOWN_LABELS = 50
# Example inputs of the code that loads a model. Other heads take one or two texts.
_TEXTS = ("A text to score.", "A second text about it.")
_TEXTS_BY_HEAD = {
    "AutoModelForQuestionAnswering": ("Who wrote it?", "It was Ada who wrote it, in London."),
    "AutoModelForTokenClassification": ("A sentence with names in it.",),
    "AutoModelForMaskedLM": ("A word is [MASK] here.",),
}


@dataclass(frozen=True)
class SplitFacts:
    """The rows of a split: their source, their number and the hash of their content."""

    source: str
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class MergeCheck:
    """Metrics on the same ``rows`` before and after merging, and the largest |Δlogit|.

    ``kind`` describes the rows. Rows without labels have no metrics.
    """

    rows: int
    max_difference: float
    before: Mapping[str, float]
    after: Mapping[str, float]
    kind: str = "validation rows"


@dataclass(frozen=True)
class SoupFacts:
    """The average of several runs.

    Attributes:
        how: How the runs were chosen.
        candidates: The number of runs to choose from.
        sources: The averaged runs, one row each.
        scores: Metrics of the average, of the runs and of their ensemble; None: not scored.
        methods: The methods of the averaged runs.
        splits: The splits of the data that are the same for all of them.
        notes: Further sentences.
    """

    how: str
    candidates: int
    sources: TableItem
    scores: TableItem | None
    methods: tuple[str, ...]
    splits: frozenset[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CardFacts:
    """The content of a model card.

    Attributes:
        base_model, dataset: Hub ids or local paths.
        metric: The metric that selected the checkpoint of ``step``, if there is a ``validation``.
        step: None for a model that does not come from a run; it has neither splits nor metrics.
        counts, distillation, calibration: As in metrics.json.
        library: The library that loads the folder: "transformers", "peft" or "onnx".
        prefix_file: File or folder of a prefix, which is not part of the model.
        license: The license identifier of the base model on the Hub.
        data_title: The name of the data in the title.
        threshold: The decision threshold of a model that does not come from a run.
        origin: The folder of a model that does not come from a run.
        soup: What was averaged, if the model is the average of several runs.
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
    dataset: str | None = None
    data_title: str | None = None
    distillation: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    threshold: Threshold | None = None
    origin: str | None = None
    soup: SoupFacts | None = None


def render_model_card(facts: CardFacts) -> str:
    """The content of README.md."""
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
        "plain": escape_markdown,
    }
    body = environment.get_template("model_card.md.j2").render(
        facts=facts,
        title=_title(facts),
        base_model=_base_name(facts.base_model),
        task=facts.task.replace("_", " "),
        threshold=_threshold(facts),
        loading_code=_loading_code(environment, facts),
        run_argument=shlex.quote(f"run={_base_name(facts.name)}"),
        result_tables=_result_tables(facts),
        calibration=_calibration_text(facts),
        distillation=_distillation_text(facts),
        merge_table=_merge_table(facts),
        soup=_soup_text(facts),
        settings=_flatten_settings(facts.settings),
        count_titles=_COUNT_TITLES,
        max_shown_labels=_MAX_SHOWN_LABELS,
    )
    return str(ModelCard(f"---\n{_metadata(facts).to_yaml()}\n---\n\n{body}"))


def _title(facts: CardFacts) -> str:
    """``bert-base-uncased fine-tuned on tickets with lora``; else the name of the folder."""
    if facts.origin is not None or facts.data_title is None:
        return _base_name(facts.name)
    base = _base_name(facts.base_model).rpartition("/")[2]
    return f"{base} fine-tuned on {facts.data_title} with {facts.method}"


def _metadata(facts: CardFacts) -> ModelCardData:
    """The front matter, without unknown entries."""
    metrics = [
        _HUB_METRICS[name]
        for name in order_metrics(facts.validation, facts.metric)
        if name in _HUB_METRICS
    ]
    return ModelCardData(
        license=facts.license or None,
        library_name=facts.library,
        pipeline_tag=_PIPELINE_TAGS.get(facts.auto_class),
        base_model=_base_name(facts.base_model),
        base_model_relation="adapter" if facts.library == "peft" else "finetune",
        datasets=[facts.dataset] if facts.dataset else None,
        metrics=list(dict.fromkeys(metrics)) or None,
        tags=["bertft", *_tags(facts)],
    )


def _tags(facts: CardFacts) -> list[str]:
    if facts.soup is not None:
        return ["model-soup", *facts.soup.methods]
    return [facts.method] if facts.method else []


def _threshold(facts: CardFacts) -> Threshold | None:
    return (facts.calibration or {}).get("threshold", facts.threshold)


def _loading_code(environment: Environment, facts: CardFacts) -> str:
    """Python that predicts one row, run from the folder that contains the model's folder."""
    if facts.task in TASKS and TASKS[facts.task].model_card_code is not None:
        write_code = TASKS.implementation(facts.task, "model_card_code")
        code: str = write_code(
            _base_name(facts.name), facts.library, facts.labels, facts.max_length
        )
        return code
    template_name = {"onnx": "onnx", "peft": "torch"}.get(facts.library, "transformers")
    has_context = facts.auto_class == "AutoModelForQuestionAnswering"
    truncation = '"only_second"' if has_context else "True"
    problem_type = TASKS[facts.task].problem_type if facts.task in TASKS else None
    length = f", max_length={facts.max_length}" if facts.max_length else ""
    template = environment.get_template(f"load_{template_name}.py.j2")
    return template.render(
        library=facts.library,
        head=problem_type or facts.auto_class,
        auto_class=facts.auto_class,
        folder=_base_name(facts.name),
        labels=list(facts.labels or ()),
        threshold=_threshold(facts),
        texts=_TEXTS_BY_HEAD.get(facts.auto_class, _TEXTS if facts.pair else _TEXTS[:1]),
        options=f"truncation={truncation}{length}",
    ).rstrip()


def _result_tables(facts: CardFacts) -> list[str]:
    """Metrics × splits, then for each split the metrics of its groups."""
    splits = {"validation": facts.validation, "test": facts.test or {}}
    tables = [metrics_table(splits, facts.metric)]
    tables += [group_table(metrics, split) for split, metrics in splits.items()]
    return [item_to_markdown(table) for table in tables if table is not None]


def _calibration_text(facts: CardFacts) -> list[str]:
    """Paragraphs on temperature and thresholds, empty without calibration."""
    if facts.calibration is None:
        return []
    positive_class = inline_code(facts.labels[-1]) if facts.labels else None
    sentences = describe_calibration(facts.calibration, positive_class)
    if facts.calibration.get("temperature") is not None:
        sentences.append("The temperature is folded into the weights of the head.")
    if facts.calibration.get("conformal") is not None:
        sentences.append("`bertft predict` adds the set of each row; plain transformers does not.")
    paragraphs = [
        " ".join(sentences),
        item_to_markdown(calibration_table(facts.calibration)),
    ]
    threshold = facts.calibration.get("threshold")
    if isinstance(threshold, Mapping):
        shown = list(threshold.items())[:_MAX_SHOWN_LABELS]
        rows = [[inline_code(label), f"{value:.4g}"] for label, value in shown]
        paragraphs.append(markdown_table(["label", "threshold"], rows))
        if len(threshold) > len(shown):
            paragraphs.append(
                f"The thresholds of the other {len(threshold) - len(shown)} labels are in"
                " config.json."
            )
    return [paragraph for paragraph in paragraphs if paragraph]


def _distillation_text(facts: CardFacts) -> list[str]:
    if facts.distillation is None:
        return []
    table = teacher_table(facts.distillation)
    teacher = facts.distillation["teacher"]
    names = [inline_code(_base_name(path)) for path in teacher.get("paths") or [teacher["path"]]]
    mean = " (the mean of their logits)" if len(names) > 1 else ""
    return [f"Distilled from {join_words(names)}{mean}. {table.note}", item_to_markdown(table)]


def _soup_text(facts: CardFacts) -> list[str]:
    """What was averaged and its scores; empty for a model of a single run."""
    soup = facts.soup
    if soup is None:
        return []
    averaged, paragraphs = len(soup.sources.rows), []
    if averaged == 1:
        opening = f"These are the weights of one of {soup.candidates} runs: no average was better."
    else:
        opening = (
            f"The weights are the mean of those of {averaged} of {soup.candidates} runs"
            f" (how={soup.how}; a model soup, Wortsman et al. 2022, arXiv 2203.05482)."
        )
    paragraphs += [" ".join([opening, *soup.notes]), item_to_markdown(soup.sources)]
    if soup.scores is not None:
        paragraphs += [item_to_markdown(soup.scores), escape_markdown(soup.scores.note)]
    return paragraphs


def _merge_table(facts: CardFacts) -> str:
    """Metrics before and after merging; empty if the rows have no labels."""
    if facts.merge is None or not facts.merge.before:
        return ""
    before, after = facts.merge.before, facts.merge.after
    names = order_metrics(split_metric_groups(before)[0], facts.metric)
    return markdown_table(
        ["metric", "before", "after"],
        [
            [escape_markdown(name), format_score(before[name]), format_score(after[name])]
            for name in names
        ],
    )


def _flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """``{"low_rank": {"alpha": 16}}`` → ``[("low_rank.alpha", "16")]``, without null settings."""
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            pairs += _flatten_settings(value, f"{prefix}{name}.")
        elif value is not None:
            pairs.append((f"{prefix}{name}", _setting_text(value)))
    return pairs


def _setting_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_number(value) if value.is_integer() else f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_setting_text, value))
    return _base_name(str(value))


def _base_name(text: str) -> str:
    """``text``; only the last part of a local path, which may contain names of people."""
    if "\\" in text or re.match(r"[A-Za-z]:/", text):
        return PureWindowsPath(text).name
    if text.startswith(("/", "~", "./", "../", "file:")) or "/../" in text:
        return PurePosixPath(text).name
    return text


def _literal(value: object) -> str:
    """A Python literal of texts, numbers, lists and dicts."""
    return json.dumps(value, ensure_ascii=False)
