"""A typed configuration as dotted names and texts: ``{"method.rank": "8", ...}``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

__all__ = ["flatten_settings"]


def flatten_settings(config: Any) -> dict[str, str]:
    """Every setting of the dataclass ``config``; a part that is null is one setting."""
    return dict(_iter_flat(asdict(config), ""))


def _iter_flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _iter_flat(child, f"{path}.{name}" if path else name)
    else:
        yield path, _format_value(value)


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_format_value, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)
