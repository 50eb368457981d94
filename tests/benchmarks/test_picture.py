"""The pictures show the figures of the pages that they stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import picture, speed_picture

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEED = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Picture:
    """``link``: how its page names the files; ``shown``: what is written into them."""

    module: Any
    page: str
    rows: Any
    link: str
    shown: Callable[[Any], list[str]]


METHODS = Picture(
    picture, README, picture.measured(README), "docs/images/methods",
    lambda rows: [text for row in rows for text in (row.name, row.parameters)],
)  # fmt: skip
SPEEDS = Picture(
    speed_picture, SPEED, speed_picture.panels(SPEED), "images/speed",
    lambda panels: [
        text
        for panel in panels
        for name, median, *_ in panel.rows
        for text in (name, f"{median:g}")
    ],
)  # fmt: skip
both = pytest.mark.parametrize("picture_file", [METHODS, SPEEDS], ids=["methods", "speed"])


def test_every_row_of_the_table_of_methods_is_found():
    table = README.partition("| | parameters kept |")[2].partition("\n\n")[0]
    rows = METHODS.rows
    assert len(rows) == table.count("\n| ") and rows[0].name == "full"
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)


def test_every_row_of_every_table_of_speed_is_found():
    tables = SPEED.split(" | samples/s | rounds |")[1:]
    assert len(SPEEDS.rows) == len(tables) >= 2
    for panel, text in zip(SPEEDS.rows, tables, strict=True):
        assert len(panel.rows) == text.partition("\n\n")[0].count("\n| ") >= 2
        assert all(low <= median <= high for _, median, low, high in panel.rows)
        assert any(name.startswith("bertft") for name, *_ in panel.rows)


@both
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_files_are_of_these_figures(picture_file, theme):
    """Else python -m benchmarks.picture, or benchmarks.speed_picture, was not run again."""
    file = ROOT / "docs" / "images" / f"{Path(picture_file.link).name}-{theme}.svg"
    text = file.read_text(encoding="utf-8")
    assert f"<dc:title>{picture_file.module.title(picture_file.rows)}</dc:title>" in text
    assert f"{picture_file.link}-{theme}.svg" in picture_file.page


@both
def test_it_draws_a_name_and_a_figure_for_each(picture_file, tmp_path):
    for name in "ab":
        picture_file.module.draw(picture_file.rows, "light", tmp_path / name)
    text = (tmp_path / "a").read_text(encoding="utf-8")
    assert text == (tmp_path / "b").read_text(encoding="utf-8")
    for displayed in picture_file.shown(picture_file.rows):
        assert f"<!-- {displayed} -->" in text
