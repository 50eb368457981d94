"""Where tables are printed: text stays what it is.

Rich takes [bold] for a style and :smile: for a picture, and drops a tag that it does not know; a
class, a column or a folder may be called like that.
"""

from __future__ import annotations

from typing import IO

from rich.console import Console

__all__ = ["plain_console"]


def plain_console(
    *,
    file: IO[str] | None = None,
    stderr: bool = False,
    width: int | None = None,
    quiet: bool = False,
) -> Console:
    """Rich's console without its markup."""
    return Console(file=file, stderr=stderr, width=width, quiet=quiet, markup=False, emoji=False)
