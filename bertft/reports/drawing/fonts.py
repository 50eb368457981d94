"""Fonts for PNG pictures whose labels are not Latin: an installed one that has the characters.

The SVG in report.html keeps its text, for which the browser finds fonts itself.
"""

from __future__ import annotations

import functools
import unicodedata

__all__ = ["fonts_for", "missing_characters"]

_DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib
# Wide coverage first; of the others those whose names say that they are made for such scripts.
_KNOWN = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "SimHei",
    "Arial Unicode MS", "Noto Sans CJK KR", "Noto Sans CJK TC", "Malgun Gothic",
    "Droid Sans Fallback", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari",
    "Noto Sans Thai", "FreeSans",
)  # fmt: skip


def fonts_for(text: str) -> list[str]:
    """Names of fonts that together have the characters of ``text``, as far as there are any."""
    names, missing = [_DEFAULT_FONT], missing_characters(text, (_DEFAULT_FONT,))
    for name in _KNOWN if missing else ():
        if covered := missing & _characters(name):
            names.append(name)
            missing -= covered
        if not missing:
            break
    return names


def missing_characters(text: str, names: tuple[str, ...] | list[str]) -> set[str]:
    """The characters of ``text`` that none of the fonts ``names`` has."""
    wanted = {each for each in text if not unicodedata.category(each).startswith(("C", "Z"))}
    for name in names:
        wanted -= _characters(name)
    return wanted


@functools.cache
def _characters(name: str) -> frozenset[str]:
    """All characters of an installed font; empty where it is not installed."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    manager = font_manager.fontManager
    files = [each.fname for each in manager.ttflist if each.name == name]
    if not files:
        return frozenset()
    return frozenset(map(chr, FT2Font(files[0]).get_charmap()))
