"""The base of a run: something that can be loaded again, the same, years later.

A folder, the demo extra or a Hub revision is recorded with the sha256 of its weights. What could
not be had again (random weights, another run with its adapter folded in) is written into the
run folder itself, as ``base/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertft.config.model import ModelConfig
from bertft.errors import UsageError
from bertft.models.load import load_config, load_model
from bertft.models.quiet import quiet
from bertft.models.source import Source, find, local_folder, weights_digest
from bertft.runs.folder import RunFolder
from bertft.tasks.task import BaseTask

__all__ = ["describe", "needs_a_copy", "recorded", "settle"]

_OWN = "run"


def needs_a_copy(settings: ModelConfig) -> bool:
    """Whether the base lives in the run folder alone."""
    return settings.weights == "random" or _is_run(settings.path)


def _is_run(path: str | None) -> bool:
    return path is not None and RunFolder(Path(path).expanduser()).begun


def settle(
    settings: ModelConfig,
    task: BaseTask,
    tokenizer: Any,
    folder: Path,
    merged: Callable[[Path], Any],
) -> Source:
    """Where the base loads from; a copy is written to ``folder`` first where one is needed.

    ``merged(run)`` gives a run's model with every part folded. Random weights are drawn from
    torch's generator: seed it before.
    """
    if not needs_a_copy(settings):
        assert settings.path is not None, "checked with the configuration"
        return find(settings.path, settings.revision)
    if _is_run(settings.path):
        model = merged(Path(settings.path or "").expanduser())
    else:
        config, source = load_config(settings, tokenizer, task.model_settings())
        model = load_model(settings, config, source, task.auto_class).model
    with quiet():
        model.base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Source(settings.name, _OWN, str(folder))


def describe(source: Source) -> dict[str, Any]:
    """For the manifest: name, kind, place, revision, sha256."""
    folder = local_folder(source)
    digest = weights_digest(folder) if folder is not None else None
    place = source.load if source.kind != _OWN else "base"
    return {**replace(source, load=place).describe(), "sha256": digest}


def recorded(manifest: Mapping[str, Any], run: RunFolder) -> Source:
    """The base that ``manifest`` describes. UsageError if what lies there now is another one."""
    said = dict(manifest["base"])
    digest = said.pop("sha256")
    source = Source(**said)
    if source.kind == _OWN:
        source = replace(source, load=str(run.base))
    elif source.kind == "package":  # the environment may have moved
        source = find(source.name)
    folder = local_folder(source)
    if folder is not None and not folder.is_dir():
        raise UsageError(
            f"the run's base {source.name} is not there any more", where=str(folder),
            hint="Put the folder back where it was",
        )  # fmt: skip
    if folder is not None and digest is not None:
        now = weights_digest(folder)
        if now != digest:
            raise UsageError(
                f"the base {source.name} is not the run's: its weights have sha256"
                f" {(now or 'none')[:12]}, not {digest[:12]}",
                where=str(folder),
                hint="An adapter belongs to the weights it was trained on; restore them",
            )
    return source
