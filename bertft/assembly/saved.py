"""Open what training left: a run, a merged folder, an adapter, a plain transformers folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open

from bertft.assembly import base
from bertft.assembly.adapted import Adapted, assemble
from bertft.assembly.adapter import OWN, AdapterFolder, is_adapter
from bertft.assembly.calibrate import apply, as_threshold, asked, recorded
from bertft.assembly.checkpoint import Facts, is_checkpoint, read_facts, read_weights, unlike
from bertft.assembly.manifest import read_manifest, recorded_data
from bertft.assembly.merged_folder import THRESHOLD, fill_prefix, read_beside
from bertft.config.commands import TrainConfig
from bertft.config.data import DataConfig
from bertft.config.messages import suggestion
from bertft.config.model import ModelConfig
from bertft.config.resumed import config_of_run
from bertft.errors import DataError, UsageError
from bertft.methods.new_modules import NewModules
from bertft.models.load import load_tokenizer, longest_input
from bertft.models.precision import choose, resolve_device
from bertft.models.source import Source
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.runs.json_file import read_object
from bertft.tasks import build as build_task
from bertft.tasks import recognise
from bertft.tasks.shared.encoding import check_max_length
from bertft.tasks.task import BaseTask, Threshold

__all__ = ["Asked", "Saved", "not_finite", "open_asked", "open_saved"]


@dataclass
class Saved:
    """``data`` says how rows were read (of a plain folder: the defaults of files).

    ``run``, ``config`` and ``checkpoint`` are None for a folder that is no run; ``folder`` is that
    folder, or the run's. ``calibration``: what was fitted to the checkpoint of a run, as its
    metrics.json has it. ``threshold``: the one that was tuned, which decides.
    """

    adapted: Adapted
    data: DataConfig
    facts: Facts
    folder: Path
    run: RunFolder | None = None
    config: TrainConfig | None = None
    checkpoint: Path | None = None
    calibration: dict[str, Any] | None = None
    threshold: Threshold | None = None

    @property
    def adapter(self) -> bool:
        """Whether it is an adapter's folder, with the base beside it."""
        return self.run is None and is_adapter(self.folder)

    @property
    def answering(self) -> dict[str, Any]:
        """The settings of ``data`` that the answers depend on."""
        return {name: getattr(self.data, name) for name in self.adapted.task.answer_settings}


class Asked(Protocol):
    """What a command says of what it opens: ``run`` or, in its place, ``adapter``."""

    run: str | None
    adapter: str | None
    base: str | None
    checkpoint: str
    device: str


def open_asked(
    asked: Asked,
    precision: str | None = None,
    data: DataConfig | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Saved:
    """The model that a command was told, as ``open_saved`` opens it."""
    if asked.adapter is None:
        assert asked.run is not None, "checked with the configuration"
        return open_saved(
            asked.run, checkpoint=asked.checkpoint, precision=precision, device=asked.device,
            data=data, warn=warn,
        )  # fmt: skip
    folder = Path(asked.adapter).expanduser()
    if not is_adapter(folder):
        raise _no_adapter(folder, asked.adapter)
    return _open_adapter(folder, precision or "auto", asked.device, data, asked.base)


def open_saved(
    path: str,
    *,
    checkpoint: str = "best",
    precision: str | None = None,
    device: str = "auto",
    data: DataConfig | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Saved:
    """The model in ``path``, ready to evaluate. ``precision`` None: the run's recorded one."""
    folder = Path(path).expanduser()
    if RunFolder(folder).begun:
        return _open_run(RunFolder(folder), checkpoint, precision, device, data, warn)
    if is_adapter(folder):
        return _open_adapter(folder, precision or "auto", device, data)
    if (folder / "config.json").is_file() and not is_checkpoint(folder):
        return _open_folder(folder, precision or "auto", device, data)
    if not folder.exists():
        raise _no_folder(folder, path, "run")
    RunFolder.open(folder)  # says what it is not, and what lies near
    raise AssertionError("unreachable")


def _open_run(
    run: RunFolder,
    which: str,
    precision: str | None,
    device: str,
    data: DataConfig | None,
    warn: Callable[[str], None],
) -> Saved:
    config, manifest = config_of_run(run.path), read_manifest(run)
    place = resolve_device(device)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
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
    if data is not None:
        _check_task(data, facts.task)
    source = base.recorded(manifest, run)
    tokenizer = load_tokenizer(replace(config.model, tokenizer=str(folder), revision=None))
    data = data or recorded_data(config.data, manifest)
    task = build_task(data, facts.labels)
    torch.manual_seed(config.seed)
    adapted = assemble(
        source, config.model, config.method, task, tokenizer,
        choose(precision or manifest["precision"], place),
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
    best = read_object(run.metrics).get("best")
    told = best.get("step") if isinstance(best, dict) else None
    if told not in (None, step):
        raise DataError(
            f"best points at step {step}, but metrics.json tells of step {told}",
            where=str(run.checkpoints), hint=f"Name the one that is meant, as checkpoint={told}",
        )  # fmt: skip


def _open_folder(folder: Path, precision: str, device: str, data: DataConfig | None) -> Saved:
    """A merged or plain transformers folder; a prefix that a merge put beside is attached."""
    if any(folder.glob("*.onnx")) and not any(folder.glob("*.safetensors")):
        raise UsageError(
            "holds an ONNX graph and no weights that bertft runs", where=str(folder),
            hint="onnxruntime runs it: its README.md has the lines",
        )  # fmt: skip
    told = read_object(folder / "config.json")
    name, labels = recognise(told)
    if data is not None:
        _check_task(data, name)
    beside = read_beside(folder)
    if data is None:
        data = replace(DataConfig(name=folder.name, task=name), **beside.answering)
    settings = ModelConfig(name=folder.name, path=str(folder))
    tokenizer = load_tokenizer(settings)
    task = build_task(data, labels)
    threshold = _decide(task, told.get(THRESHOLD), folder / "config.json")
    source = Source(folder.name, "folder", str(folder.resolve()))
    adapted = assemble(
        source, settings, beside.method, task, tokenizer,
        choose(precision, resolve_device(device)),
    )  # fmt: skip
    _check_head(folder, adapted)
    if beside.prefix is not None:
        fill_prefix(folder, adapted.model)
    _check_finite(folder, adapted)
    adapted.model.eval()
    taken = sum(part.positions for part in adapted.parts)
    longest = check_max_length(
        data.max_length or beside.max_length,
        longest_input(adapted.model.config, tokenizer) - taken,
        task.default_max_length,
    )
    return Saved(adapted, data, Facts(name, labels, longest, 0), folder, threshold=threshold)


def _open_adapter(
    folder: Path, precision: str, device: str, data: DataConfig | None, base: str | None = None
) -> Saved:
    """A LoRA adapter in peft's form; what a foreign one does not tell is read off its head."""
    found = AdapterFolder(folder, base)
    tokenizer, facts = found.tokenizer(), found.facts
    name, labels = found.task(tokenizer, data)
    if data is not None:
        _check_task(data, name)
    else:
        data = replace(DataConfig(name=folder.name, task=name), **facts.get("answering", {}))
    task = build_task(data, labels)
    threshold = _decide(task, facts.get("threshold"), folder / OWN)
    adapted = found.open(task, tokenizer, choose(precision, resolve_device(device)))
    _check_finite(folder, adapted)
    longest = check_max_length(
        data.max_length or facts.get("max_length"),
        longest_input(adapted.model.config, tokenizer),
        task.default_max_length,
    )
    return Saved(adapted, data, Facts(name, labels, longest, 0), folder, threshold=threshold)


def _no_folder(folder: Path, path: str, setting: str) -> UsageError:
    near = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
    return UsageError(
        f"there is no folder {path}", where=setting, hint=suggestion(folder.name, near)
    )


def _no_adapter(folder: Path, path: str) -> UsageError:
    """peft saves an adapter of another name than default in a folder of its own."""
    if not folder.is_dir():
        return _no_folder(folder, path, "adapter")
    inside = sorted(each.name for each in folder.iterdir() if is_adapter(each))
    hint = "run=<folder> opens runs and plain transformers folders"
    if inside:
        hint = f"It holds adapters in {', '.join(inside[:4])}: give adapter={path}/{inside[0]}"
    return UsageError(f"{path} holds no adapter_config.json", where="adapter", hint=hint)


def _decide(task: BaseTask, told: Any, file: Path) -> Threshold | None:
    """Let ``task`` decide by the threshold that ``file`` tells, if it tells one."""
    threshold = as_threshold(told, str(file))
    if threshold is not None:
        task.decide_by(threshold)
    return threshold


def not_finite(model: torch.nn.Module) -> str | None:
    """The name of a weight with NaN or infinity, with which every answer would be NaN."""
    names = (name for name, each in model.named_parameters() if not torch.isfinite(each).all())
    return next(names, None)


def _check_finite(folder: Path, adapted: Adapted) -> None:
    name = not_finite(adapted.model)
    if name is not None:
        raise DataError(f"{name} is not finite", where=str(folder))


def _check_task(data: DataConfig, task: str) -> None:
    if data.task != task:
        raise UsageError(
            f"the model's head is for {task}, not {data.task}", where="data.task",
            hint=f"Set data.task={task}",
        )  # fmt: skip


def _check_head(folder: Path, adapted: Adapted) -> None:
    """DataError where the folder has no weights for its head: it would answer at random."""
    kept: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            kept |= set(tensors.keys())
    new = next(part for part in adapted.parts if isinstance(part, NewModules)).new
    if kept and not new <= kept:
        raise DataError(
            f"there are no weights for {', '.join(sorted(new - kept)[:3])}", where=str(folder),
            hint="The folder is not whole, or its head was never trained",
        )  # fmt: skip
