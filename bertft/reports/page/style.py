"""The stylesheet of every page: light and dark as the reader's system is, nothing fetched."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["page_style"]


@cache
def page_style() -> str:
    """CSS; its colours are variables, which pictures use too."""
    return (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
