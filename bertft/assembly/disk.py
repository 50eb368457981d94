"""What a library writes into a folder of ours: a full disk is the machine's failure, not a bug."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertft.config.system_errors import system_error
from bertft.errors import BertftError, EnvironmentFailed
from bertft.runs.atomic import advice

__all__ = ["writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """EnvironmentFailed about ``path`` for an OSError, also one that Rust code tells as text."""
    try:
        yield
    except BertftError:
        raise
    except Exception as error:
        told = system_error(error)
        if told is None:
            raise
        raise EnvironmentFailed(
            f"cannot be written ({told.strerror or told})", where=str(path), hint=advice(told)
        ) from error
