"""The components that bertft includes, described in the same way as those of other packages.

Kind → name → description; see ``bertft.config.registry``. Rules are applied and readers listed in
this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertft.config.component_specs import (
    MethodSpec,
    MetricSpec,
    OptimizerSpec,
    ReaderSpec,
    TaskSpec,
)
from bertft.config.method_components import base, distill, ia3, low_rank, prefix

__all__ = ["BUILTIN_COMPONENTS"]

_METHODS = {
    "low_rank": MethodSpec(
        settings=low_rank.LowRankConfig,
        build="bertft.methods.low_rank:build",
        rules="bertft.config.rules.method:LOW_RANK_RULES",
        peft_types={
            "LORA": "bertft.methods.low_rank.peft_format:from_peft",
            "VERA": "bertft.methods.low_rank.vera:from_peft",
        },
        search={"dropout": "choice(0.0,0.05,0.1,0.2)"},
    ),
    "ia3": MethodSpec(
        settings=ia3.IA3Config,
        build="bertft.methods.ia3:build",
        rules="bertft.config.rules.method:IA3_RULES",
        peft_types={"IA3": "bertft.methods.ia3:from_peft"},
    ),
    "base": MethodSpec(
        settings=base.TrainableBaseConfig,
        build="bertft.methods.base:build",
        rules="bertft.config.rules.method:BASE_RULES",
    ),
    "prefix": MethodSpec(
        settings=prefix.PrefixConfig,
        build="bertft.methods.prefix:build",
        rules="bertft.config.rules.method:PREFIX_RULES",
        search={"length": "choice(8,16,32)"},
    ),
    "distill": MethodSpec(
        settings=distill.DistillConfig,
        build="bertft.distill:build",
        rules="bertft.config.rules.distill:DISTILL_RULES",
        search={"weight": "choice(0.25,0.5,0.75)"},
    ),
}

_TASKS = {
    "classification": TaskSpec(
        task_class="bertft.tasks.classification:ClassificationTask",
        class_probabilities=True,
        prediction_sets=True,
        problem_type="single_label_classification",
    ),
    "masked_lm": TaskSpec(
        task_class="bertft.tasks.masked_lm.task:MaskedLMTask",
        row_schema="bertft.tasks.masked_lm.schema:MaskedLMRowSchema",
        input_encoding="bertft.tasks.masked_lm.encoding:INPUT_ENCODING",
        label=None,
        supports_class_names=False,
        settings=("mlm_probability", "whole_words"),
        sample=("sentiment", "text"),
    ),
    "multi_label": TaskSpec(
        task_class="bertft.tasks.multi_label:MultiLabelTask",
        label="classes",
        class_probabilities=True,
        prediction_sets=True,
        problem_type="multi_label_classification",
    ),
    "question_answering": TaskSpec(
        task_class="bertft.tasks.question_answering.task:QuestionAnsweringTask",
        row_schema="bertft.tasks.question_answering.schema:QuestionAnsweringRowSchema",
        input_encoding="bertft.tasks.question_answering.encoding:INPUT_ENCODING",
        label=None,
        supports_class_names=False,
        settings=("stride", "unanswerable", "max_answer_length", "no_answer_threshold", "scorer"),
        sample=("qa", None),
        score_predictions="bertft.tasks.question_answering.metrics:score_predictions",
    ),
    "regression": TaskSpec(
        task_class="bertft.tasks.regression:RegressionTask",
        label="number",
        supports_class_names=False,
        prediction_sets=True,
        problem_type="regression",
    ),
    "token_classification": TaskSpec(
        task_class="bertft.tasks.token_classification.task:TokenClassificationTask",
        row_schema="bertft.tasks.token_classification.schema:TokenClassificationRowSchema",
        input_encoding="bertft.tasks.token_classification.encoding:INPUT_ENCODING",
        label=None,
        settings=("scheme", "sentence"),
        sample=("ner", "words"),
    ),
}

_READERS = {
    "csv": ReaderSpec(
        extensions=(".csv",),
        read="bertft.data.readers.csv_reader:read_csv_file",
        read_blocks="bertft.data.readers.csv_blocks:read_csv_blocks",
        has_separator=True,
        rejects_json_lines=True,
    ),
    "tsv": ReaderSpec(
        extensions=(".tsv", ".tab"),
        read="bertft.data.readers.csv_reader:read_tsv_file",
        read_blocks="bertft.data.readers.csv_blocks:read_tsv_blocks",
        has_separator=True,
        rejects_json_lines=True,
    ),
    "squad": ReaderSpec(
        extensions=(".json",),
        read="bertft.data.readers.squad_json:read_squad_json",
        tasks=("question_answering",),
        matches="bertft.data.readers.squad_json:is_squad_json",
        unit="question",
    ),
    "label_studio": ReaderSpec(
        extensions=(".json", ".jsonl", ".ndjson"),
        read="bertft.data.readers.label_studio:read_label_studio",
        tasks=("token_classification", "classification", "multi_label", "regression"),
        matches="bertft.data.readers.label_studio:is_label_studio",
        unit="task",
    ),
    "cmrc2018": ReaderSpec(
        extensions=(".json",),
        read="bertft.data.readers.cmrc_json:read_cmrc_json",
        tasks=("question_answering",),
        matches="bertft.data.readers.cmrc_json:is_cmrc_json",
        unit="question",
    ),
    "json": ReaderSpec(
        extensions=(".json",),
        read="bertft.data.readers.json_documents:read_json_document",
        matches="bertft.data.readers.json_documents:is_json_document",
        unit="object",
    ),
    "jsonl": ReaderSpec(
        extensions=(".jsonl", ".ndjson", ".json"),
        read="bertft.data.readers.json_lines:read_json_lines_file",
        read_blocks="bertft.data.readers.json_blocks:read_json_blocks",
    ),
    "parquet": ReaderSpec(
        extensions=(".parquet", ".pq"),
        read="bertft.data.readers.parquet:read_parquet",
        read_blocks="bertft.data.readers.parquet:read_parquet_blocks",
        schema="bertft.data.readers.parquet:read_parquet_schema",
        text=False,
    ),
    "arrow": ReaderSpec(
        extensions=(".arrow", ".feather"),
        read="bertft.data.readers.arrow_files:read_arrow",
        read_blocks="bertft.data.readers.arrow_files:read_arrow_blocks",
        schema="bertft.data.readers.arrow_files:read_arrow_schema",
        text=False,
    ),
    "xlsx": ReaderSpec(
        extensions=(".xlsx", ".xlsm"),
        read="bertft.data.readers.excel:read_excel",
        text=False,
        unit="row",
    ),
    "conll": ReaderSpec(
        extensions=(
            ".conll",
            ".conllu",
            ".conll2003",
            ".conll03",
            ".tsv",
            ".tab",
            ".bio",
            ".iob",
            ".iob1",
            ".iob2",
            ".bioes",
            ".iobes",
            ".bilou",
            ".bmes",
            ".bmeso",
            ".ner",
            ".tags",
            ".train",
            ".dev",
            ".valid",
            ".test",
            ".testa",
            ".testb",
            ".annotated",
        ),
        read="bertft.data.readers.conll:read_conll",
        tasks=("token_classification",),
        rejects_json_lines=True,
    ),
    "fasttext": ReaderSpec(
        extensions=(".txt", ".ft", ".train", ".valid", ".test"),
        read="bertft.data.readers.labelled_lines:read_fasttext",
        matches="bertft.data.readers.labelled_lines:is_fasttext",
    ),
    "label_text": ReaderSpec(
        extensions=(),
        read="bertft.data.readers.labelled_lines:read_label_text",
    ),
    "text": ReaderSpec(
        extensions=(".txt",),
        read="bertft.data.readers.text_files:read_text_file",
        rejects_json_lines=True,
        supports_labels=False,
    ),
    "document": ReaderSpec(
        extensions=(),
        read="bertft.data.readers.text_files:read_document",
        supports_labels=False,
    ),
}

# Metrics that the tasks compute themselves. Higher is better for all others of a task.
_METRICS = {
    **dict.fromkeys(("loss", "mse", "perplexity"), MetricSpec(higher_is_better=False)),
    **dict.fromkeys(
        ("accuracy", "f1", "f1_macro", "f1_micro", "matthews", "pearson", "spearman", "exact"),
        MetricSpec(),
    ),
}

_OPTIMIZERS = {
    "adamw": OptimizerSpec(
        build="bertft.training.optim:adamw",
        trainer_settings=("weight_decay", "beta1", "beta2", "epsilon"),
        state_tensors=("exp_avg", "exp_avg_sq", "step"),
    ),
}

BUILTIN_COMPONENTS: Mapping[str, Mapping[str, Any]] = {
    "methods": _METHODS,
    "tasks": _TASKS,
    "readers": _READERS,
    "metrics": _METRICS,
    "optimizers": _OPTIMIZERS,
}
