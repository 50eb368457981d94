"""Write a plain transformers folder atomically.

The files are written to a temporary folder next to the destination. After the caller has checked
them, it is renamed to the destination.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bertft.errors import DataError, UsageError
from bertft.models.load_errors import silence_transformers
from bertft.utils.atomic_io import fsync_tree, remove_stale_temporaries, temporary_path
from bertft.utils.safe_files import parse_plain_yaml, read_regular_text

__all__ = ["new_output_folder", "read_license", "save_model_folder"]


@contextlib.contextmanager
def new_output_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` if the block succeeds and is deleted otherwise.

    New parent folders are deleted too. UsageError if ``out`` exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already exists", where="out", hint="Set out=<new or empty folder>")
    created_parents = [parent for parent in out.parents if not parent.exists()]  # innermost first
    out.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        remove_stale_temporaries(out.parent, out.name)  # from a process that was killed
    new = temporary_path(out)
    new.mkdir()
    try:
        yield new
        fsync_tree(new)
        try:
            if out.is_dir():
                out.rmdir()
            new.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise UsageError(
                "another command wrote this folder at the same time",
                where=f"out={out}",
                hint="Set another out=<folder>",
            ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):  # a parent that is not empty stays
            for parent in created_parents:
                parent.rmdir()


def save_model_folder(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write all files that ``from_pretrained`` needs."""
    with silence_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_license(folder: Path | None) -> str | None:
    """The licence in the model card of the base model; None if it has none."""
    if folder is None:
        return None
    try:
        _, front_matter, _ = read_regular_text(folder / "README.md", 1 << 20).split("---", 2)
        license_id = parse_plain_yaml(front_matter).get("license")
    except (DataError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    if isinstance(license_id, str) and re.fullmatch(r"[\w.+-]{1,64}", license_id, re.ASCII):
        return license_id
    return None
