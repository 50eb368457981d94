"""The Python API: the commands as functions, which also take rows in memory.

    import bertft
    run = bertft.train(rows, method="lora", model="minilm")
    run.metrics["best"]                         # the content of metrics.json
    model = bertft.load(run.path)               # or a merged folder or an adapter
    model.predict(["A film to remember."])      # one dict per row, as ``bertft predict`` writes

Every function runs the command of its name in this process, with the same settings, checks, run
folder and numbers. Errors are raised as exceptions of ``bertft.errors``; warnings go to the logger
``bertft``. Rows in memory are written to the run folder as Parquet, for later commands on the run.
"""

from __future__ import annotations

import contextlib
import html
import io
import itertools
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bertft.errors import DataError, UsageError
from bertft.utils.messages import expand_home
from bertft.utils.system_errors import convert_system_errors

if TYPE_CHECKING:
    import datasets

    from bertft.data.rows_in_memory import DataFrame
    from bertft.pipeline.loaded_model import LoadedModel
    from bertft.report.compare.comparison import Comparison

__all__ = ["Predictor", "Report", "Rows", "Run", "compare", "load", "train"]

Rows: TypeAlias = (
    "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Sequence[Mapping[str, Any]]"
    " | DataFrame | datasets.Dataset"
)
_LOGGER = logging.getLogger("bertft")
# Settings that train sets or does not support, with what to do instead.
_NOT_OVERRIDES = {
    "data": "Set the argument data",
    "method": "Set the argument method",
    "model": "Set the argument model",
    "model.path": "Set the argument model",
    "hydra.run.dir": "Set the argument output_dir",
    "check": "Use the command bertft train check=true",
    "trainer.stop_at": "Use the command bertft train trainer.stop_at=<step>",
}


@convert_system_errors()
def train(
    data: Rows,
    validation: Rows | None = None,
    *,
    method: str = "lora",
    model: str | os.PathLike[str] = "minilm",
    output_dir: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
) -> Run:
    """Fine-tune an encoder, as ``bertft train`` does.

    Args:
        data: training rows: a path or a list of paths, a preset of ``data=`` ("sample", "sst2"),
            a DataFrame, a ``datasets.Dataset`` or a list of dicts. The columns are ``text`` and
            ``label`` unless ``overrides`` set other names (``data.text=...``, ``data.label=...``).
        validation: validation rows; None: those of the preset, or a part of the training rows
            (``data.validation_fraction``).
        method: a preset of ``method=``.
        model: a preset of ``model=``, a model folder, a run folder or a Hub id.
        output_dir: the run folder; None: a new folder in ``outputs/train``.
        overrides: further settings as on the command line, ``["trainer.epochs=1", "seed=3"]``.
        quiet: print only the result.

    Returns:
        The finished run.

    Raises:
        UsageError: settings are unknown or have invalid values; the message lists all of them.
        DataError: a file or row is invalid.
        BertftError: any other failure of the command; ``bertft.errors`` lists the subclasses.

    Example:
        >>> rows = [{"text": "so good", "label": "pos"}, {"text": "so dull", "label": "neg"}] * 20
        >>> run = bertft.train(rows, model="tiny", overrides=["trainer.max_steps=5"])
        >>> run.metrics["best"]["metric"]
        'accuracy'
    """
    from bertft.config.overrides import check_overrides, format_value
    from bertft.config.presets import find_presets
    from bertft.data.rows_in_memory import rows_to_files

    check_overrides(overrides, _NOT_OVERRIDES)
    path = (
        expand_home(output_dir, "output_dir") if output_dir is not None else _new_run_folder(method)
    )
    arguments = [f"method={method}", f"hydra.run.dir={path}", *overrides]
    name = os.fspath(model)
    arguments.append(f"model={name}" if name in find_presets("model") else f"model.path={name}")
    if isinstance(data, str) and data in find_presets("data") and not Path(data).exists():
        arguments.append(f"data={data}")
    else:
        # A preset would replace the columns in a file of config=.
        has_config = any(override.startswith("config=") for override in overrides)
        arguments += [] if has_config else ["data=files"]
        arguments.append(f"data.train={format_value(rows_to_files(data, path, 'train'))}")
    if validation is not None:
        files = rows_to_files(validation, path, "validation")
        arguments.append(f"data.validation={format_value(files)}")
    if quiet:
        arguments.append("quiet=true")
    _run_command("train", arguments)
    return Run(path)


@convert_system_errors()
def load(
    path: str | os.PathLike[str],
    *,
    checkpoint: str = "best",
    precision: str | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Predictor:
    """Load the model of a run, merged or transformers folder, adapter or ONNX graph.

    Args:
        path: the folder.
        checkpoint: "best", "last" or a step, for a run.
        precision: None: the precision of training for a run, fp32 for other folders.
        device: "auto", "cpu", "cuda" or "cuda:1".
        trust_remote_code: execute Python code from the model folder or repository.

    Returns:
        The loaded model. An ONNX graph needs the package onnxruntime.

    Raises:
        UsageError: the folder does not have a supported model.
        DataError: a file in it is damaged.

    Example:
        >>> bertft.load("outputs/reviews", device="cpu").predict(["so good"])[0]["label"]
        'pos'
    """
    from bertft.pipeline.open_model import open_model

    loaded = open_model(
        os.fspath(path),
        checkpoint=checkpoint,
        precision=precision,
        device=device,
        warn=_LOGGER.warning,
        trust_remote_code=trust_remote_code,
        accepts_onnx=True,
    )
    settings = {
        "checkpoint": checkpoint,
        "precision": "null" if precision is None else precision,
        "device": device,
        "trust_remote_code": str(trust_remote_code).lower(),
    }
    return Predictor(loaded, os.fspath(path), [f"{n}={value}" for n, value in settings.items()])


@convert_system_errors()
def compare(
    runs: Sequence[Run | str | os.PathLike[str]],
    *,
    against: str | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Compare finished runs of one task and metric, as ``bertft compare`` does.

    Args:
        runs: runs, run folders, or folders of runs such as sweeps.
        against: the baseline of the differences, a run folder or a name in the table; None: the
            best one.
        out: file to which the HTML page is written; None: no page.

    Returns:
        The comparison. Its ``rows`` have value ± std, parameters, and the difference with its 95 %
        confidence interval and p-value.

    Raises:
        UsageError: the runs are not comparable.

    Example:
        >>> bertft.compare(["outputs/lora", "outputs/full"], out="compare.html").rows[0].name
        'full'
    """
    from bertft.config.command_configs import CompareConfig
    from bertft.report.compare.comparison import compare_runs
    from bertft.report.compare.page import render_comparison
    from bertft.report.compare.read import check_comparable, read_runs
    from bertft.report.compare.row_statistics import load_row_statistics
    from bertft.report.compare.table import DisplayedComparison
    from bertft.utils.atomic_io import atomic_write_text

    paths = [os.fspath(run.path if isinstance(run, Run) else run) for run in runs]
    finished_runs = read_runs(paths, _LOGGER.warning)
    check_comparable(finished_runs)
    comparison = compare_runs(
        finished_runs,
        against,
        CompareConfig.draws,
        lambda run: load_row_statistics(run.folder, "auto", _LOGGER.info, False),
    )
    if out is not None:
        atomic_write_text(Path(out).expanduser(), render_comparison(comparison))
    return DisplayedComparison(**vars(comparison))


class Run:
    """A finished run.

    Attributes:
        path: the run folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from bertft.runs.run_folder import RunFolder

        self.path = expand_home(path, "run")
        self._folder = RunFolder.open(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``: best, validation, test, train, parameters."""
        from bertft.runs.metrics_json import read_metrics_json

        return dict(read_metrics_json(self._folder.metrics_path))

    def load(self, **settings: Any) -> Predictor:
        """Load the model of the run; ``settings`` are keyword arguments of ``bertft.load``."""
        return load(self.path, **settings)

    def predict(
        self, rows: Iterable[str | Mapping[str, Any]] | Rows, **settings: Any
    ) -> list[dict[str, Any]]:
        """Predict with the best checkpoint; the arguments are those of ``Predictor.predict``."""
        return self.load().predict(rows, **settings)

    def evaluate(self, rows: Rows, *, overrides: Sequence[str] = ()) -> dict[str, float]:
        """Evaluate the best checkpoint on ``rows``; see ``Predictor.evaluate``."""
        return self.load().evaluate(rows, overrides=overrides)

    def merge(self, out: str | os.PathLike[str], *, overrides: Sequence[str] = ()) -> Path:
        """Merge the updates into the base model and write a transformers folder to ``out``.

        Raises:
            MergeError: the merged model would give other predictions; nothing is written.
        """
        _run_command("merge", [f"run={self.path}", f"out={os.fspath(out)}", *overrides])
        return Path(out).expanduser()

    def export(
        self, out: str | os.PathLike[str], *, format: str = "peft", overrides: Sequence[str] = ()
    ) -> Path:
        """Write the model in another ``format``, "peft" or "onnx", as ``bertft export`` does."""
        arguments = [f"run={self.path}", f"out={os.fspath(out)}", f"format={format}", *overrides]
        _run_command("export", arguments)
        return Path(out).expanduser()

    def report(self) -> Report:
        """The report of the run. It is written first if it does not exist."""
        if not self._folder.report_path.is_file():
            _run_command("report", [f"run={self.path}"])
        return Report(self._folder.report_path)

    def __repr__(self) -> str:
        best = self.metrics["best"]
        return f"Run({str(self.path)!r}, {best['metric']}={best['value']})"

    def _repr_html_(self) -> str:
        """The metrics as a table, in Jupyter."""
        from bertft.export.result_tables import metrics_table
        from bertft.report.html_table import html_table

        metrics = self.metrics
        splits = {name: metrics.get(name) for name in ("validation", "test")}
        table = metrics_table(splits, metrics["best"]["metric"], title=str(self.path))
        return html.escape(repr(self)) if table is None else html_table(table)


class Report:
    """The ``report.html`` of a run, which Jupyter displays.

    Attributes:
        path: the path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="800" frameborder="0"></iframe>'


class Predictor:
    """A loaded model for prediction and evaluation, created by ``bertft.load``."""

    def __init__(self, loaded: LoadedModel, path: str, arguments: Sequence[str]) -> None:
        """``arguments`` are those with which a command loads the same model from ``path``."""
        self._loaded, self._path, self._arguments = loaded, path, list(arguments)

    @property
    def task(self) -> str:
        """The task of the model, as in ``data.task``."""
        return self._loaded.task_model.task.name

    @property
    def labels(self) -> list[str] | None:
        """The class names in the order of the outputs; None if the task has no classes."""
        return self._loaded.info.labels

    def __repr__(self) -> str:
        facts = [f"{name}={value!r}" for name, value in self._loaded.describe().items()]
        return f"Predictor({', '.join([repr(self._path), *facts])})"

    def _repr_html_(self) -> str:
        """The facts of ``repr`` as a table, in Jupyter."""
        from bertft.report.html_table import facts_table

        return facts_table(self._path, self._loaded.describe())

    def predict(
        self,
        rows: Iterable[str | Mapping[str, Any]] | Rows,
        *,
        on_bad_row: str = "error",
        keep: str | Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return one dict per row, in order, as ``bertft predict`` writes them.

        Args:
            rows: texts, or rows with the columns of the training data (labels are not read).
            on_bad_row: "error": raise at an invalid row; "skip": its dict has ``error`` and null
                values, and every dict has the number of its row as ``line``.
            keep: columns of ``rows`` to copy to the dicts: a list of names, or "all".

        Raises:
            DataError: a row is invalid; the message contains its number.
        """
        return list(self.predict_iter(rows, on_bad_row=on_bad_row, keep=keep))

    def predict_iter(
        self,
        rows: Iterable[str | Mapping[str, Any]] | Rows,
        *,
        on_bad_row: str = "error",
        keep: str | Sequence[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield what ``predict`` returns, in blocks of at most some thousands of rows.

        ``rows`` may also be an iterator: it is read as the predictions are consumed, so that
        memory does not depend on the number of rows. An invalid row of an iterator is an error
        after the predictions of the rows before it; other rows are all checked first.

        Raises:
            DataError: a row is invalid.
            UsageError: an argument is invalid.

        Example:
            >>> with open("new.txt") as file:
            ...     for prediction in model.predict_iter(line.strip() for line in file):
            ...         print(prediction["label"])
        """
        from bertft.config.choices import BAD_ROW_POLICIES
        from bertft.config.data_files import inherited_format
        from bertft.data.prediction_rows import check_rows, open_input_file
        from bertft.data.rows_in_memory import open_rows, rows_file
        from bertft.pipeline.prediction import RowPredictor

        if on_bad_row not in BAD_ROW_POLICIES:
            raise UsageError(
                f"invalid value {on_bad_row!r}",
                where="on_bad_row",
                hint=f"Set it to {' or '.join(BAD_ROW_POLICIES)}",
            )
        # on_bad_row of the run is for its training rows.
        data = replace(self._loaded.data, on_bad_row=on_bad_row)
        if self._loaded.unnamed_tags_message:
            _LOGGER.warning(self._loaded.unnamed_tags_message)
        with _arguments_in_errors(), convert_system_errors():
            if isinstance(rows, (str, os.PathLike)):
                data = replace(data, format=inherited_format(data.format, data.train, str(rows)))
                source = open_input_file(rows_file(rows), data, keep)
            else:
                source = open_rows(rows, data, keep)
            if source.is_repeatable:
                check_rows(source, data)
            predictor = RowPredictor(self._loaded, source, on_bad_row)
            for block in predictor.iter_blocks():
                yield from block
            predictor.check_complete()
        for note in predictor.notes:
            _LOGGER.warning(note)

    @convert_system_errors()
    def evaluate(self, rows: Rows, *, overrides: Sequence[str] = ()) -> dict[str, float]:
        """Return the metrics on labelled ``rows``, as ``bertft eval`` does.

        Args:
            rows: rows with the columns of the training data.
            overrides: further settings of ``bertft eval``. A run that was trained with a Python
                function as its metric needs ``["data.metric=package.module:function"]`` again.

        Raises:
            DataError: a row or its label is invalid.
        """
        from bertft.config.data_files import inherited_format
        from bertft.config.resume import metric_code_error
        from bertft.config.task_facts import is_metric_function
        from bertft.data.rows_in_memory import rows_to_files
        from bertft.pipeline.recorded_rows import load_split

        loaded = self._loaded
        with tempfile.TemporaryDirectory() as folder:
            files = rows_to_files(rows, Path(folder), "rows")
            if overrides:
                return self._run_eval(files, Path(folder) / "eval", overrides)
            if is_metric_function(metric := loaded.task_model.task.metric):
                raise metric_code_error(loaded.folder, metric)
            data_format = inherited_format(loaded.data.format, loaded.data.train, files)
            data = replace(loaded.data, validation=files, format=data_format, group=None)
            if data.source == "sample":  # the rows replace those of the bundled data set
                data = replace(data, source="files", sample=None)
            loaded = replace(loaded, data=data)
            split = load_split(loaded, "validation", _LOGGER.info, {"data.validation"})
            for note in split.bad.notes:
                _LOGGER.warning(note)
            return loaded.evaluate(loaded.build_features("validation", split))

    def _run_eval(self, files: Any, out: Path, overrides: Sequence[str]) -> dict[str, float]:
        """Evaluate with further settings, which may change what is loaded."""
        from bertft.config.overrides import format_value
        from bertft.utils.safe_files import read_json_object

        arguments = [
            f"{'adapter' if self._loaded.is_adapter else 'run'}={self._path}",
            *self._arguments,
            f"data.validation={format_value(files)}",
            f"hydra.run.dir={out}",
            "report=false",
            *overrides,
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            _run_command("eval", arguments)
        metrics: dict[str, float] = read_json_object(out / "metrics.json")["validation"]
        return metrics


@contextlib.contextmanager
def _arguments_in_errors() -> Iterator[None]:
    """Replace settings of train in errors by what the caller can change."""
    try:
        yield
    except DataError as error:
        pairs = [("data.on_bad_row=skip", 'on_bad_row="skip"')]
        if error.what.startswith("data.text: column"):
            action = "Rename the column or key of the text"
            pairs += [("data.text: ", ""), ("Set data.text=<column>", action)]
            pairs += [("Did you mean ", f"{action}; is it ")]
        for setting, argument in pairs:
            error.what = error.what.replace(setting, argument)
            error.hint = error.hint and error.hint.replace(setting, argument)
        raise


def _run_command(command: str, arguments: Sequence[str]) -> None:
    """Run the command in this process. Its errors are raised, its warnings are logged."""
    from bertft.cli.app import run_command
    from bertft.config.overrides import check_overrides
    from bertft.utils.terminal import log_warnings

    check_overrides(arguments)
    with log_warnings(_LOGGER), convert_system_errors([command, *arguments]):
        run_command(command, list(arguments))


def _new_run_folder(method: str) -> Path:
    now = datetime.now()
    first = f"{now:%H-%M-%S}-{method}-python"
    names = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(2)))
    paths = (Path("outputs") / "train" / f"{now:%Y-%m-%d}" / name for name in names)
    return next(path for path in paths if not path.exists())
