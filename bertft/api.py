"""The Python API: what the commands do, on rows in memory and with results as objects.

    import bertft
    run = bertft.train(rows, method="lora", model="minilm")
    run.metrics["best"]                         # what metrics.json holds
    model = bertft.load(run.path)               # or a merged folder or an adapter
    model.predict(["A film to remember."])      # the dicts that ``bertft predict`` writes
    run.merge("merged")
    bertft.compare([run.path, "outputs/other"])

Every function runs the command of its name in this process: the same settings, checks, run folder
and numbers. Errors are those of ``bertft.errors``, raised and not printed; warnings go to the
logger ``bertft``. Rows in memory are written as Parquet into the run folder, so that the run can be
resumed, evaluated and verified.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bertft.errors import DataError, UsageError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from bertft.pipeline.loaded_model import LoadedModel
    from bertft.report.compare.comparison import Comparison

__all__ = ["Predictor", "Report", "Rows", "Run", "compare", "load", "train"]


class DataFrame(Protocol):
    """What is needed of a pandas DataFrame; pandas itself is not required."""

    @property
    def iloc(self) -> Any: ...


Rows: TypeAlias = (
    "str | os.PathLike[str] | Sequence[Mapping[str, Any]] | DataFrame | datasets.Dataset"
)
_LOGGER = logging.getLogger("bertft")


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
        data: the training rows: a path, a preset of ``data=`` ("sample", "sst2"), a DataFrame, a
            ``datasets.Dataset`` or a list of dicts. Columns are called ``text`` and ``label``
            unless ``overrides`` name others (``data.text=...``, ``data.label=...``).
        validation: the validation rows; None: a stratified tenth of the training rows.
        method: a preset of ``method=``.
        model: a preset of ``model=``, a folder, a run or a Hub id.
        output_dir: the run folder; None: a new one under ``outputs/train``.
        overrides: further settings as on the command line, ``["trainer.epochs=1", "seed=3"]``.
        quiet: print only the result.

    Returns:
        The finished run.

    Raises:
        UsageError: a setting is unknown or has an invalid value; the message lists all of them.
        DataError: a file or row cannot be used.
        BertftError: any other failure of the command (``bertft.errors`` has the tree).

    Example:
        >>> rows = [{"text": "so good", "label": "pos"}, {"text": "so dull", "label": "neg"}] * 20
        >>> run = bertft.train(rows, model="tiny", overrides=["trainer.max_steps=5"])
        >>> run.metrics["best"]["metric"]
        'accuracy'
    """
    from bertft.config.presets import find_presets

    path = Path(output_dir).expanduser() if output_dir is not None else _new_run_folder(method)
    words = [f"method={method}", f"hydra.run.dir={path}", *overrides]
    name = os.fspath(model)
    words.append(f"model={name}" if name in find_presets("model") else f"model.path={name}")
    if isinstance(data, str) and data in find_presets("data") and not Path(data).exists():
        words.append(f"data={data}")
    else:
        words += ["data=files", f"data.train={_as_file(data, path, 'train')}"]
    if validation is not None:
        words.append(f"data.validation={_as_file(validation, path, 'validation')}")
    if quiet:
        words.append("quiet=true")
    _run("train", words)
    return Run(path)


def load(
    path: str | os.PathLike[str],
    *,
    checkpoint: str = "best",
    precision: str | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Predictor:
    """Open the model of a run, a merged folder, a transformers folder or an adapter.

    Args:
        path: the folder.
        checkpoint: of a run: "best", "last" or a step.
        precision: None: that of a run's training, fp32 for every other folder.
        device: "auto", "cpu", "cuda" or "cuda:1".
        trust_remote_code: execute code that comes with the model.

    Raises:
        UsageError: the folder is not a model that bertft can open.
        DataError: a file of it is damaged.
    """
    from bertft.pipeline.open_model import open_model

    folder = os.fspath(path)
    loaded = open_model(
        folder,
        checkpoint=checkpoint,
        precision=precision,
        device=device,
        warn=_LOGGER.warning,
        trust_remote_code=trust_remote_code,
    )
    return Predictor(loaded, folder, device)


def compare(
    runs: Sequence[Run | str | os.PathLike[str]],
    *,
    against: str | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Compare finished runs of one task and metric, as ``bertft compare`` does.

    Args:
        runs: runs, or folders of runs such as sweeps.
        against: the run that differences refer to; None: the best one.
        out: also write the HTML page there.

    Returns:
        The comparison: ``rows`` hold value ± std, parameters, and the difference with its 95 %
        interval and p.

    Raises:
        UsageError: the runs are not comparable.
    """
    from bertft.config.command_configs import CompareConfig
    from bertft.report.compare.comparison import compare_runs
    from bertft.report.compare.page import render_comparison
    from bertft.report.compare.read import check_comparable, read_runs
    from bertft.report.compare.row_statistics import load_row_statistics
    from bertft.utils.atomic_io import atomic_write_text

    names = [os.fspath(each.path if isinstance(each, Run) else each) for each in runs]
    finished = read_runs(names, _LOGGER.warning)
    check_comparable(finished)
    comparison = compare_runs(
        finished,
        against,
        CompareConfig.draws,
        lambda run: load_row_statistics(run.folder, "auto", _LOGGER.info, False),
    )
    if out is not None:
        atomic_write_text(Path(out).expanduser(), render_comparison(comparison))
    return comparison


class Run:
    """A finished run.

    Attributes:
        path: its folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from bertft.runs.run_folder import RunFolder

        self.path = Path(path).expanduser()
        self._folder = RunFolder.open(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``: best, validation, test, train, parameters."""
        from bertft.runs.metrics_json import read_metrics_json

        return read_metrics_json(self._folder.metrics_path)

    def load(self, **settings: Any) -> Predictor:
        """The model of the run; ``settings`` as those of ``bertft.load``."""
        return load(self.path, **settings)

    def predict(self, rows: Sequence[str] | Rows) -> list[dict[str, Any]]:
        """The answers of the best checkpoint; see ``Predictor.predict``."""
        return self.load().predict(rows)

    def evaluate(self, rows: Rows) -> dict[str, float]:
        """The metrics of the best checkpoint on ``rows``; see ``Predictor.evaluate``."""
        return self.load().evaluate(rows)

    def merge(self, out: str | os.PathLike[str], *, overrides: Sequence[str] = ()) -> Path:
        """Fold the updates into the base and write a transformers folder, as ``bertft merge``.

        Raises:
            MergeError: the merged model would answer differently; nothing is written.
        """
        _run("merge", [f"run={self.path}", f"out={os.fspath(out)}", *overrides])
        return Path(out).expanduser()

    def export(
        self, out: str | os.PathLike[str], *, format: str = "peft", overrides: Sequence[str] = ()
    ) -> Path:
        """Write the model in another ``format``, "peft" or "onnx", as ``bertft export`` does."""
        words = [f"run={self.path}", f"out={os.fspath(out)}", f"format={format}", *overrides]
        _run("export", words)
        return Path(out).expanduser()

    def report(self) -> Report:
        """The report of the run, which is written now if the run has none."""
        if not self._folder.report_path.is_file():
            _run("report", [f"run={self.path}"])
        return Report(self._folder.report_path)

    def __repr__(self) -> str:
        best = self.metrics["best"]
        return f"Run({str(self.path)!r}, {best['metric']}={best['value']})"

    def _repr_html_(self) -> str:
        """The metrics as a table, in Jupyter."""
        metrics = self.metrics
        splits = {name: metrics.get(name) or {} for name in ("validation", "test")}
        splits = {name: values for name, values in splits.items() if values}
        names = list(dict.fromkeys(name for values in splits.values() for name in values))
        head = "".join(f"<th>{split}</th>" for split in splits)
        body = "".join(
            f"<tr><th>{html.escape(name)}</th>"
            + "".join(f"<td>{_format(values.get(name))}</td>" for values in splits.values())
            + "</tr>"
            for name in names
        )
        caption = html.escape(str(self.path))
        return f"<table><caption>{caption}</caption><tr><th></th>{head}</tr>{body}</table>"


class Report:
    """``report.html`` of a run. In Jupyter it shows itself.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="800" frameborder="0"></iframe>'


class Predictor:
    """A model that answers and is scored; ``bertft.load`` makes it."""

    def __init__(self, loaded: LoadedModel, path: str, device: str) -> None:
        self._loaded, self._path, self._device = loaded, path, device

    @property
    def task(self) -> str:
        """The name of its task, as in ``data.task``."""
        return self._loaded.task_model.task.name

    @property
    def labels(self) -> list[str] | None:
        """The names of its classes, in the order of the outputs; None where it has none."""
        return self._loaded.info.labels

    def predict(self, rows: Sequence[str] | Rows) -> list[dict[str, Any]]:
        """One answer per row, in order: the dicts that ``bertft predict`` writes.

        Args:
            rows: texts, or rows with the columns of the training data (labels are not read).

        Raises:
            DataError: a row cannot be answered; it is named by its number.
        """
        from bertft.data.splits import load_inputs
        from bertft.tasks.task import build_unlabelled_features
        from bertft.training.evaluate import predict_logits

        loaded = self._loaded
        model, task = loaded.task_model, loaded.task_model.task
        column = loaded.data.text if isinstance(loaded.data.text, str) else "text"
        with tempfile.TemporaryDirectory() as folder:
            path = _as_file(_with_column(rows, column), Path(folder), "rows")
            inputs = load_inputs(str(path), loaded.data)
            table = build_unlabelled_features(
                inputs, task, model.tokenizer, loaded.info.max_length, None, "error"
            )
            logits = predict_logits(
                model.runner, table, model.precision, transform=task.predict_transform
            )
            return list(task.decode_predictions(logits, table))

    def evaluate(self, rows: Rows) -> dict[str, float]:
        """The metrics on labelled ``rows``, as ``bertft eval run=... data.validation=...``.

        Raises:
            DataError: a row or its label cannot be used.
        """
        from bertft.utils.safe_files import read_json_object

        with tempfile.TemporaryDirectory() as folder:
            path = _as_file(rows, Path(folder), "rows")
            out = Path(folder) / "eval"
            source = "adapter" if self._loaded.is_adapter else "run"
            words = [f"{source}={self._path}", f"data.validation={path}", f"device={self._device}"]
            with contextlib.redirect_stdout(_Discard()):
                _run("eval", [*words, f"hydra.run.dir={out}"])
            validation: dict[str, float] = read_json_object(out / "metrics.json")["validation"]
            return validation


def _run(command: str, words: Sequence[str]) -> None:
    """The command in this process. Its errors are raised; its warnings are logged."""
    from bertft.cli.app import run_command
    from bertft.utils.terminal import log_warnings

    with log_warnings(_LOGGER):
        run_command(command, list(words))


def _new_run_folder(method: str) -> Path:
    now = datetime.now()
    day = Path("outputs") / "train" / f"{now:%Y-%m-%d}"
    for number in itertools.count(1):
        suffix = "" if number == 1 else f"-{number}"
        path = day / f"{now:%H-%M-%S}-{method}-python{suffix}"
        if not path.exists():
            return path
    raise AssertionError("unreachable")


def _as_file(rows: Any, folder: Path, name: str) -> Path:
    """``rows`` if they are a path, else the Parquet file that they are written to."""
    if isinstance(rows, (str, os.PathLike)):
        return Path(rows).expanduser()
    table = _as_table(rows, name)
    path = folder / "rows" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    import pyarrow.parquet as pq

    pq.write_table(table, path)
    return path


def _as_table(rows: Any, name: str) -> pa.Table:
    import pyarrow as pa

    try:
        if hasattr(rows, "data") and isinstance(getattr(rows.data, "table", None), pa.Table):
            return rows.with_format("arrow")[:]  # a datasets.Dataset, its selection applied
        if hasattr(rows, "iloc"):  # a DataFrame
            return pa.Table.from_pandas(rows, preserve_index=False)
        rows = list(rows)
        if not all(isinstance(row, Mapping) for row in rows):
            raise UsageError(
                f"{name}: rows must be dicts, a DataFrame, a datasets.Dataset or a path",
                hint="For example [{'text': 'so good', 'label': 'pos'}]",
            )
        names = list(dict.fromkeys(key for row in rows for key in row))
        return pa.table({key: [row.get(key) for row in rows] for key in names})
    except (pa.ArrowException, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"the rows cannot be written as columns ({reason})",
            where=name,
            hint="Each column needs values of one type",
        ) from error


def _with_column(rows: Any, column: str) -> Any:
    """Plain texts as rows with one ``column``."""
    if isinstance(rows, (str, os.PathLike)) or hasattr(rows, "iloc") or hasattr(rows, "data"):
        return rows
    rows = list(rows)
    if rows and all(isinstance(row, str) for row in rows):
        return [{column: text} for text in rows]
    return rows


def _format(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else html.escape(str(value))


class _Discard:
    """Text that nobody reads."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False
