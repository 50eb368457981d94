"""Open what training left: a run, a merged folder, an adapter, a plain transformers folder.

One rule of precision, for every command and function: where none is given, a run computes in the
one that it was trained in, so that its metrics are those of its training, and every other folder
in fp32, so that its answers are the same on every machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from bertft.config.data import DataConfig
from bertft.config.model import ModelConfig
from bertft.config.registry import METHODS, TASKS, readers_by_peft_type
from bertft.config.resume import read_runnable_config
from bertft.errors import DataError, UsageError
from bertft.methods.component import MethodComponent
from bertft.methods.peft_format import model_name
from bertft.models.dropout import replace_dropout
from bertft.models.loading import load_config, load_model, load_tokenizer
from bertft.models.model_config import check_config_values
from bertft.models.precision import Precision, choose_precision, resolve_device
from bertft.models.precision import recorded_precision as recorded_precision
from bertft.models.runner import EncoderRunner
from bertft.models.source import ModelSource, check_model_folder, inner_hint
from bertft.pipeline import base_model
from bertft.pipeline.adapter_folder import BERTFT_FILE, AdapterFolder, is_adapter_folder
from bertft.pipeline.batch_invariance import check_batch_invariance
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
from bertft.pipeline.manifest import read_manifest, recorded_data
from bertft.pipeline.merged_folder import THRESHOLD_KEY, load_prefix_weights, read_merged_info
from bertft.pipeline.task_model import TaskModel, build_task_model
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.metrics_json import read_metrics_json
from bertft.runs.run_folder import RunFolder
from bertft.tasks.shared.sequence_task import class_names_in_config
from bertft.tasks.task import BaseTask, detect_task
from bertft.tasks.task import build_task as build_task
from bertft.utils.messages import suggest
from bertft.utils.safe_files import read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "OpenSettings",
    "load_folded_model",
    "open_adapter",
    "open_folder",
    "open_from_settings",
    "open_model",
    "open_run",
]


def load_folded_model(run: RunFolder, trust_remote_code: bool) -> PreTrainedModel:
    """The model of the run's best checkpoint, on the CPU in fp32, all components folded.

    UsageError if a component cannot be folded, or if the model needs code that comes with it and
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
            f"the run {run.path} has a {unfoldable[0]}, which no weights can hold",
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
) -> LoadedModel:
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
    for name in mismatched_entries(info, manifest):
        found_value, recorded_value = getattr(info, name), manifest[name]
        raise UsageError(
            f"its {name} {found_value} {'are' if name == 'labels' else 'is'} not the run's"
            f" {recorded_value}",
            where=str(folder),
            hint="Checkpoint and manifest.json belong to different runs",
        )
    head_settings.check_task(info.task)
    head_settings.class_names(info.labels, rename=False)
    source = base_model.find_recorded_base(manifest, run)
    tokenizer = load_tokenizer(replace(config.model, tokenizer=str(folder)), use_file_class=True)
    data = data or recorded_data(config.data, manifest)
    task = build_task(data, info.labels)
    torch.manual_seed(config.seed)
    task_model = build_task_model(
        source,
        config.model,
        config.method,
        task,
        tokenizer,
        run_precision,
        layout=manifest["layout"],
        weights=read_trained_weights(folder),
    )
    task_model.model.eval()
    calibration = read_calibration(run, info.step) if is_calibration_requested(config) else None
    if calibration is not None:
        apply_calibration(calibration, task_model)
    elif is_calibration_requested(config) and checkpoint == "best":
        if run.is_finished:
            warn(f"{run.path}: what was fitted to its answers is of another step")
        else:
            warn(f"{run.path} is not finished: nothing is fitted to its answers yet")
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
    """DataError where ``best`` does not point at what metrics.json calls the best."""
    best_step = read_metrics_json(run.metrics_path)["best"]["step"]
    if best_step not in (None, step):
        raise DataError(
            f"best points to step {step}, but metrics.json tells of step {best_step}",
            where=str(run.checkpoints_dir),
            hint=f"Name the one that is meant, as checkpoint={best_step}",
        )


def open_adapter(
    folder: Path,
    precision: str,
    device: str,
    data: DataConfig | None,
    head_settings: HeadSettings,
    base: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """An adapter in peft's format; what a foreign one does not tell is read off its head."""
    adapter = AdapterFolder(folder, base, trust_remote_code)
    tokenizer, info = adapter.tokenizer(), adapter.info
    name, labels = adapter.task_and_labels(tokenizer, head_settings)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **info.get("answering", {}))
    task = build_task(data, labels)
    task_model = _build_adapter_model(
        adapter, task, tokenizer, choose_precision(precision, resolve_device(device), "precision")
    )
    threshold = (info.get("threshold"), folder / BERTFT_FILE)
    return make_loaded_model(folder, task_model, data, labels, info.get("max_length"), threshold)


def _build_adapter_model(
    adapter: AdapterFolder, task: BaseTask, tokenizer: Any, precision: Precision
) -> TaskModel:
    """The base with the adapter beside its layers, placed, in evaluation mode."""
    with adapter.adapter_errors():
        config, _ = load_config(adapter.model_settings, tokenizer, task.head_config())
        loaded = load_model(
            adapter.model_settings, config, adapter.source, task.auto_class, fresh_head=False
        )
    model: Any = loaded.model
    check_batch_invariance(model, tokenizer, task.level, task.reads_pairs)
    replace_dropout(model)
    peft_type = str(adapter.settings.get("peft_type"))
    owner, target = readers_by_peft_type()[peft_type]
    with adapter.adapter_errors():
        component: MethodComponent = METHODS.load(owner, target)(adapter.settings, adapter.tensors)
        component.attach(model)
        _copy_saved_modules(model, adapter.tensors)
    missing = sorted(set(loaded.new_parameters) - set(adapter.saved_shapes()))
    if missing:
        raise DataError(
            f"neither the adapter nor its base has weights for {', '.join(missing[:3])}: it"
            " would answer at random",
            where=str(adapter.folder),
            hint="Save it with modules_to_save naming the head",
        )
    # The updates and a new head keep their fp32, as they do while a run trains.
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in loaded.new_parameters or ".adapter." in f".{name}")
    precision.place_model(model, False)
    model.requires_grad_(False).eval()
    runner = EncoderRunner(model, task.level)
    return TaskModel(task, tokenizer, model, [component], runner, precision, adapter.source)


def _copy_saved_modules(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """What was saved whole, such as the head, goes into the parameter of its name."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            path = model_name(name)
            if path is not None and path in parameters and parameters[path].shape == tensor.shape:
                parameters[path].copy_(tensor)


def open_folder(
    folder: Path,
    precision: str,
    device: str,
    data: DataConfig | None,
    head_settings: HeadSettings,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """A merged or plain transformers folder; a prefix that a merge put beside is attached."""
    if any(folder.glob("*.onnx")) and not any(folder.glob("*.safetensors")):
        raise UsageError(
            "holds an ONNX graph and no weights that bertft runs",
            where=str(folder),
            hint="onnxruntime runs it: its README.md has the lines",
        )
    check_model_folder(folder)
    config = read_json_object(folder / "config.json")
    check_config_values(config, str(folder / "config.json"))
    info = read_merged_info(folder)
    with _of_file(folder / "config.json"):
        outputs = len(class_names_in_config(config))
        config["problem_type"] = head_settings.problem_type(config.get("problem_type"), outputs)
        name, stored_labels = detect_task(config, _external_task(info.task, folder))
    head_settings.check_task(name)
    labels = head_settings.class_names(stored_labels)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **info.answer_settings)
    settings = ModelConfig(name=folder.name, path=str(folder), trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(settings)
    task = build_task(data, labels)
    source = ModelSource(folder.name, "folder", str(folder.resolve()))
    task_model = build_task_model(
        source,
        settings,
        info.method,
        task,
        tokenizer,
        choose_precision(precision, resolve_device(device), "precision"),
    )
    _check_head(folder, task_model)
    if info.prefix is not None:
        load_prefix_weights(folder, task_model.model)
    threshold = (
        _rename_thresholds(config.get(THRESHOLD_KEY), stored_labels, labels),
        folder / "config.json",
    )
    return make_loaded_model(folder, task_model, data, labels, info.max_length, threshold)


@contextlib.contextmanager
def _of_file(file: Path) -> Iterator[None]:
    """Errors about ``config.json`` with the path of the file."""
    try:
        yield
    except UsageError as error:
        if error.where != file.name:
            raise
        raise UsageError(error.what, where=str(file), hint=error.hint) from error


def _external_task(task: str | None, folder: Path) -> str | None:
    """``task`` where another package registers it: bertft's own are recognised by their heads."""
    if task is None:
        return None
    if task not in TASKS:
        TASKS.raise_missing(task, "task", str(folder / "bertft.json"))
    return task if TASKS.package(task) is not None else None


def _rename_thresholds(
    threshold: Any, stored_labels: list[str] | None, names: list[str] | None
) -> Any:
    """A threshold for each label under the ``names`` that the user gave to the ``stored_labels``
    ones.
    """
    if not isinstance(threshold, dict) or stored_labels is None or names is None:
        return threshold
    renamed = dict(zip(stored_labels, names, strict=True))
    return {renamed.get(label, label): each for label, each in threshold.items()}


def _check_head(folder: Path, task_model: TaskModel) -> None:
    """DataError where weights of the head were drawn anew in loading, or left out."""
    missing, surplus = sorted(task_model.randomly_initialized), sorted(task_model.left_out)
    if surplus and task_model.task.needs_labels:  # BERT's head of pretraining has a second part
        raise DataError(
            f"the head has no place for the weights {', '.join(surplus[:3])}: it was trained as"
            " another class of model",
            where=str(folder),
            hint="Such a head is not supported: its answers would be others",
        )
    if missing:
        raise DataError(
            f"there are no weights for {', '.join(missing[:3])}, or they have another shape",
            where=str(folder),
            hint="The folder is not whole, or its head was never trained",
        )


_FOLDER_PRECISION = "fp32"  # a folder that is no run records no precision


class OpenSettings(Protocol):
    """What a command says of what it opens: ``run`` or, in its place, ``adapter``."""

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
) -> LoadedModel:
    """The model that a command was told, as ``open_model`` opens it."""
    head_settings = HeadSettings.from_settings(data, settings)
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
        )
    folder = Path(settings.adapter).expanduser()
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
) -> LoadedModel:
    """The model in ``path``, ready to evaluate.

    ``precision`` None: the one that a run was trained in, fp32 for any other folder.
    ``head_settings``: what the user says of the head; None: what ``data`` says.
    ``trust_remote_code``: the command line lets code that comes with a model run, with
    ``trust_setting``. No folder grants that, whatever it recorded.
    """
    folder, head_settings = (
        Path(path).expanduser(),
        head_settings or HeadSettings.from_settings(data),
    )
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
            folder, precision or _FOLDER_PRECISION, device, data, head_settings, trust_remote_code
        )
    if not folder.exists():
        raise _missing_folder_error(folder, path, "run")
    hint = inner_hint(path, "run")
    if hint is not None:
        raise UsageError(
            "holds neither a run nor a model with its config.json", where=str(folder), hint=hint
        )
    RunFolder.open(folder)  # says what it is not, and what lies near
    raise AssertionError("unreachable")


def _missing_folder_error(folder: Path, path: str, setting: str) -> UsageError:
    siblings = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
    return UsageError(
        f"there is no folder {path}", where=setting, hint=suggest(folder.name, siblings)
    )


def _missing_adapter_error(folder: Path, path: str) -> UsageError:
    """peft saves an adapter of another name than default in a folder of its own."""
    if not folder.is_dir():
        return _missing_folder_error(folder, path, "adapter")
    adapters = sorted(each.name for each in folder.iterdir() if is_adapter_folder(each))
    hint = "run=<folder> opens runs and plain transformers folders"
    if adapters:
        hint = f"It holds adapters in {', '.join(adapters[:4])}: give adapter={path}/{adapters[0]}"
    return UsageError(f"{path} holds no adapter_config.json", where="adapter", hint=hint)
