"""What a library writes into a folder of ours: a full disk is the machine's failure, not a bug."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertft.config.system_errors import find_os_error
from bertft.errors import BertftError, SystemResourceError
from bertft.runs.atomic import advise_on_os_error

__all__ = ["wrap_write_errors"]


@contextmanager
def wrap_write_errors(path: Path) -> Iterator[None]:
    """EnvironmentFailed about ``path`` for an OSError, also one that Rust code tells as text."""
    try:
        yield
    except BertftError:
        raise
    except Exception as error:
        os_error = find_os_error(error)
        if os_error is None:
            raise
        raise SystemResourceError(
            f"cannot be written ({os_error.strerror or os_error})", where=str(path), hint=advise_on_os_error(os_error)
        ) from error
