"""A run's checkpoint as a model, over the base that the run recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from bertft.assembly import base
from bertft.assembly.adapted import build_task_model
from bertft.assembly.calibrate import apply_calibration, is_calibration_requested, read_calibration
from bertft.assembly.checkpoint import read_checkpoint_info, read_trained_weights, mismatched_entries
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.manifest import read_manifest, recorded_data
from bertft.assembly.saved import LoadedModel
from bertft.config.data import DataConfig
from bertft.config.resumed import read_runnable_config
from bertft.errors import DataError, UsageError
from bertft.models.load import load_tokenizer
from bertft.models.precision import choose_precision, resolve_device
from bertft.models.precision import recorded_precision as recorded_precision
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.folder import RunFolder
from bertft.runs.result import read_metrics_json
from bertft.tasks import build_task as build_task

__all__ = ["open_run"]


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
            f"its {name} {found_value} {'are' if name == 'labels' else 'is'} not the run's {recorded_value}",
            where=str(folder), hint="Checkpoint and manifest.json belong to different runs",
        )  # fmt: skip
    head_settings.check_task(info.task)
    head_settings.class_names(info.labels, rename=False)
    source = base.find_recorded_base(manifest, run)
    tokenizer = load_tokenizer(replace(config.model, tokenizer=str(folder)), use_file_class=True)
    data = data or recorded_data(config.data, manifest)
    task = build_task(data, info.labels)
    torch.manual_seed(config.seed)
    task_model = build_task_model(
        source, config.model, config.method, task, tokenizer,
        run_precision,
        layout=manifest["layout"], weights=read_trained_weights(folder),
    )  # fmt: skip
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
        task_model, data, info, run.path, run, config, folder, calibration,
        calibration["threshold"] if calibration is not None else None,
    )  # fmt: skip


def _check_best(run: RunFolder, step: int) -> None:
    """DataError where ``best`` does not point at what metrics.json calls the best."""
    best_step = read_metrics_json(run.metrics_path)["best"]["step"]
    if best_step not in (None, step):
        raise DataError(
            f"best points at step {step}, but metrics.json tells of step {best_step}",
            where=str(run.checkpoints_dir), hint=f"Name the one that is meant, as checkpoint={best_step}",
        )  # fmt: skip
