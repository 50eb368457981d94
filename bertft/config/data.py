"""``data``: the source of the rows, their columns and the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.choices import BAD_ROW_POLICIES, QA_SCORERS, TAGGING_SCHEMES
from bertft.config.registry import READERS, TASKS
from bertft.config.setting import MISSING, setting

__all__ = ["DataConfig"]


@dataclass
class DataConfig:
    """``data``"""

    name: str = setting(MISSING, "Name of the preset; part of the name of the run folder.")
    source: str = setting(
        "files",
        "Source of the rows. files: your own files. hub: a Hub data set. sample: a data set"
        " bundled with bertft.",
        choices=("files", "hub", "sample"),
    )
    task: str = setting("classification", "Task type.", choices=TASKS.names())
    train: Any = setting(
        None,
        "Training file (CSV, TSV, JSON, JSON Lines, Parquet, Arrow, ...), or a list of files, a"
        " pattern such as parts/*.csv or a folder. data.source=hub: name of the split.",
        file="input",
    )
    validation: Any = setting(
        None,
        "Validation file or files. Null: a fraction of the training rows. data.source=hub: name of"
        " the split.",
        file="input",
    )
    unlabelled: Any = setting(
        None,
        "File or files of rows without labels, for training on the teacher's outputs"
        " (method.distill).",
        file="input",
    )
    test: Any = setting(
        None,
        "Test file or files, evaluated once after training. data.source=hub: name of the split.",
        file="input",
    )
    format: str | None = setting(
        None,
        "Format of the files. Null: by their extension and content.",
        choices=READERS.names(),
    )
    hub: str | None = setting(
        None, "Hub id of the data set. Only with data.source=hub.", file="input"
    )
    subset: str | None = setting(
        None, "Configuration name of the Hub data set. Only with data.source=hub."
    )
    sample: str | None = setting(
        None, "Name of the bundled data set. Only with data.source=sample."
    )
    text: Any = setting(
        None,
        "Text column: a name or a position from 0, or a list of two columns for text pairs. The"
        " texts of further columns are appended to the second text with the tokenizer's separator."
        " In JSON, review.text is the key text of the object review. Null: the default of the task"
        " (text; question_answering: [question,context]).",
    )
    label: Any = setting(
        None,
        "Label column: a name or a position from 0, or a list of 0/1 columns for multi_label. @file"
        " or @folder: the label is in the name of the file or of its folder. Null: the default of"
        " the task (label; question_answering: answers).",
    )
    empty_second: bool = setting(
        False, "Whether the second text of a pair can be empty. false: such a row is invalid."
    )
    group: str | None = setting(
        None,
        "Column whose rows with the same value are held out for validation together, and are in the"
        " same fold of a cross-validation, such as the id of an author.",
    )
    labels: Any = setting(
        None,
        "Class names, in the order of the class numbers from 0, or a mapping {label: name} from the"
        " labels in the files. Null: the sorted labels of the training rows.",
    )
    separator: str | None = setting(
        None,
        "Column separator; write tab for a tab character. Null: detected from the header, else a "
        "comma, or a tab in .tsv files.",
    )
    quoting: bool | None = setting(
        None,
        "Whether fields can be enclosed in double quotes. Null: false for tab-separated files, else"
        " true.",
    )
    escapes: bool = setting(
        False,
        'Whether a backslash escapes the next character in CSV and TSV, as in \\". Without'
        " quoting, \\n and \\t are a line break and a tab.",
    )
    ragged: bool = setting(
        False,
        "Whether rows of CSV and TSV can have more or fewer columns than the first line:"
        " missing ones are empty, further ones are ignored.",
    )
    encoding: str = setting("utf-8", "Text encoding of the files.")
    header: bool | None = setting(
        None,
        "Whether the first line has the column names. Null: true if data.text or data.label is a"
        " name.",
    )
    label_separator: str = setting("|", "multi_label: separator between the labels of a row.")
    scheme: str = setting(
        "auto",
        "token_classification: tagging scheme. auto: detected in the training rows.",
        choices=("auto", *TAGGING_SCHEMES),
    )
    sentence: Any = setting(
        None,
        "token_classification: column of the sentence in a table with one word per row: a name, a"
        " position from 0 or a list. An empty value continues the sentence above. Null: each row is"
        " a sentence.",
    )
    mlm_probability: float = setting(
        0.15,
        "masked_lm: probability that a token is selected for prediction.",
        above=0,
        below=1,
        former="masked_share",
    )
    whole_words: bool = setting(False, "masked_lm: mask all tokens of a word together.")
    drop_rows: Any = setting(
        None,
        "CSV file of rows of data.train to leave out, such as suspects.csv of bertft"
        " cross_validate, or a list of files.",
        file="input",
    )
    max_train_rows: int | None = setting(
        None, "Train on a random sample of this many rows, drawn with data.seed.", at_least=1
    )
    max_validation_rows: int | None = setting(
        None, "Validate on a random sample of this many rows, drawn with data.seed.", at_least=1
    )
    validation_fraction: float = setting(
        0.1,
        "Fraction of the training rows used for validation if there is no validation data.",
        above=0,
        below=1,
        former="validation_share",
    )
    folds: int | None = setting(
        None,
        "Number of folds into which the training rows are split: fold data.fold is the test split."
        " bertft cross_validate sets these settings. Null: no folds.",
        at_least=2,
    )
    fold: int = setting(1, "Fold that is the test split, from 1 to data.folds.", at_least=1)
    repeat: int = setting(
        1, "Repetition of the cross-validation: each one draws different folds.", at_least=1
    )
    max_length: int | None = setting(
        None,
        "Maximum number of tokens per sequence, including special tokens. Null: 256"
        " (question_answering: 384), or the model's maximum if it is smaller.",
        at_least=4,
    )
    on_bad_row: str = setting(
        "error",
        "What to do with invalid rows. error: stop and list them. skip: leave them out and count"
        " them.",
        choices=BAD_ROW_POLICIES,
    )
    max_skipped: float = setting(
        0.01,
        "Maximum fraction of the rows of a split that data.on_bad_row=skip can leave out.",
        at_least=0,
        at_most=1,
    )
    metric: str | None = setting(
        None,
        "Metric that selects the best checkpoint, or a Python function of labels and scores, as in"
        " sklearn.metrics:roc_auc_score. Null: the default of the task.",
    )
    metric_direction: str | None = setting(
        None,
        "Whether a higher or a lower value of the Python function in data.metric is better.",
        choices=("higher", "lower"),
    )
    stride: int = setting(
        128,
        "question_answering: overlap of neighbouring windows of a long context, in tokens.",
        at_least=0,
    )
    unanswerable: bool = setting(
        True,
        "question_answering: whether questions can have no answer (SQuAD v2). false: every question"
        " has an answer (SQuAD v1).",
    )
    max_answer_length: int = setting(
        30, "question_answering: maximum length of an answer, in tokens.", at_least=1
    )
    no_answer_threshold: float = setting(
        0.5,
        "question_answering: probability of no answer above which no answer is predicted.",
        above=0,
        below=1,
    )
    scorer: str = setting(
        "squad",
        "question_answering: definition of exact and f1. squad: by words. cmrc2018: by Chinese"
        " characters.",
        choices=QA_SCORERS,
    )
    seed: int = setting(
        0,
        "Seed of the validation split and of sampled rows. The setting seed does not change them.",
        at_least=0,
    )
    cache: str | None = setting(
        None,
        "Folder for cached rows, tokens and outputs of models. Null: $BERTFT_CACHE or"
        " ~/.cache/bertft.",
        file="output",
        on_resume="change",
    )
