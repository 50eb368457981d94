"""Warnings: a line on stderr, its text as it is, whatever brackets a path in it has."""

from __future__ import annotations

from bertft.config.printed import print_escaped
from bertft.errors import limit_length

__all__ = ["print_warning"]


def print_warning(message: str) -> None:
    print_escaped(f"warning: {limit_length(message)}", stderr=True)
