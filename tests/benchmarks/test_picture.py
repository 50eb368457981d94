"""README's picture shows README's figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.picture import draw, measured, title

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_row_of_the_table_is_found():
    table = README.partition("| | parameters kept |")[2].partition("\n\n")[0]
    rows = measured(README)
    assert len(rows) == table.count("\n| ") and rows[0].name == "full"
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_files_are_of_these_figures(theme):
    """Else python -m benchmarks.picture was not run again."""
    text = (ROOT / "docs" / "images" / f"methods-{theme}.svg").read_text(encoding="utf-8")
    assert f"<dc:title>{title(measured(README))}</dc:title>" in text
    assert f"docs/images/methods-{theme}.svg" in README


def test_it_draws_a_name_and_a_count_for_each(tmp_path):
    rows = measured(README)
    for name in "ab":
        draw(rows, "light", tmp_path / name)
    text = (tmp_path / "a").read_text(encoding="utf-8")
    assert text == (tmp_path / "b").read_text(encoding="utf-8")
    for row in rows:
        assert f"<!-- {row.name} -->" in text and f"<!-- {row.kept} -->" in text
