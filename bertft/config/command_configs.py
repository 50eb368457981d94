"""The settings of each command: the root dataclass of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.choices import BAD_ROW_POLICIES, PRECISIONS, SOUPS, SPLITS
from bertft.config.data import DataConfig
from bertft.config.loss import LossConfig
from bertft.config.method import MethodConfig
from bertft.config.model import ModelConfig
from bertft.config.registry import READERS, TASKS
from bertft.config.setting import MISSING, group, setting
from bertft.config.task_facts import join_words, tasks_with
from bertft.config.trainer import TrainerConfig
from bertft.config.tune import TuneSettings

__all__ = [
    "COMMAND_CONFIGS",
    "TRAINING_COMMANDS",
    "CompareConfig",
    "CrossValidateConfig",
    "DoctorConfig",
    "EvalConfig",
    "EvalRequest",
    "ExportConfig",
    "InitConfig",
    "InspectConfig",
    "InspectRequest",
    "MergeConfig",
    "PredictConfig",
    "ReportConfig",
    "TrainConfig",
    "TuneConfig",
    "VerifyConfig",
]

_RUN_HELP = "Run folder, merged folder, transformers folder, peft adapter folder, or ONNX folder."
_ADAPTER_HELP = "Folder of a peft adapter, instead of run."
_BASE_HELP = "Folder or Hub id of the adapter's base model. Null: as recorded in the adapter."
_SEQUENCE_TASKS = tasks_with("problem_type")
_TASK_HELP = (
    f"Task type of the head, if the folder does not record it: {join_words(_SEQUENCE_TASKS, 'or')}."
)
_LABELS_HELP = (
    "Class names, in the order of the model's outputs, if the model has only LABEL_0, LABEL_1, ..."
)
_CHECKPOINT_HELP = "Checkpoint of the run: best, last or a step number."
_PRECISION_HELP = "Precision of the computation. Null: that of the run; fp32 for other folders."
_DEVICE_HELP = "Device: cpu, cuda, cuda:1, ... auto: CUDA if available, else CPU."
_TRUST_HELP = "Run Python code from the model's Hub repository."
_OUT_HELP = "Output folder. It must be new or empty."
_RUNS_HELP = (
    "Runs to average, instead of run: a list of run folders of the same base and labels, as in"
    " [one,two]; or a folder of runs."
)
_HOW_HELP = (
    "Which runs are averaged. mean: all of them. greedy: start with the best run and try the others"
    " from best to worst; one is kept if the metric on one half of the validation rows does not"
    " get worse."
)
_HALVES_HELP = (
    "Seed of the two halves of the validation rows: runs are chosen on one half and compared on the"
    " other."
)


@dataclass
class TrainConfig:
    """Fine-tune an encoder and write a run folder."""

    method: MethodConfig = group(MethodConfig, "Fine-tuning method.")
    model: ModelConfig = group(ModelConfig, "Pretrained encoder.")
    data: DataConfig = group(DataConfig, "Source of the rows, their columns and the task.")
    loss: LossConfig = group(LossConfig, "Options of the classification loss.")
    trainer: TrainerConfig = group(
        TrainerConfig, "Optimization, precision, evaluation and checkpoints."
    )
    experiment: Any = setting(
        None, "Preset with a complete configuration from conf/experiment.", on_resume="change"
    )
    config: str | None = setting(
        None,
        "YAML file of settings: your own, or config.yaml of a run. The command line overrides it.",
        file="input",
        affects_result=False,
        on_resume="change",
    )
    seed: int = setting(0, "Seed of new weights, dropout and the order of the rows.", at_least=0)
    calibrate: str | None = setting(
        None,
        "Calibration on the validation rows after training. temperature: fit a temperature that"
        " divides the logits. conformal: calibrate prediction sets, which contain the true answer"
        " with the probability in the setting coverage, on one half of the rows, and evaluate them"
        " on the other half.",
        choices=("temperature", "conformal"),
    )
    coverage: float = setting(
        0.95,
        "calibrate=conformal: probability that a prediction set contains the true answer.",
        above=0,
        below=1,
    )
    tune_threshold: bool = setting(
        False,
        "After training, choose the decision threshold on the validation rows. For two classes, or"
        " multi_label (one threshold per label).",
    )
    resume: str | None = setting(
        None,
        "Run folder to resume. auto: resume if hydra.run.dir has an unfinished run.",
        file="input",
        affects_result=False,
    )
    check: bool = setting(
        False,
        "Dry run: run a step on the longest rows and report memory, time and data, without"
        " training.",
        affects_result=False,
    )
    quiet: bool = setting(False, "Print only the result.", affects_result=False, on_resume="change")
    report: bool = setting(
        True,
        "Write report.html and plots/*.png after training.",
        affects_result=False,
        on_resume="change",
    )


@dataclass
class TuneConfig(TrainConfig):
    """Search for settings by successive halving and compare the best with the default."""

    tune: TuneSettings = group(TuneSettings, "Budget, settings and seeds of the search.")


@dataclass
class CrossValidateConfig(TrainConfig):
    """Train one run per fold, predict every row out of fold, and list suspect labels."""

    folds: int = setting(5, "Number of folds. Each fold is the test split once.", at_least=2)
    repeats: int = setting(
        1, "Number of repetitions, each with different folds.", at_least=1, at_most=100
    )


@dataclass
class EvalConfig:
    """Evaluate a run, an adapter or a transformers folder on labelled rows."""

    run: str | None = setting(None, _RUN_HELP, file="input")
    adapter: str | None = setting(None, _ADAPTER_HELP, file="input")
    base: str | None = setting(None, _BASE_HELP, file="input")
    predictions: str | None = setting(
        None,
        "JSON file of answers to evaluate instead of a model: an object from question id to text.",
        file="input",
    )
    data: DataConfig | None = setting(None, "Rows to evaluate, instead of the rows of the run.")
    split: str = setting("validation", "Split to evaluate.", choices=SPLITS)
    checkpoint: str = setting("best", _CHECKPOINT_HELP)
    precision: str | None = setting(None, _PRECISION_HELP, choices=("auto", *PRECISIONS))
    device: str = setting("auto", _DEVICE_HELP)
    trust_remote_code: bool = setting(False, _TRUST_HELP)
    report: bool = setting(True, "Write report.html and plots/*.png.")


@dataclass
class EvalRequest(EvalConfig):
    """The settings of eval, and the paths of the settings that are on the command line.

    ``data`` also has settings that a run recorded; these are not in ``explicit_settings``.
    """

    explicit_settings: frozenset[str] = frozenset()


@dataclass
class MergeConfig:
    """Fold the updates of a run, or the average of several, into the base; write a model folder."""

    run: str | None = setting(None, "Run folder.", file="input")
    runs: Any = setting(None, _RUNS_HELP, file="input")
    how: str = setting("mean", _HOW_HELP, choices=SOUPS)
    adapter: str | None = setting(None, _ADAPTER_HELP, file="input")
    base: str | None = setting(None, _BASE_HELP, file="input")
    task: str | None = setting(None, _TASK_HELP, choices=_SEQUENCE_TASKS)
    labels: Any = setting(None, _LABELS_HELP)
    out: str = setting(MISSING, _OUT_HELP, file="output")
    checkpoint: str = setting("best", _CHECKPOINT_HELP)
    seed: int = setting(0, _HALVES_HELP, at_least=0)
    prefix: str = setting(
        "error",
        "What to do with a prefix, which cannot be folded into weights. error: stop. separate: fold"
        " the other updates and store the prefix in a separate file of the folder.",
        choices=("error", "separate"),
        former_choices={"refuse": "error", "beside": "separate"},
    )
    device: str = setting("auto", _DEVICE_HELP)
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class ExportConfig:
    """Write a run as a peft adapter, or a model as an ONNX graph."""

    run: str | None = setting(
        None,
        "Run folder; for format=onnx also a merged folder or a transformers folder.",
        file="input",
    )
    runs: Any = setting(None, f"{_RUNS_HELP} Only with format=peft.", file="input")
    how: str = setting("mean", _HOW_HELP, choices=SOUPS)
    rank: int | None = setting(
        None,
        "Only with runs: rank to which the average update of each layer is reduced by a truncated"
        " SVD. Null: the rank that represents the average exactly.",
        at_least=1,
    )
    adapter: str | None = setting(None, f"{_ADAPTER_HELP} Only with format=onnx.", file="input")
    base: str | None = setting(None, _BASE_HELP, file="input")
    task: str | None = setting(None, _TASK_HELP, choices=_SEQUENCE_TASKS)
    labels: Any = setting(None, _LABELS_HELP)
    out: str = setting(MISSING, _OUT_HELP, file="output")
    format: str = setting(
        "peft",
        "Output format. peft: adapter_config.json and the adapter weights. onnx: model.onnx with"
        " all updates folded in.",
        choices=("peft", "onnx"),
    )
    checkpoint: str = setting("best", _CHECKPOINT_HELP)
    seed: int = setting(0, _HALVES_HELP, at_least=0)
    device: str = setting("auto", _DEVICE_HELP)
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class PredictConfig:
    """Predict unlabelled rows and write JSON Lines, CSV or Parquet."""

    run: str | None = setting(None, _RUN_HELP, file="input")
    adapter: str | None = setting(None, _ADAPTER_HELP, file="input")
    base: str | None = setting(None, _BASE_HELP, file="input")
    task: str | None = setting(None, _TASK_HELP, choices=_SEQUENCE_TASKS)
    labels: Any = setting(None, _LABELS_HELP)
    input: Any = setting(
        "-",
        "Input file, or a list of files, a pattern or a folder (JSON, JSON Lines, CSV, TSV,"
        " Parquet, or .txt with one text per line; token_classification: also CoNLL;"
        " question_answering: also SQuAD JSON). -: standard input (JSON, JSON Lines, CSV or TSV"
        " with a header, or one text per line).",
        file="input",
    )
    output: str = setting(
        "-",
        "Output file: .jsonl, .csv or .parquet. -: JSON Lines to standard output.",
        file="output",
    )
    text: Any = setting(
        None,
        "Text to predict, or a list of texts, instead of input. (With input, text=<column> is"
        " still read as columns=<column>, as up to 0.1.0.)",
    )
    text_pair: str | None = setting(
        None, "Second text of the pair, if the task has two. Together with text."
    )
    question: str | None = setting(
        None, "Question to answer, for question_answering. Together with context."
    )
    context: str | None = setting(None, "Text that contains the answer. Together with question.")
    checkpoint: str = setting("best", _CHECKPOINT_HELP)
    columns: Any = setting(
        None, "Text column, or a list of two columns. Null: data.text of the run."
    )
    sentence: Any = setting(
        None,
        "token_classification: column of the sentence in a table with one word per row. Null:"
        " data.sentence of the run, if the input has this column.",
    )
    keep: Any = setting(
        None,
        "Columns of the input to copy to the output: all, a name or a list such as [id,date]."
        " Null: none.",
    )
    skip_rows: int = setting(
        0,
        "Rows at the start of the input to leave out, to continue after an interruption.",
        at_least=0,
    )
    format: str | None = setting(
        None,
        "Format of the input. Null: data.format of the run if the input has the extension of its"
        " training file, else by the extension and content of the input.",
        choices=READERS.names(),
    )
    separator: str | None = setting(
        None,
        "Column separator; write tab for a tab character. Null: data.separator of the run, or"
        " detected from the input.",
    )
    quoting: bool | None = setting(
        None,
        "Whether fields can be enclosed in double quotes. Null: data.quoting of the run.",
    )
    encoding: str | None = setting(
        None, "Text encoding of the input. Null: data.encoding of the run."
    )
    header: bool | None = setting(
        None,
        "Whether the first line has the column names. Null: data.header of the run, or true if"
        " columns is a name.",
    )
    on_bad_row: str = setting(
        "error",
        "What to do with invalid rows. error: stop and list them. skip: write the reason in the"
        " field error in place of a prediction, and add the field line, the line number, to every"
        " row of the output.",
        choices=BAD_ROW_POLICIES,
    )
    precision: str | None = setting(None, _PRECISION_HELP, choices=("auto", *PRECISIONS))
    device: str = setting("auto", _DEVICE_HELP)
    trust_remote_code: bool = setting(False, _TRUST_HELP)
    threshold: float | None = setting(
        None,
        "Decision threshold. multi_label: probability of a label. Two classes: probability of the"
        " second class. question_answering: probability of no answer. Null: that of the run.",
        above=0,
        below=1,
    )


@dataclass
class VerifyConfig:
    """Verify the checksums of a run's files, checkpoints and base model."""

    run: str = setting(MISSING, "Run folder.", file="input")


@dataclass
class ReportConfig:
    """Regenerate report.html and plots/ of a finished run."""

    run: str = setting(MISSING, "Folder of a finished run.", file="input")
    device: str = setting("auto", _DEVICE_HELP)
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class CompareConfig:
    """Compare finished runs: metrics, paired differences and costs, as a table and a page."""

    runs: Any = setting(
        MISSING,
        "Runs to compare: a list of run folders, sweep folders or folders of runs, as in [one,two];"
        " or a single folder.",
        file="input",
    )
    against: str | None = setting(
        None,
        "Run that the others are compared with: its folder, or its name in the table. Null: the"
        " best run on the same rows.",
        file="input",
    )
    draws: int = setting(
        10_000,
        "Number of bootstrap samples of the validation rows for the confidence intervals. 0: no"
        " intervals, and nothing is evaluated.",
        at_least=0,
    )
    out: str | None = setting(
        None,
        "Output page (.html), or a folder for compare.html. Null: hydra.run.dir, a new"
        " folder in outputs/compare.",
        file="output",
    )
    device: str = setting("auto", _DEVICE_HELP)
    trust_remote_code: bool = setting(False, _TRUST_HELP)


@dataclass
class InitConfig:
    """Write a commented YAML file of settings for bertft train config=<file>."""

    train: str | None = setting(
        None,
        "Training file. Its columns and task are detected and written to the output.",
        file="input",
    )
    task: str | None = setting(
        None,
        "Task type of the training file. null: detected from its columns or its format.",
        choices=TASKS.names(),
    )
    output: str = setting("bertft.yaml", "Output file.", file="output")
    force: bool = setting(False, "Overwrite the output file if it exists.")


@dataclass
class InspectConfig:
    """Show what is detected in training files, and the command that trains on them."""

    data: DataConfig = group(
        DataConfig, "Files to inspect, and settings that replace the detected ones."
    )
    model: ModelConfig = group(ModelConfig, "Pretrained encoder, whose tokenizer is used.")
    rows: int = setting(5, "Number of rows to show as the model reads them.", at_least=0)
    output: str = setting(
        "text",
        "Form of the result on standard output. text: tables. json: one JSON object.",
        choices=("text", "json"),
    )


@dataclass
class InspectRequest(InspectConfig):
    """The settings of inspect, and the paths of the settings that are on the command line."""

    explicit_settings: frozenset[str] = frozenset()


@dataclass
class DoctorConfig:
    """Check what this machine supports and whether training works on it."""

    device: str = setting("auto", _DEVICE_HELP)
    timeout: float = setting(3.0, "Seconds to wait for the Hub or its mirror.", above=0, at_most=60)


COMMAND_CONFIGS: dict[str, type] = {
    "train": TrainConfig,
    "tune": TuneConfig,
    "cross_validate": CrossValidateConfig,
    "eval": EvalConfig,
    "merge": MergeConfig,
    "export": ExportConfig,
    "predict": PredictConfig,
    "verify": VerifyConfig,
    "report": ReportConfig,
    "compare": CompareConfig,
    "init": InitConfig,
    "inspect": InspectConfig,
    "doctor": DoctorConfig,
}
# They have all settings of TrainConfig.
TRAINING_COMMANDS = ("train", "tune", "cross_validate")
