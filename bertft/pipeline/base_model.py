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

from bertft.config.model import ModelConfig
from bertft.errors import DataError, MergeError, UsageError
from bertft.models.check_weights import first_non_finite
from bertft.models.loading import load_config, load_model, silence_transformers
from bertft.models.source import (
    ModelSource,
    check_model_folder,
    find_model_source,
    local_model_folder,
    weights_digest,
)
from bertft.pipeline import tokenizer_files
from bertft.runs.files_json import write_files_json
from bertft.runs.run_folder import RunFolder
from bertft.tasks.task import BaseTask
from bertft.utils.atomic_io import (
    convert_write_errors,
    fsync_folder,
    fsync_tree,
    remove_path,
    temporary_path,
)
from bertft.utils.failpoints import failpoint
from bertft.utils.safe_files import file_sha256

__all__ = [
    "OWN_COPY",
    "check_base_folder",
    "commit_base",
    "describe_base",
    "discard_base",
    "find_recorded_base",
    "is_based_on_run",
    "materialize_base",
    "pin_revision",
]

OWN_COPY = "run"  # the kind of a source that lies in the run folder


def is_based_on_run(settings: ModelConfig) -> bool:
    """Whether ``model.path`` names a run, which is to be the base of another one."""
    path = settings.path
    return settings.weights != "random" and path is not None and _run_folder(path).has_run


def check_base_folder(settings: ModelConfig, run: RunFolder, from_teacher: bool = False) -> None:
    """UsageError where a copy of the base would take the place of a folder that no run left.

    ``from_teacher``: the base is a student cut from its teacher, and ``settings`` do not say it.
    """
    needs_copy = from_teacher or settings.weights == "random" or is_based_on_run(settings)
    # A start that was cut off has left check_rows.jsonl before its base.
    if needs_copy and run.base_dir.exists() and not run.check_rows_path.exists():
        raise UsageError(
            "is there already, and the run's base would take its place",
            where=str(run.base_dir),
            hint="Give another hydra.run.dir",
        )


def materialize_base(
    settings: ModelConfig,
    task: BaseTask,
    tokenizer: Any,
    files: Mapping[str, bytes],
    run: RunFolder,
    load_merged: Callable[[Path, bool], Any],
    student: tuple[str, Any] | None = None,
) -> ModelSource:
    """Where the base loads from; a copy is written first where one is needed.

    ``files`` are the tokenizer's. ``load_merged(run, trust)`` gives a run's model with every part
    folded. ``student``: a model to take as it is, its head included, under the name of what it was
    cut from. Random weights are drawn from torch's generator: seed it before. Raises MergeRefused
    for a weight that is not finite, EnvironmentFailed if the copy cannot be written.
    """
    if student is not None:
        name, model = student
    elif is_based_on_run(settings):
        assert settings.path is not None
        name, model = (
            settings.path,
            load_merged(_run_folder(settings.path).path, settings.trust_remote_code),
        )
    elif settings.weights == "random":
        config, source = load_config(settings, tokenizer, task.head_config())
        name, model = settings.name, load_model(settings, config, source, task.auto_class).model
    else:
        assert settings.path is not None, "checked with the configuration"
        return find_model_source(settings.path, settings.revision)
    non_finite = first_non_finite(dict(model.named_parameters()))
    if non_finite is not None:
        raise MergeError(
            f"{non_finite} is not finite in the base that {name} gives",
            where="model.path",
            hint="Choose another base: every answer would be NaN",
        )
    folder = temporary_path(run.base_dir)
    with convert_write_errors(run.base_dir), silence_transformers():
        run.path.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(folder):  # not written through a link of that name
            remove_path(folder)
        folder.mkdir()
        (model if student is not None else model.base_model).save_pretrained(folder)
        tokenizer_files.write_tokenizer_files(folder, files)
        fsync_tree(folder)
        write_files_json(folder)
    return ModelSource(name, OWN_COPY, str(folder))


def commit_base(source: ModelSource, run: RunFolder) -> ModelSource:
    """Put a copy that ``materialize_base`` wrote into its place; other sources stay as they are."""
    if source.kind != OWN_COPY:
        return source
    with convert_write_errors(run.base_dir):
        if os.path.lexists(run.base_dir):
            remove_path(run.base_dir)
        failpoint("rename base")
        os.rename(source.load, run.base_dir)
        fsync_folder(run.path)
    return replace(source, load=str(run.base_dir))


def discard_base(run: RunFolder) -> None:
    """Remove what ``materialize_base`` wrote."""
    rmtree(temporary_path(run.base_dir), ignore_errors=True)


def pin_revision(source: ModelSource, config: Any) -> ModelSource:
    """A Hub source at the commit that ``config``, loaded from it, came with."""
    commit = getattr(config, "_commit_hash", None)
    return replace(source, revision=commit) if source.kind == "hub" and commit else source


def describe_base(source: ModelSource) -> dict[str, Any]:
    """For the manifest: name, kind, place, revision, sha256 of the weights and of config.json."""
    folder = local_model_folder(source)
    digest = weights_digest(folder) if folder is not None else None
    location = source.load if source.kind != OWN_COPY else "base"
    description = replace(source, load=location).describe()
    return {**description, "sha256": digest, "config_sha256": _config_sha256(folder)}


def _config_sha256(folder: Path | None) -> str | None:
    """The same weights under another activation or epsilon are another model."""
    file = folder / "config.json" if folder is not None else None
    return file_sha256(file) if file and file.is_file() else None


def find_recorded_base(manifest: Mapping[str, Any], run: RunFolder) -> ModelSource:
    """The base that ``manifest`` describes. UsageError if what lies there now is another one."""
    try:
        entry = dict(manifest["base"])
        digest, config = entry.pop("sha256"), entry.pop("config_sha256", None)
        source = ModelSource(**entry)
        texts = (source.name, source.kind, source.load)
        if not all(isinstance(text, str) for text in texts) or not all(
            text is None or isinstance(text, str) for text in (source.revision, digest, config)
        ):
            raise TypeError("what should be text is none")
        if source.kind not in (OWN_COPY, "folder", "package", "hub"):
            raise ValueError(f"{source.kind!r} is no kind of one")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"does not tell the base ({error})", where=str(run.manifest_path)
        ) from error
    if source.kind == OWN_COPY:
        source = replace(source, load=str(run.base_dir))
    elif source.kind == "package":  # the environment may have moved
        source = find_model_source(source.name)
    try:
        folder = local_model_folder(source)
        exists = folder is None or folder.is_dir()
    except (OSError, ValueError) as error:  # a name that no file system or Hub can have
        raise DataError(
            f"does not tell the base ({error})", where=str(run.manifest_path)
        ) from error
    if not exists:
        raise UsageError(
            f"the run's base {source.name} is not there any more",
            where=str(folder),
            hint="Put the folder back where it was",
        )
    if folder is not None and source.kind != "package":
        check_model_folder(folder)
    if folder is not None and digest is not None:
        current_digest = weights_digest(folder)
        if current_digest != digest:
            raise UsageError(
                f"the base {source.name} is not the run's: its weights have sha256"
                f" {(current_digest or 'none')[:12]}, not {digest[:12]}",
                where=str(folder),
                hint="An adapter belongs to the weights it was trained on; restore them",
            )
    if config is not None and _config_sha256(folder) not in (None, config):
        raise UsageError(
            f"the base {source.name} is not the run's: its config.json is another one",
            where=str(folder),
            hint="Restore it: activations and sizes are told there",
        )
    return source


def _run_folder(path: str) -> RunFolder:
    return RunFolder(Path(path).expanduser())
