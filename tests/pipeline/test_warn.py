"""Warnings say what they are given."""

from __future__ import annotations

from bertft.utils.terminal import print_warning


def test_a_warning_is_plain_text(capsys):
    print_warning("/a/[bold]b[/bold]/step-5: " + "long " * 40)
    out, err = capsys.readouterr()
    assert out == "" and err == "warning: /a/[bold]b[/bold]/step-5: " + "long " * 40 + "\n"
