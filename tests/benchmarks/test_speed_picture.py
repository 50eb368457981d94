"""The picture of docs/performance.md shows that page's figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed_picture import draw, panels, title

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_every_row_of_every_table_is_found():
    tables = PAGE.split(" | samples/s | rounds |")[1:]
    found = panels(PAGE)
    assert len(found) == len(tables) >= 2
    for panel, text in zip(found, tables, strict=True):
        assert len(panel.rows) == text.partition("\n\n")[0].count("\n| ") >= 2
        assert all(low <= median <= high for _, median, low, high in panel.rows)
        assert any(name.startswith("bertft") for name, *_ in panel.rows)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_files_are_of_these_figures(theme):
    """Else python -m benchmarks.speed_picture was not run again."""
    text = (ROOT / "docs" / "images" / f"speed-{theme}.svg").read_text(encoding="utf-8")
    assert f"<dc:title>{title(panels(PAGE))}</dc:title>" in text
    assert f"images/speed-{theme}.svg" in PAGE


def test_it_draws_a_name_and_a_value_for_each(tmp_path):
    found = panels(PAGE)
    for name in "ab":
        draw(found, "light", tmp_path / name)
    text = (tmp_path / "a").read_text(encoding="utf-8")
    assert text == (tmp_path / "b").read_text(encoding="utf-8")
    for panel in found:
        for name, median, *_ in panel.rows:
            assert f"<!-- {name} -->" in text and f"<!-- {median:g} -->" in text
