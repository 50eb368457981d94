"""The pictures of the terminal and the report in README."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.screenshots import THEMES, final_screen, terminal_svg

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
IMAGES = ROOT / "docs" / "images"


def svg_text(svg: str) -> str:
    texts = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(text.itertext()) for text in texts).replace("\xa0", " ")


def test_the_final_screen_is_that_of_a_terminal():
    bar = "\x1b[32m━━\x1b[0m 1/2 0:01 left\nloss 0.5"
    redraw = "\r\x1b[2K\x1b[1A\x1b[2K"
    output = f"reading\r\x1b[2Kdata\r\n\x1b[?25l{bar}{redraw}step 1\n{bar}{redraw}done\n"
    output += "end total\x1b[?25h"
    assert final_screen(output) == ["data", "step 1", "done", "end total"]


@pytest.mark.parametrize("theme", THEMES)
def test_the_terminal_has_the_colours_of_the_theme_and_loads_nothing(theme):
    background, _, border, colours = THEMES[theme]
    svg = terminal_svg(["\x1b[32mbest\x1b[0m <a>"], "bertft train", theme)
    assert all(colour in svg for colour in (background, border, colours[2]))
    assert "best" in svg_text(svg) and "<a>" in svg_text(svg)
    assert "@font-face" not in svg and "url(http" not in svg


@pytest.mark.parametrize("theme", THEMES)
def test_readme_shows_small_pictures_of_one_run(theme):
    terminal, report = IMAGES / f"terminal-{theme}.svg", IMAGES / f"report-{theme}.png"
    for file in (terminal, report):
        assert f"docs/images/{file.name}" in README
        assert file.stat().st_size < 200_000
    shown = svg_text(terminal.read_text(encoding="utf-8"))
    for step in re.findall(r"^(step \d+) .*accuracy (0\.\d+)", README, re.MULTILINE):
        assert all(words in shown for words in step)
    assert not re.search(r"/(?:root|home|Users|tmp|work)/", shown)
