"""Warnings: a line on stderr, its text as it is, whatever brackets a path in it has."""

from __future__ import annotations

from bertft.config.printed import say
from bertft.errors import bounded

__all__ = ["warn"]


def warn(message: str) -> None:
    say(f"warning: {bounded(message)}", stderr=True)
