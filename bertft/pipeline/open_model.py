"""Load a trained model: from a run, a merged folder, an adapter or a plain transformers folder.

The default precision is the same for all commands and functions. A run uses the precision of its
training, so that its metrics are those of its training. All other folders use fp32, so that their
predictions are the same on every machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from bertft.config.data import DataConfig
from bertft.config.method import MethodConfig
from bertft.config.model import ModelConfig
from bertft.config.registry import TASKS
from bertft.config.resume import read_runnable_config
from bertft.errors import DataError, UsageError
from bertft.methods import build_components
from bertft.models.model_config import check_config_values
from bertft.models.precision import choose_precision, recorded_precision, resolve_device
from bertft.models.source import ModelSource, check_model_folder, inner_hint
from bertft.models.tokenizer import load_tokenizer
from bertft.pipeline import base_model
from bertft.pipeline.adapter_folder import is_adapter_folder
from bertft.pipeline.calibration import (
    apply_calibration,
    is_calibration_requested,
    read_calibration,
)
from bertft.pipeline.checkpoint import (
    is_checkpoint,
    mismatched_entries,
    read_checkpoint_info,
    read_trained_weights,
)
from bertft.pipeline.head_settings import HeadSettings
from bertft.pipeline.loaded_model import LoadedModel, make_loaded_model
from bertft.pipeline.manifest import recorded_data
from bertft.pipeline.merged_folder import THRESHOLD_KEY, load_prefix_weights
from bertft.pipeline.model_info import INFO_FILE, parse_threshold, read_model_info
from bertft.pipeline.onnx_folder import is_onnx_folder, load_onnx_model
from bertft.pipeline.open_adapter import open_adapter
from bertft.pipeline.task_model import TaskModel, build_task_model
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.manifest import read_manifest
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.tasks.shared.sequence_task import class_names_in_config
from bertft.tasks.task import Threshold, build_task, detect_task
from bertft.utils.messages import add_location, expand_home, suggest
from bertft.utils.safe_files import read_json_object
from bertft.utils.status import show_status

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "OpenSettings",
    "load_folded_model",
    "open_folder",
    "open_from_settings",
    "open_model",
    "open_run",
]


def load_folded_model(run: RunFolder, trust_remote_code: bool) -> PreTrainedModel:
    """The model of the run's best checkpoint, on the CPU in fp32, with all components folded.

    Raises:
        UsageError: a component cannot be folded, or the model needs remote code and
            ``trust_remote_code`` is False.
    """
    task_model = open_model(
        str(run.path),
        precision="fp32",
        device="cpu",
        trust_remote_code=trust_remote_code,
        trust_setting="model.trust_remote_code",
    ).task_model
    if unfoldable := task_model.unfoldable_components:
        raise UsageError(
            f"the run {run.path} has a {unfoldable[0]}, which cannot be folded into weights",
            where="model.path",
            hint="Choose a run without one",
        )
    task_model.fold()
    return task_model.model


def open_run(
    run: RunFolder,
    checkpoint: str,
    precision: str | None,
    device: str,
    data: DataConfig | None,
    head_settings: HeadSettings,
    warn: Callable[[str], None],
    trust_remote_code: bool = False,
    trust_setting: str = "trust_remote_code",
    calibrated: bool = True,
) -> LoadedModel:
    """Load a checkpoint of ``run``; ``open_model`` describes the arguments."""
    config = read_runnable_config(run.path, trust_remote_code, trust_setting)
    manifest = read_manifest(run)
    resolved_device = resolve_device(device)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    if precision is None:
        run_precision = recorded_precision(manifest["precision"], resolved_device, run.path)
    else:
        run_precision = choose_precision(precision, resolved_device, "precision")
    folder = CheckpointStore(run.checkpoints_dir).find_checkpoint(checkpoint, warn=warn)
    info = read_checkpoint_info(folder)
    if checkpoint == "best" and run.is_finished:
        _check_best(run, info.step)
    for name, (value, recorded) in mismatched_entries(info, manifest).items():
        raise UsageError(
            f"the checkpoint has {name} {value}, but manifest.json has {recorded}",
            where=str(folder),
            hint="Restore the run folder: the two files belong to different runs",
        )
    head_settings.check_task(info.task)
    head_settings.class_names(info.labels, rename=False)
    source = base_model.find_recorded_base(manifest, run)
    tokenizer = load_tokenizer(replace(config.model, tokenizer=str(folder)), use_file_class=True)
    data = data or recorded_data(config.data, manifest)
    task = build_task(data, info.labels)
    torch.manual_seed(config.seed)
    with add_location(folder):
        task_model = build_task_model(
            source,
            config.model,
            build_components(config.method),
            task,
            tokenizer,
            run_precision,
            layout=manifest["layout"],
            fused_layers=config.trainer.fused_layers,
            weights=read_trained_weights(folder),
        )
    task_model.model.eval()
    is_requested = calibrated and is_calibration_requested(config)
    calibration = read_calibration(run, info.step) if is_requested else None
    if calibration is not None:
        apply_calibration(calibration, task_model)
    elif is_requested and checkpoint == "best":
        if run.is_finished:
            warn(f"{run.path}: the calibration belongs to another checkpoint and is not applied")
        else:
            warn(f"{run.path} is not finished: the model is not calibrated yet")
    return LoadedModel(
        task_model,
        data,
        info,
        run.path,
        run,
        config,
        folder,
        calibration,
        calibration["threshold"] if calibration is not None else None,
    )


def _check_best(run: RunFolder, step: int) -> None:
    """Raise DataError if ``best`` does not point to the best step in metrics.json."""
    best_step = read_metrics_json(run.metrics_path)["best"]["step"]
    if best_step not in (None, step):
        raise DataError(
            f"best points to step {step}, but metrics.json records step {best_step}",
            where=str(run.checkpoints_dir),
            hint="eval, predict, merge and export open a checkpoint by its step:"
            f" checkpoint={best_step}",
        )


def open_folder(
    folder: Path,
    precision: str,
    device: str,
    data: DataConfig | None,
    head_settings: HeadSettings,
    trust_remote_code: bool = False,
    accepts_onnx: bool = False,
) -> LoadedModel:
    """Load a merged or plain transformers folder, with its prefix if it has one, or an ONNX folder.

    ``open_model`` describes the arguments.
    """
    is_onnx = is_onnx_folder(folder)
    if is_onnx and not accepts_onnx:
        raise UsageError(
            "contains an ONNX graph, which only eval and predict support",
            where=str(folder),
            hint="Use the run or the merged folder that it was exported from",
        )
    check_model_folder(folder)
    config_file = folder / "config.json"
    config = read_json_object(config_file)
    check_config_values(config, str(config_file))
    info = read_model_info(folder)
    with _errors_with_path(config_file):
        outputs = len(class_names_in_config(config))
        config["problem_type"] = head_settings.problem_type(config.get("problem_type"), outputs)
        name, stored_labels = detect_task(config, _external_task(info.task))
    head_settings.check_task(name)
    labels = head_settings.class_names(stored_labels)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **info.prediction_settings)
    settings = ModelConfig(name=folder.name, path=str(folder), trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(settings)
    task = build_task(data, labels)
    source = ModelSource(folder.name, "folder", str(folder.resolve()))
    if is_onnx:
        task_model = load_onnx_model(settings, source, task, tokenizer, precision, device)
    else:
        task_model = build_task_model(
            source,
            settings,
            build_components(MethodConfig(name="merged", prefix=info.prefix)),
            task,
            tokenizer,
            choose_precision(precision, resolve_device(device), "precision"),
        )
        _check_head(folder, task_model)
        if info.prefix is not None:
            load_prefix_weights(folder, task_model.model)
    threshold = parse_threshold(config.get(THRESHOLD_KEY), str(config_file))
    with add_location(folder / INFO_FILE):
        task.set_conformal(info.conformal)
    return make_loaded_model(
        folder,
        task_model,
        data,
        labels,
        info.max_length,
        _rename_thresholds(threshold, stored_labels, labels),
        config_file,
    )


@contextlib.contextmanager
def _errors_with_path(file: Path) -> Iterator[None]:
    """Re-raise errors about ``config.json`` with the path of the file."""
    try:
        yield
    except UsageError as error:
        if error.where != file.name:
            raise
        raise UsageError(error.what, where=str(file), hint=error.hint) from error


def _external_task(task: str | None) -> str | None:
    """``task`` if a plugin registers it, else None: built-in tasks are detected from the head."""
    return task if task is not None and TASKS.package(task) is not None else None


def _rename_thresholds(
    threshold: Threshold | None, stored_labels: list[str] | None, names: list[str] | None
) -> Threshold | None:
    """Replace ``stored_labels`` by ``names``, those of the user, in thresholds per label."""
    if not isinstance(threshold, dict) or stored_labels is None or names is None:
        return threshold
    renamed = dict(zip(stored_labels, names, strict=True))
    return {renamed.get(label, label): value for label, value in threshold.items()}


def _check_head(folder: Path, task_model: TaskModel) -> None:
    """Raise DataError if weights of the head were missing or unused in loading."""
    missing, surplus = sorted(task_model.randomly_initialized), sorted(task_model.left_out)
    if surplus and task_model.task.needs_labels:  # BERT's pretraining head has a second output
        raise DataError(
            f"the head does not use the weights {', '.join(surplus[:3])}: the folder was saved"
            " from another model class",
            where=str(folder),
            hint="Such a head is not supported: its predictions would change",
        )
    if missing:
        raise DataError(
            f"there are no weights for {', '.join(missing[:3])}, or they have another shape",
            where=str(folder),
            hint="Restore the folder, or train a head first with bertft train",
        )


_FOLDER_PRECISION = "fp32"  # only runs record a precision


class OpenSettings(Protocol):
    """The settings with which a command selects a model: either ``run`` or ``adapter``."""

    run: str | None
    adapter: str | None
    base: str | None
    checkpoint: str
    device: str
    trust_remote_code: bool


def open_from_settings(
    settings: OpenSettings,
    precision: str | None = None,
    data: DataConfig | None = None,
    warn: Callable[[str], None] = lambda _: None,
    accepts_onnx: bool = False,
) -> LoadedModel:
    """Load the model that the settings of a command select (see ``open_model``)."""
    head_settings = HeadSettings.from_settings(data, settings)
    show_status(f"loading model {settings.adapter or settings.run}")
    if settings.adapter is None:
        assert settings.run is not None, "checked with the configuration"
        return open_model(
            settings.run,
            checkpoint=settings.checkpoint,
            precision=precision,
            device=settings.device,
            data=data,
            head_settings=head_settings,
            warn=warn,
            trust_remote_code=settings.trust_remote_code,
            accepts_onnx=accepts_onnx,
        )
    folder = expand_home(settings.adapter, "adapter")
    if not is_adapter_folder(folder):
        raise _missing_adapter_error(folder, settings.adapter)
    return open_adapter(
        folder,
        precision or _FOLDER_PRECISION,
        settings.device,
        data,
        head_settings,
        settings.base,
        settings.trust_remote_code,
    )


def open_model(
    path: str,
    *,
    checkpoint: str = "best",
    precision: str | None = None,
    device: str = "auto",
    data: DataConfig | None = None,
    head_settings: HeadSettings | None = None,
    warn: Callable[[str], None] = lambda _: None,
    trust_remote_code: bool = False,
    trust_setting: str = "trust_remote_code",
    accepts_onnx: bool = False,
    calibrated: bool = True,
) -> LoadedModel:
    """Load the model in ``path``, ready to evaluate.

    Args:
        path: a run, a merged folder, an adapter, a plain transformers folder or an ONNX folder.
        checkpoint: ``best``, ``last`` or a step; only for runs.
        precision: None: that of the training for a run, fp32 for any other folder.
        data: how rows are read; None: as the folder records it.
        head_settings: task and classes of the head; None: those of ``data``.
        warn: called with each warning.
        trust_remote_code: whether code that comes with a model may run. Only the command line
            can set it; what a folder records is ignored.
        trust_setting: the name of that setting, for messages.
        accepts_onnx: whether an ONNX folder may be loaded, which has no weights for torch.
        calibrated: whether what was fitted to the outputs of a run is applied (see
            ``bertft.pipeline.calibration``).
    """
    folder = expand_home(path, "run")
    head_settings = head_settings or HeadSettings.from_settings(data)
    if RunFolder(folder).has_run:
        return open_run(
            RunFolder(folder),
            checkpoint,
            precision,
            device,
            data,
            head_settings,
            warn,
            trust_remote_code,
            trust_setting,
            calibrated,
        )
    if is_adapter_folder(folder):
        return open_adapter(
            folder,
            precision or _FOLDER_PRECISION,
            device,
            data,
            head_settings,
            trust_remote_code=trust_remote_code,
        )
    if (folder / "config.json").is_file() and not is_checkpoint(folder):
        return open_folder(
            folder,
            precision or _FOLDER_PRECISION,
            device,
            data,
            head_settings,
            trust_remote_code,
            accepts_onnx,
        )
    if not folder.exists():
        raise _missing_folder_error(folder, path, "run")
    hint = inner_hint(path, "run")
    if hint is not None:
        raise UsageError(
            "contains neither a run nor a model with a config.json", where=str(folder), hint=hint
        )
    RunFolder.open(folder)  # raises an error with the closest valid folder
    raise AssertionError("unreachable")


def _missing_folder_error(folder: Path, path: str, setting: str) -> UsageError:
    """The error for a folder that does not exist, with those next to it that can be loaded."""
    entries = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
    if setting == "adapter":
        names = [entry.name for entry in entries if is_adapter_folder(entry)]
        expected = "adapter=<folder of a peft adapter>"
    else:
        names = [entry.name for entry in entries if _is_loadable(entry)]
        expected = "run=<run folder, merged folder or transformers folder>"
    return UsageError(
        f"there is no folder {path}",
        where=setting,
        hint=suggest(folder.name, names) or f"Set {expected}",
    )


def _is_loadable(folder: Path) -> bool:
    """Whether ``folder`` has a run, an adapter or a model."""
    has_model = (folder / "config.json").is_file()
    return has_model or RunFolder(folder).has_run or is_adapter_folder(folder)


def _missing_adapter_error(folder: Path, path: str) -> UsageError:
    """The error for a folder without an adapter, with the adapters in its subfolders.

    peft saves an adapter that is not named ``default`` in a subfolder.
    """
    if not folder.is_dir():
        return _missing_folder_error(folder, path, "adapter")
    adapters = sorted(inner.name for inner in folder.iterdir() if is_adapter_folder(inner))
    hint = "For a run or a plain transformers folder, set run=<folder>"
    if adapters:
        hint = f"Set adapter={path}/{adapters[0]} (adapters: {', '.join(adapters[:4])})"
    return UsageError(f"{path} has no adapter_config.json", where="adapter", hint=hint)
