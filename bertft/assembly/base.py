"""The base of a run: something that can be loaded again, the same, years later.

A folder, the demo extra or a Hub commit is recorded with the sha256 of its weights. What could
not be had again (random weights, another run with its adapter folded in, a student cut from its
teacher) is written into the run folder itself:

    settle     writes .base.tmp-<pid>, from which the model is loaded
    keep       renames it to base/, just before the run is begun
    discard    removes it, where the run is not begun after all
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from bertft.assembly import tokenizer_files
from bertft.assembly.disk import writing
from bertft.config.model import ModelConfig
from bertft.errors import DataError, MergeRefused, UsageError
from bertft.models.finite import first_non_finite
from bertft.models.folder import check_folder
from bertft.models.load import load_config, load_model
from bertft.models.quiet import quiet
from bertft.models.source import Source, find, local_folder, weights_digest
from bertft.runs.atomic import remove, sync_folder, sync_tree, temporary
from bertft.runs.faults import point
from bertft.runs.files import seal, sha256
from bertft.runs.folder import RunFolder
from bertft.tasks.task import BaseTask

__all__ = [
    "OWN", "check_place", "describe", "discard", "is_run", "keep", "pinned", "recorded", "settle",
]  # fmt: skip

OWN = "run"  # the kind of a source that lies in the run folder


def is_run(settings: ModelConfig) -> bool:
    """Whether ``model.path`` names a run, which is to be the base of another one."""
    path = settings.path
    return settings.weights != "random" and path is not None and _run(path).begun


def check_place(settings: ModelConfig, run: RunFolder, cut: bool = False) -> None:
    """UsageError where a copy of the base would take the place of a folder that no run left.

    ``cut``: the base is a student cut from its teacher, and ``settings`` do not say it.
    """
    own = cut or settings.weights == "random" or is_run(settings)
    # A start that was cut off has left check_rows.jsonl before its base.
    if own and run.base.exists() and not run.check_rows.exists():
        raise UsageError(
            "is there already, and the run's base would take its place", where=str(run.base),
            hint="Give another hydra.run.dir",
        )  # fmt: skip


def settle(
    settings: ModelConfig,
    task: BaseTask,
    tokenizer: Any,
    files: Mapping[str, bytes],
    run: RunFolder,
    merged: Callable[[Path, bool], Any],
    student: tuple[str, Any] | None = None,
) -> Source:
    """Where the base loads from; a copy is written first where one is needed.

    ``files`` are the tokenizer's. ``merged(run, trust)`` gives a run's model with every part
    folded. ``student``: a model to take as it is, its head included, under the name of what it was
    cut from. Random weights are drawn from torch's generator: seed it before. Raises MergeRefused
    for a weight that is not finite, EnvironmentFailed if the copy cannot be written.
    """
    if student is not None:
        name, model = student
    elif is_run(settings):
        assert settings.path is not None
        name, model = settings.path, merged(_run(settings.path).path, settings.trust_remote_code)
    elif settings.weights == "random":
        config, source = load_config(settings, tokenizer, task.model_settings())
        name, model = settings.name, load_model(settings, config, source, task.auto_class).model
    else:
        assert settings.path is not None, "checked with the configuration"
        return find(settings.path, settings.revision)
    broken = first_non_finite(dict(model.named_parameters()))
    if broken is not None:
        raise MergeRefused(
            f"{broken} is not finite in the base that {name} gives", where="model.path",
            hint="Choose another base: every answer would be NaN",
        )  # fmt: skip
    folder = temporary(run.base)
    with writing(run.base), quiet():
        run.path.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(folder):  # not written through a link of that name
            remove(folder)
        folder.mkdir()
        (model if student is not None else model.base_model).save_pretrained(folder)
        tokenizer_files.write(folder, files)
        sync_tree(folder)
        seal(folder)
    return Source(name, OWN, str(folder))


def keep(source: Source, run: RunFolder) -> Source:
    """Put a copy that ``settle`` wrote into its place; other sources stay as they are."""
    if source.kind != OWN:
        return source
    with writing(run.base):
        if os.path.lexists(run.base):
            remove(run.base)
        point("rename base")
        os.rename(source.load, run.base)
        sync_folder(run.path)
    return replace(source, load=str(run.base))


def discard(run: RunFolder) -> None:
    """Remove what ``settle`` wrote."""
    rmtree(temporary(run.base), ignore_errors=True)


def pinned(source: Source, config: Any) -> Source:
    """A Hub source at the commit that ``config``, loaded from it, came with."""
    commit = getattr(config, "_commit_hash", None)
    return replace(source, revision=commit) if source.kind == "hub" and commit else source


def describe(source: Source) -> dict[str, Any]:
    """For the manifest: name, kind, place, revision, sha256 of the weights and of config.json."""
    folder = local_folder(source)
    digest = weights_digest(folder) if folder is not None else None
    place = source.load if source.kind != OWN else "base"
    told = replace(source, load=place).describe()
    return {**told, "sha256": digest, "config_sha256": _config_digest(folder)}


def _config_digest(folder: Path | None) -> str | None:
    """The same weights under another activation or epsilon are another model."""
    file = folder / "config.json" if folder is not None else None
    return sha256(file) if file and file.is_file() else None


def recorded(manifest: Mapping[str, Any], run: RunFolder) -> Source:
    """The base that ``manifest`` describes. UsageError if what lies there now is another one."""
    try:
        said = dict(manifest["base"])
        digest, config = said.pop("sha256"), said.pop("config_sha256", None)
        source = Source(**said)
        texts = (source.name, source.kind, source.load)
        if not all(isinstance(text, str) for text in texts) or not all(
            text is None or isinstance(text, str) for text in (source.revision, digest, config)
        ):
            raise TypeError("what should be text is none")
        if source.kind not in (OWN, "folder", "package", "hub"):
            raise ValueError(f"{source.kind!r} is no kind of one")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"does not tell the base ({error})", where=str(run.manifest)) from error
    if source.kind == OWN:
        source = replace(source, load=str(run.base))
    elif source.kind == "package":  # the environment may have moved
        source = find(source.name)
    try:
        folder = local_folder(source)
        there = folder is None or folder.is_dir()
    except (OSError, ValueError) as error:  # a name that no file system or Hub can have
        raise DataError(f"does not tell the base ({error})", where=str(run.manifest)) from error
    if not there:
        raise UsageError(
            f"the run's base {source.name} is not there any more", where=str(folder),
            hint="Put the folder back where it was",
        )  # fmt: skip
    if folder is not None and source.kind != "package":
        check_folder(folder)
    if folder is not None and digest is not None:
        now = weights_digest(folder)
        if now != digest:
            raise UsageError(
                f"the base {source.name} is not the run's: its weights have sha256"
                f" {(now or 'none')[:12]}, not {digest[:12]}",
                where=str(folder),
                hint="An adapter belongs to the weights it was trained on; restore them",
            )
    if config is not None and _config_digest(folder) not in (None, config):
        raise UsageError(
            f"the base {source.name} is not the run's: its config.json is another one",
            where=str(folder), hint="Restore it: activations and sizes are told there",
        )  # fmt: skip
    return source


def _run(path: str) -> RunFolder:
    return RunFolder(Path(path).expanduser())
