"""A run's checkpoint as a model, over the base that the run recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from bertft.assembly import base
from bertft.assembly.adapted import assemble
from bertft.assembly.calibrate import apply, asked, recorded
from bertft.assembly.checkpoint import read_facts, read_weights, unlike
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.manifest import read_manifest, recorded_data
from bertft.assembly.saved import Saved
from bertft.config.data import DataConfig
from bertft.config.resumed import runnable_config
from bertft.errors import DataError, UsageError
from bertft.models.load import load_tokenizer
from bertft.models.precision import choose, resolve_device
from bertft.models.precision import recorded as recorded_precision
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.runs.result import read_result
from bertft.tasks import build as build_task

__all__ = ["open_run"]


def open_run(
    run: RunFolder,
    which: str,
    precision: str | None,
    device: str,
    data: DataConfig | None,
    said: HeadSettings,
    warn: Callable[[str], None],
    trust: bool = False,
    trust_setting: str = "trust_remote_code",
) -> Saved:
    config = runnable_config(run.path, trust, trust_setting)
    manifest = read_manifest(run)
    place = resolve_device(device)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    if precision is None:
        computing = recorded_precision(manifest["precision"], place, run.path)
    else:
        computing = choose(precision, place, "precision")
    folder = Checkpoints(run.checkpoints).find(which, warn=warn)
    facts = read_facts(folder)
    if which == "best" and run.finished:
        _check_best(run, facts.step)
    for name in unlike(facts, manifest):
        here, told = getattr(facts, name), manifest[name]
        raise UsageError(
            f"its {name} {here} {'are' if name == 'labels' else 'is'} not the run's {told}",
            where=str(folder), hint="Checkpoint and manifest.json belong to different runs",
        )  # fmt: skip
    said.check_task(facts.task)
    said.class_names(facts.labels, rename=False)
    source = base.recorded(manifest, run)
    tokenizer = load_tokenizer(replace(config.model, tokenizer=str(folder)), own_class=True)
    data = data or recorded_data(config.data, manifest)
    task = build_task(data, facts.labels)
    torch.manual_seed(config.seed)
    adapted = assemble(
        source, config.model, config.method, task, tokenizer,
        computing,
        layout=manifest["layout"], weights=read_weights(folder),
    )  # fmt: skip
    adapted.model.eval()
    fitted = recorded(run, facts.step) if asked(config) else None
    if fitted is not None:
        apply(fitted, adapted)
    elif asked(config) and which == "best":
        if run.finished:
            warn(f"{run.path}: what was fitted to its answers is of another step")
        else:
            warn(f"{run.path} is not finished: nothing is fitted to its answers yet")
    return Saved(
        adapted, data, facts, run.path, run, config, folder, fitted,
        fitted["threshold"] if fitted is not None else None,
    )  # fmt: skip


def _check_best(run: RunFolder, step: int) -> None:
    """DataError where ``best`` does not point at what metrics.json calls the best."""
    told = read_result(run.metrics)["best"]["step"]
    if told not in (None, step):
        raise DataError(
            f"best points at step {step}, but metrics.json tells of step {told}",
            where=str(run.checkpoints), hint=f"Name the one that is meant, as checkpoint={told}",
        )  # fmt: skip
