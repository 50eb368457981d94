"""Store the base model of a run and its tokenizer, so that both can be loaded again unchanged.

A folder, a package or a Hub commit is recorded with the sha256 of its weights. A base that exists
nowhere else (random weights, another run with its components folded in, a student cut from its
teacher) is written into the run folder:

    materialize_base    writes .base.tmp-<pid>, from which the model is loaded
    commit_base         renames it to base/, just before the run starts
    discard_base        removes it if the run does not start

The files of the tokenizer are serialized once and then copied byte for byte: transformers does not
always write what it read (the class of a tokenizer depends on the config.json next to it).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from bertft.config.model import ModelConfig
from bertft.errors import DataError, MergeError, UsageError
from bertft.models.check_weights import first_non_finite
from bertft.models.load_errors import silence_transformers
from bertft.models.source import (
    ModelSource,
    check_model_folder,
    find_model_source,
    local_model_folder,
    weights_digest,
)
from bertft.runs.files_json import write_files_json
from bertft.runs.manifest import Manifest
from bertft.runs.run_folder import RunFolder
from bertft.utils.atomic_io import (
    convert_write_errors,
    fsync_folder,
    fsync_tree,
    remove_path,
    temporary_path,
)
from bertft.utils.failpoints import failpoint
from bertft.utils.messages import expand_home
from bertft.utils.safe_files import file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "STORED_IN_RUN",
    "check_base_folder",
    "commit_base",
    "describe_base",
    "discard_base",
    "find_recorded_base",
    "is_based_on_run",
    "materialize_base",
    "pin_revision",
    "read_tokenizer_files",
    "run_folder_of",
    "serialize_tokenizer",
    "tokenizer_digest",
    "write_tokenizer_files",
]

STORED_IN_RUN = "run"  # the kind of a source whose files are in the run folder

# Files of a checkpoint or of a stored base that are not the tokenizer's.
_OTHER_FILES = frozenset(
    ("config.json", "generation_config.json", "bertft.json", "files.json", "state.json")
)


def is_based_on_run(settings: ModelConfig) -> bool:
    """Whether ``model.path`` names a run."""
    path = settings.path
    return settings.weights != "random" and path is not None and run_folder_of(path).has_run


def run_folder_of(path: str) -> RunFolder:
    """The run folder that ``model.path`` names."""
    return RunFolder(expand_home(path, "model.path"))


def check_base_folder(settings: ModelConfig, run: RunFolder, from_teacher: bool = False) -> None:
    """Raise UsageError if the stored base would replace a folder that no run has written.

    ``from_teacher``: the base is a student that is cut from its teacher.
    """
    needs_copy = from_teacher or settings.weights == "random" or is_based_on_run(settings)
    # If an earlier start was interrupted, it wrote check_rows.jsonl before the base.
    if needs_copy and run.base_dir.exists() and not run.check_rows_path.exists():
        raise UsageError(
            "already exists, and the base of the run would replace it",
            where=str(run.base_dir),
            hint="Set another hydra.run.dir",
        )


def materialize_base(
    name: str,
    model: PreTrainedModel,
    tokenizer_files: Mapping[str, bytes],
    run: RunFolder,
    keep_head: bool = False,
) -> ModelSource:
    """Write ``model``, the base that is called ``name``, into a temporary folder of the run.

    Raises:
        MergeError: a weight is not finite.
        SystemResourceError: the folder cannot be written.
    """
    non_finite = first_non_finite(dict(model.named_parameters()))
    if non_finite is not None:
        raise MergeError(
            f"{non_finite} is not finite in the base {name}",
            where="model.path",
            hint="Choose another base: all predictions would be NaN",
        )
    folder = temporary_path(run.base_dir)
    with convert_write_errors(run.base_dir), silence_transformers():
        run.path.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(folder):  # do not write through a link of that name
            remove_path(folder)
        folder.mkdir()
        encoder = cast("PreTrainedModel", model.base_model)
        (model if keep_head else encoder).save_pretrained(folder)
        write_tokenizer_files(folder, tokenizer_files)
        fsync_tree(folder)
        write_files_json(folder)
    return ModelSource(name, STORED_IN_RUN, str(folder))


def commit_base(source: ModelSource, run: RunFolder) -> ModelSource:
    """Move what ``materialize_base`` wrote to its final path; other sources are unchanged."""
    if source.kind != STORED_IN_RUN:
        return source
    with convert_write_errors(run.base_dir):
        if os.path.lexists(run.base_dir):
            remove_path(run.base_dir)
        failpoint("rename base")
        os.rename(source.load, run.base_dir)
        fsync_folder(run.path)
    return replace(source, load=str(run.base_dir))


def discard_base(run: RunFolder) -> None:
    """Remove what ``materialize_base`` wrote, if it was not committed."""
    rmtree(temporary_path(run.base_dir), ignore_errors=True)


def pin_revision(source: ModelSource, config: PreTrainedConfig) -> ModelSource:
    """Pin a Hub source to the commit of ``config``; other sources are returned unchanged."""
    commit = getattr(config, "_commit_hash", None)
    return replace(source, revision=commit) if source.kind == "hub" and commit else source


def describe_base(source: ModelSource) -> dict[str, Any]:
    """The manifest entry: name, kind, location, revision, sha256 of weights and config.json."""
    folder = local_model_folder(source)
    digest = weights_digest(folder) if folder is not None else None
    location = source.load if source.kind != STORED_IN_RUN else "base"
    description = replace(source, load=location).describe()
    return {**description, "sha256": digest, "config_sha256": _config_sha256(folder)}


def _config_sha256(folder: Path | None) -> str | None:
    """sha256 of config.json: the outputs depend on its activation and epsilon, too."""
    file = folder / "config.json" if folder is not None else None
    return file_sha256(file) if file and file.is_file() else None


def find_recorded_base(manifest: Manifest, run: RunFolder) -> ModelSource:
    """The base that ``manifest`` describes.

    Raises:
        DataError: the entry is damaged.
        UsageError: the base is missing, or its weights or configuration have changed.
    """
    try:
        entry = dict(manifest["base"])
        digest, config_digest = entry.pop("sha256"), entry.pop("config_sha256", None)
        source = ModelSource(**entry)
        required_texts = (source.name, source.kind, source.load)
        optional_texts = (source.revision, digest, config_digest)
        if not all(isinstance(text, str) for text in required_texts) or not all(
            text is None or isinstance(text, str) for text in optional_texts
        ):
            raise TypeError("expected text")
        if source.kind not in (STORED_IN_RUN, "folder", "package", "hub"):
            raise ValueError(f"unknown kind {source.kind!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid_base_entry(run, error) from error
    if source.kind == STORED_IN_RUN:
        source = replace(source, load=str(run.base_dir))
    elif source.kind == "package":  # the environment may have moved
        source = find_model_source(source.name)
    try:
        folder = local_model_folder(source)
        exists = folder is None or folder.is_dir()
    except (OSError, ValueError) as error:  # a name that no file system or Hub accepts
        raise _invalid_base_entry(run, error) from error
    if not exists:
        raise UsageError(
            f"the base {source.name} of the run is missing",
            where=str(folder),
            hint="Restore the folder from a copy",
        )
    if folder is not None and source.kind != "package":
        check_model_folder(folder)
    if folder is not None and digest is not None:
        current_digest = weights_digest(folder)
        if current_digest != digest:
            raise UsageError(
                f"the weights of the base {source.name} have changed since the run was started"
                f" (sha256 {(current_digest or 'none')[:12]}, recorded {digest[:12]})",
                where=str(folder),
                hint="Restore the weights that the run was trained with",
            )
    if config_digest is not None and _config_sha256(folder) not in (None, config_digest):
        raise UsageError(
            f"the config.json of the base {source.name} has changed since the run was started",
            where=str(folder),
            hint="Restore the file",
        )
    return source


def _invalid_base_entry(run: RunFolder, error: Exception) -> DataError:
    return DataError(
        f"has no valid 'base' entry ({error})",
        where=str(run.manifest_path),
        hint="Restore the run folder: the manifest is damaged",
    )


def serialize_tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """The files that ``tokenizer`` saves, by name. UsageError if transformers cannot save it."""
    with TemporaryDirectory() as folder:
        try:
            _check_template_names(tokenizer)
            tokenizer.save_pretrained(folder)
        except OSError:
            raise
        except Exception as error:  # such as an entry of tokenizer_config.json of a wrong type
            reason = " ".join(str(error).split())[:200]
            raise UsageError(
                f"the tokenizer cannot be saved ({type(error).__name__}: {reason})",
                where=str(tokenizer.name_or_path),
                hint="Correct its tokenizer_config.json",
            ) from error
        return _read_files(Path(folder))


def _check_template_names(tokenizer: PreTrainedTokenizerBase) -> None:
    """ValueError for a chat template whose name is a path: transformers 5.7 writes to this path."""
    templates = getattr(tokenizer, "chat_template", None)
    for name in templates if isinstance(templates, dict) else ():
        if Path(str(name)).name != name:
            raise ValueError(f"the name of a chat template is a path: {name!r}")


def read_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The tokenizer files in ``folder``, a checkpoint or a stored base.

    Hidden files are left out: files.json does not list them. DataError for a link, which may lead
    to any file of the machine.
    """
    return {
        name: content
        for name, content in _read_files(folder, skip=_OTHER_FILES).items()
        if not name.endswith((".safetensors", ".safetensors.index.json"))
    }


def write_tokenizer_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` into ``folder``. Raises OSError."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


def tokenizer_digest(files: Mapping[str, bytes]) -> str:
    """sha256 over names and contents of ``files``."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()


def _read_files(folder: Path, skip: frozenset[str] = frozenset()) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name in skip or path.name.startswith(".") or not path.is_file():
            continue
        if path.is_symlink():
            raise DataError(
                "is a link", where=str(path), hint="Replace it with the file it points to"
            )
        files[path.name] = path.read_bytes()
    return files
