"""The fonts of the pictures."""

from __future__ import annotations

import pytest
from matplotlib import font_manager

from bertft.report.plots import theme

CHINESE = "好评差"


@pytest.fixture
def old_list(monkeypatch):
    """matplotlib's list of fonts, as stored before the Chinese fonts were installed."""

    def clear():
        theme._characters.cache_clear()
        theme._add_new_fonts.cache_clear()

    dejavu_fonts = [font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", dejavu_fonts)
    clear()
    yield
    clear()


def test_fonts_that_were_installed_later_are_found(old_list):
    files = font_manager.findSystemFonts()
    if not any("CJK" in file for file in files):
        pytest.skip("no font with Chinese characters is installed")
    assert theme.missing_characters(CHINESE, theme.fonts_for(CHINESE)) == set()


def test_a_damaged_font_file_is_ignored(old_list, tmp_path, monkeypatch):
    (tmp_path / "bad.ttf").write_bytes(b"not a font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "bad.ttf")])
    assert theme.fonts_for(CHINESE) == ["DejaVu Sans"]
    assert theme.missing_characters(CHINESE, theme.fonts_for(CHINESE)) == set(CHINESE)
