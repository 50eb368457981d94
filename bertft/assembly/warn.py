"""Warnings: a line on stderr, its text as it is, whatever brackets a path in it has."""

from __future__ import annotations

import sys

from bertft.errors import bounded

__all__ = ["warn"]


def warn(message: str) -> None:
    print(f"warning: {bounded(message)}", file=sys.stderr)
