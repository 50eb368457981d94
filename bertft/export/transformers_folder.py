"""A plain transformers folder: model, tokenizer, labels in config.json, model card.

It is written beside its place, read back, and moved there only when the caller says that it is
good, so that a folder is whole or absent.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bertft.errors import DataError, UsageError
from bertft.models.loading import silence_transformers
from bertft.utils.atomic_io import fsync_tree, remove_stale_temporaries, temporary_path
from bertft.utils.safe_files import parse_plain_yaml, read_regular_text

__all__ = ["new_output_folder", "read_license", "save_model_folder"]


@contextlib.contextmanager
def new_output_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` if the block ends well, and vanishes if not.

    So do the folders above it that had to be made. UsageError if ``out`` exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{out} is there already", where="out", hint="Give a new folder, or an empty one"
        )
    created_parents = [parent for parent in out.parents if not parent.exists()]  # the lowest first
    out.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        remove_stale_temporaries(
            out.parent, out.name
        )  # what a killed process was making of the same name
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
                "another command wrote it in the meantime",
                where=f"out={out}",
                hint="Give a new folder",
            ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):  # one that holds something stays
            for each in created_parents:
                each.rmdir()


def save_model_folder(folder: Path, model: Any, tokenizer: Any, card: str) -> None:
    """Everything that ``from_pretrained`` and a person reading the folder need."""
    with silence_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def read_license(folder: Path | None) -> str | None:
    """The licence that the base's own model card states; None if it states none."""
    if folder is None:
        return None
    try:
        _, front_matter, _ = read_regular_text(folder / "README.md", 1 << 20).split("---", 2)
        stated = parse_plain_yaml(front_matter).get("license")
    except (DataError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    is_identifier = isinstance(stated, str) and re.fullmatch(r"[\w.+-]{1,64}", stated, re.ASCII)
    return stated if is_identifier else None
