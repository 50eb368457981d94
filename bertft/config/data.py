"""``data``: which rows, from where, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.choices import BAD_ROW_POLICIES, QA_SCORERS, TAGGING_SCHEMES
from bertft.config.registry import TASKS
from bertft.config.setting import MISSING, setting

__all__ = ["DataConfig"]


@dataclass
class DataConfig:
    """``data``"""

    name: str = setting(MISSING, "The preset's name, used in the run folder's name.")
    source: str = setting(
        "files",
        "files: your own; hub: a Hub data set; sample: made by bertft, offline.",
        choices=("files", "hub", "sample"),
    )
    task: str = setting(
        "classification",
        "What is learnt.",
        choices=TASKS.names(),
    )
    train: str | None = setting(None, "Training file (csv, tsv, jsonl, parquet); hub: split.")
    validation: str | None = setting(None, "Validation file; null: cut from train. hub: split.")
    unlabelled: str | None = setting(
        None, "File of rows without labels, learnt from a teacher alone (method.distill)."
    )
    test: str | None = setting(None, "Test file, scored once at the end; hub: split.")
    hub: str | None = setting(None, "Hub id of the data set; source=hub.")
    subset: str | None = setting(None, "Configuration name of the Hub data set.")
    sample: str | None = setting(None, "Name of the embedded sample; source=sample.")
    text: Any = setting(
        None,
        "Column of the text, by name or position from 0; a list of two for pairs; null: the"
        " task's own, text or [question,context].",
    )
    label: Any = setting(
        None,
        "Column of the label, by name or position; a list of 0/1 columns for multi_label; null:"
        " the task's own, label or answers.",
    )
    labels: Any = setting(
        None,
        "Class names in order, which numbers from 0 count; or {label: name}, a name for each label"
        " of the files; null: those found in train, sorted (numbers as numbers).",
    )
    separator: str | None = setting(
        None, "Column separator; tab: a tab; null: a comma for .csv, a tab for .tsv."
    )
    quoting: bool | None = setting(
        None,
        "Whether double quotes enclose a field; null: yes, but not where tabs separate columns.",
    )
    encoding: str = setting("utf-8", "Text encoding of csv, tsv and jsonl files.")
    header: bool | None = setting(
        None, "Whether the first line names the columns; null: true if text or label is a name."
    )
    label_separator: str = setting("|", "Between the labels of a multi_label row.")
    scheme: str = setting(
        "auto",
        "token_classification: scheme of the tags; auto: that in which train is written.",
        choices=("auto", *TAGGING_SCHEMES),
    )
    mlm_probability: float = setting(
        0.15,
        "masked_lm: probability that a token is chosen to be predicted.",
        above=0,
        below=1,
        former="masked_share",
    )
    whole_words: bool = setting(False, "masked_lm: hide words with all of their tokens.")
    max_train_rows: int | None = setting(
        None, "Train on a sample of this many rows, drawn with data.seed.", at_least=1
    )
    max_validation_rows: int | None = setting(
        None, "Validate on a sample of this many rows, drawn with data.seed.", at_least=1
    )
    validation_fraction: float = setting(
        0.1,
        "Fraction of train that becomes validation where no validation data is given.",
        above=0,
        below=1,
        former="validation_share",
    )
    max_length: int | None = setting(
        None,
        "Longest row in tokens, special ones included; null: the smaller of the model's and 256,"
        " of question_answering 384.",
        at_least=4,
    )
    on_bad_row: str = setting(
        "error", "error: stop and name them; skip: leave out and count.", choices=BAD_ROW_POLICIES
    )
    max_skipped: float = setting(
        0.01,
        "With on_bad_row=skip: largest share of a split's rows that may be left out.",
        at_least=0,
        at_most=1,
    )
    metric: str | None = setting(
        None, "Metric that chooses the best checkpoint; null: the task's own."
    )
    stride: int = setting(
        128, "Tokens of a long context that two neighbouring windows share.", at_least=0
    )
    unanswerable: bool = setting(
        True, "Whether a question may have no answer (SQuAD v2); false: each gets one (v1)."
    )
    max_answer_length: int = setting(30, "Longest answer to a question, in tokens.", at_least=1)
    no_answer_threshold: float = setting(
        0.5, "Probability of no answer above which a question gets none.", above=0, below=1
    )
    scorer: str = setting(
        "squad",
        "Rules of exact and f1: squad by words, cmrc2018 by Chinese characters.",
        choices=QA_SCORERS,
    )
    seed: int = setting(
        0, "Seed of the split and of sampled rows; stays while seed varies.", at_least=0
    )
    cache: str | None = setting(
        None, "Folder of rows read and tokenised; null: $BERTFT_CACHE or ~/.cache/bertft."
    )
