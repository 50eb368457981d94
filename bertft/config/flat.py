"""A typed configuration as dotted names and texts: ``{"method.rank": "8", ...}``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

__all__ = ["flat"]


def flat(config: Any) -> dict[str, str]:
    """Every setting of the dataclass ``config``; a part that is null is one setting."""
    return dict(_flat(asdict(config), ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _flat(each, f"{path}.{name}" if path else name)
    else:
        yield path, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)
