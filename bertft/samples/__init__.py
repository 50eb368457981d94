"""The embedded samples: small English corpora that bertft writes itself, offline.

names()                 the samples there are
generate(name, split)   the rows of one split: {column: values}

Every module here is a sample except ``grammar``; the words and templates lie in ``texts``. A
sample is a module with ``generate(split) -> dict[str, list[Any]]``; so a new one is one new file.
What it gives depends on (name, split) alone, and is the same for all time and on every platform.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from bertft.config.choices import SPLITS
from bertft.config.messages import did_you_mean
from bertft.errors import UsageError

__all__ = ["generate", "names"]

_MACHINERY = "grammar"


def names() -> tuple[str, ...]:
    """Names of the embedded samples, in alphabetical order."""
    modules = pkgutil.iter_modules(__path__)
    return tuple(sorted(m.name for m in modules if not m.ispkg and m.name != _MACHINERY))


def generate(name: str, split: str) -> dict[str, list[Any]]:
    """Columns of equal length: the rows of ``split`` of the sample ``name``.

    Raises UsageError for a name or a split that there is not.
    """
    if name not in names():
        raise UsageError(
            f"no embedded sample {name!r}",
            where="data.sample",
            hint=did_you_mean(name, names()),
        )
    if split not in SPLITS:
        raise UsageError(
            f"an embedded sample has no split {split!r}",
            where=f"data.sample={name}",
            hint=did_you_mean(split, SPLITS),
        )
    return importlib.import_module(f"{__name__}.{name}").generate(split)
