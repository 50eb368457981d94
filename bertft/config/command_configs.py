"""The root of each command's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.choices import BAD_ROW_POLICIES, PRECISIONS, SPLITS
from bertft.config.data import DataConfig
from bertft.config.loss import LossConfig
from bertft.config.method import MethodConfig
from bertft.config.model import ModelConfig
from bertft.config.setting import MISSING, group, setting
from bertft.config.task_facts import join_words, tasks_with
from bertft.config.trainer import TrainerConfig

__all__ = [
    "COMMAND_CONFIGS",
    "CompareConfig",
    "DoctorConfig",
    "EvalConfig",
    "EvalRequest",
    "ExportConfig",
    "MergeConfig",
    "PredictConfig",
    "ReportConfig",
    "TrainConfig",
    "VerifyConfig",
]

_RUN_HELP = "A run, a merged or plain transformers folder, or an adapter in peft's format."
_ADAPTER_HELP = "Instead of run: the folder of an adapter in peft's format."
_SEQUENCE_TASKS = tasks_with("problem_type")
_TASK_HELP = (
    "What the head was trained for, where the folder does not say it:"
    f" {join_words(_SEQUENCE_TASKS, 'or')}."
)
_LABELS_HELP = (
    "Names of the classes, in the order of the outputs, in place of LABEL_0, LABEL_1, ..."
)
_PRECISION_HELP = "Null: the one that a run was trained in; fp32 for every other folder."
_TRUST_HELP = "Run code that comes with what is opened; nothing but this command line grants it."
_BASE_HELP = "Of adapter: the base's folder or Hub id; null: the one that the adapter names."


@dataclass
class TrainConfig:
    """Fine-tune an encoder and leave a run folder."""

    method: MethodConfig = group(MethodConfig, "How the base is adapted.")
    model: ModelConfig = group(ModelConfig, "Which encoder.")
    data: DataConfig = group(DataConfig, "Which rows.")
    loss: LossConfig = group(LossConfig, "What shapes the training loss of classes.")
    trainer: TrainerConfig = group(TrainerConfig, "The loop.")
    experiment: Any = setting(None, "A whole recipe from conf/experiment.")
    seed: int = setting(0, "Seed of weights, dropout and the order of rows.", at_least=0)
    calibrate: str | None = setting(
        None,
        "temperature: after training divide the logits by the number that fits validation best.",
        choices=("temperature",),
    )
    tune_threshold: bool = setting(
        False,
        "After training choose the probability that decides on validation; two classes, or"
        " multi_label (one a label).",
    )
    resume: str | None = setting(
        None, "A run folder to go on with; auto: go on if hydra.run.dir holds an unfinished run."
    )
    check: bool = setting(
        False, "Try one step of the longest rows; tell memory, time and data, train nothing."
    )
    quiet: bool = setting(False, "Print only the result.")
    report: bool = setting(True, "Leave report.html and plots/*.png at the end.")


@dataclass
class EvalConfig:
    """Score a run's best checkpoint, an adapter or a transformers folder, on labelled rows."""

    run: str | None = setting(None, _RUN_HELP)
    adapter: str | None = setting(None, _ADAPTER_HELP)
    base: str | None = setting(None, _BASE_HELP)
    predictions: str | None = setting(
        None, "Instead of run: answers to questions from elsewhere, a JSON object id to text."
    )
    data: DataConfig | None = setting(None, "Rows to score; null: those of the run.")
    split: str = setting("validation", "Which split.", choices=SPLITS)
    checkpoint: str = setting("best", "best, last or a step number.")
    precision: str | None = setting(None, _PRECISION_HELP, choices=("auto", *PRECISIONS))
    device: str = setting("auto", "auto: CUDA if present, else CPU.")
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class EvalRequest(EvalConfig):
    """The same with the paths of the settings that the command line sets: ``data`` also holds what
    a run recorded, which is not the user's word."""

    explicit_settings: frozenset[str] = frozenset()


@dataclass
class MergeConfig:
    """Fold what was added to layers into the base; write a plain transformers folder."""

    run: str | None = setting(None, "A run folder.")
    adapter: str | None = setting(None, _ADAPTER_HELP)
    base: str | None = setting(None, _BASE_HELP)
    task: str | None = setting(None, _TASK_HELP, choices=_SEQUENCE_TASKS)
    labels: Any = setting(None, _LABELS_HELP)
    out: str = setting(MISSING, "The folder to write; must not exist or be empty.")
    checkpoint: str = setting("best", "best, last or a step number.")
    prefix: str = setting(
        "refuse",
        "A prefix cannot be folded. refuse: stop; beside: fold the rest, keep it in the folder.",
        choices=("refuse", "beside"),
    )
    device: str = setting("auto", "auto: CUDA if present, else CPU.")
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class ExportConfig:
    """Write a run's updates as an adapter that peft loads, or a model as an ONNX graph."""

    run: str | None = setting(
        None, "A run folder; format=onnx takes a merged or plain transformers folder too."
    )
    adapter: str | None = setting(None, f"{_ADAPTER_HELP} format=onnx takes it.")
    base: str | None = setting(None, _BASE_HELP)
    task: str | None = setting(None, _TASK_HELP, choices=_SEQUENCE_TASKS)
    labels: Any = setting(None, _LABELS_HELP)
    out: str = setting(MISSING, "The folder to write; must not exist or be empty.")
    format: str = setting(
        "peft",
        "peft: adapter_config.json and its weights; onnx: model.onnx, everything folded into it.",
        choices=("peft", "onnx"),
    )
    checkpoint: str = setting("best", "best, last or a step number.")
    device: str = setting("auto", "auto: CUDA if present, else CPU.")
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class PredictConfig:
    """Answer unlabelled rows: JSON lines in, JSON lines out."""

    run: str | None = setting(None, _RUN_HELP)
    adapter: str | None = setting(None, _ADAPTER_HELP)
    base: str | None = setting(None, _BASE_HELP)
    task: str | None = setting(None, _TASK_HELP, choices=_SEQUENCE_TASKS)
    labels: Any = setting(None, _LABELS_HELP)
    input: str = setting(
        "-",
        "A file (jsonl, csv, tsv, parquet, txt: a text a line; of tokens conll, of questions"
        " SQuAD's json too); -: JSON lines on stdin.",
    )
    output: str = setting("-", "A file, or - for stdout.")
    checkpoint: str = setting("best", "best, last or a step number.")
    text: Any = setting(None, "Column of the text, or a list of two; null: as the run was trained.")
    separator: str | None = setting(
        None, "Column separator; null: as data.separator of the run, or the file's own."
    )
    quoting: bool | None = setting(
        None, "Whether double quotes enclose a field; null: as data.quoting of the run."
    )
    encoding: str | None = setting(None, "Text encoding; null: as data.encoding of the run.")
    header: bool | None = setting(
        None,
        "Whether the first line names the columns; null: as data.header of the run, or true if text"
        " is a name.",
    )
    on_bad_row: str = setting(
        "error",
        "error: stop and name them; skip: give them an error in place of an answer, and each answer"
        " its row's line.",
        choices=BAD_ROW_POLICIES,
    )
    precision: str | None = setting(None, _PRECISION_HELP, choices=("auto", *PRECISIONS))
    device: str = setting("auto", "auto: CUDA if present, else CPU.")
    trust_remote_code: bool = setting(False, _TRUST_HELP)
    threshold: float | None = setting(
        None,
        "Probability that decides. multi_label: from which a label is given; two classes: of the"
        " second, from which it is given; question_answering: of no answer, above which none is"
        " given; null: the run's.",
        above=0,
        below=1,
    )


@dataclass
class VerifyConfig:
    """Hash a run's checkpoints, base and rows again; name what is damaged."""

    run: str = setting(MISSING, "A run folder.")


@dataclass
class ReportConfig:
    """Make a finished run's report.html and plots/ again."""

    run: str = setting(MISSING, "A finished run.")
    device: str = setting("auto", "auto: CUDA if present, else CPU.")
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class CompareConfig:
    """Finished runs beside each other: metrics, differences, costs, as a table and a page."""

    runs: Any = setting(MISSING, "Runs, sweeps or other folders of runs: [one,two], or one alone.")
    against: str | None = setting(
        None,
        "Hold the others against this run (its folder, or its name in the table);"
        " null: the best on the same rows.",
    )
    draws: int = setting(
        10_000,
        "Paired draws of the validation rows behind the intervals; 0: none, nothing is evaluated.",
        at_least=0,
    )
    out: str | None = setting(
        None, "The page (.html), or a folder for compare.html; null: the command's own folder."
    )
    device: str = setting("auto", "Where checkpoints answer rows. auto: CUDA if present, else CPU.")
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class DoctorConfig:
    """What this machine can do, and whether training works on it; with advice."""

    device: str = setting("auto", "Where to multiply and train. auto: CUDA if present, else CPU.")
    timeout: float = setting(3.0, "Seconds to wait for the Hub or its mirror.", above=0, at_most=60)


COMMAND_CONFIGS: dict[str, type] = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "merge": MergeConfig,
    "export": ExportConfig,
    "predict": PredictConfig,
    "verify": VerifyConfig,
    "report": ReportConfig,
    "compare": CompareConfig,
    "doctor": DoctorConfig,
}
