"""The status of a long stage: a bar in a terminal, repeated lines in a pipe, never a flood."""

from __future__ import annotations

import io
import itertools
import os

import pytest

from bertft.utils import status
from bertft.utils.status import _StatusLine


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def line():
    """A status line whose time is set by the test; its thread is stopped."""
    clock, stream = Clock(), io.StringIO()
    made = _StatusLine(stream, clock)
    made._stopped.set()
    made.repeats, made.clock = True, clock
    return made


def ticks(line, seconds):
    """The lines that are printed in the next ``seconds``, with the times of printing."""
    printed = []
    for _ in range(int(seconds * 4)):
        line.clock.now += 0.25
        before = len(line.stream.getvalue())
        line.tick()
        if text := line.stream.getvalue()[before:]:
            printed.append((line.clock.now, text.rstrip("\n")))
    return printed


def test_a_long_stage_repeats_after_ten_seconds_and_then_less_often(line):
    line.show("tokenizing", False, 0)
    printed = ticks(line, 300)
    times = [time for time, _ in printed]
    assert times[0] == 10.0 and printed[0][1] == "tokenizing  0:10 elapsed"
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps == sorted(gaps) and gaps[0] == 10.0 and gaps[-1] == 60.0
    assert len(printed) <= 9


def test_the_repeated_lines_of_many_stages_are_ten_seconds_apart(line):
    printed = []
    for number in range(20):
        is_brief = number % 2 == 0
        line.show(f"stage {number}", is_brief, 0)
        printed += ticks(line, 4 if is_brief else 11)
    times = [time for time, _ in printed]
    assert len(times) >= 10
    assert min(b - a for a, b in itertools.pairwise(times)) >= 10.0


def test_the_repeated_line_has_the_rows_and_the_time_left(line):
    line.show("evaluating", False, 3000)
    line.advance(1000)
    assert ticks(line, 10) == [(10.0, "evaluating  1,000/3,000 rows  100 rows/s  0:20 left")]
    line.show("reading rows", False, 0)
    line.set_rows(12_000)
    assert ticks(line, 10) == [(20.0, "reading rows  12,000 rows  1,200 rows/s  0:10 elapsed")]


def test_rows_from_outside_have_a_line_only_after_a_change(line):
    line.show("predicting", True, 0, waits=True)
    assert [text for _, text in ticks(line, 30)] == ["predicting  0:03 elapsed"]
    line.set_rows(2)
    assert len(ticks(line, 30)) == 1


def test_a_short_stage_has_one_line(line):
    line.show("tokenizing", False, 0)
    assert ticks(line, 9.5) == []
    line.show("evaluating", False, 0)
    assert ticks(line, 9.5) == []
    assert line.stream.getvalue() == "tokenizing\nevaluating\n"


def test_a_brief_stage_is_printed_only_if_it_is_not(line):
    line.show("reading settings", True, 0)
    assert line.stream.getvalue() == ""
    assert [text for _, text in ticks(line, 3)] == ["reading settings  0:03 elapsed"]


def test_other_output_ends_the_stage_and_a_warning_does_not(line):
    line.show("tokenizing", False, 0)
    with line.interrupted():
        line.clear()  # what the write of the warning does
    assert len(ticks(line, 11)) == 1
    line.clear()
    assert ticks(line, 20) == []


def test_a_muted_status_is_not_repeated(line):
    line.muted = True
    line.show("tokenizing", False, 0)
    assert ticks(line, 20) == [] and line.stream.getvalue() == ""


def test_a_stream_whose_writes_are_not_seen_gets_no_repetition(line):
    assert not _StatusLine(io.StringIO()).repeats
    line.repeats = False
    line.show("tokenizing", False, 0)
    assert ticks(line, 20) == []


def test_a_bar_fits_the_terminal_and_shows_the_rows(line, monkeypatch):
    for width in (80, 40, 20):
        size = os.terminal_size((width, 24))
        monkeypatch.setattr(status.shutil, "get_terminal_size", lambda *_, size=size, **__: size)
        line.show("evaluating", True, 200)
        line.advance(50)
        line.clock.now += 4
        text = line._bar_line(4.0, width - 1)
        assert len(text) < width and text.startswith("evaluating")
        if width == 80:
            bar = text.split()[1]
            assert bar.count("━") / len(bar) == pytest.approx(0.25, abs=0.05)
            assert text.endswith("50/200 rows  12 rows/s  0:12 left")
    line.advance(150)
    assert "─" not in line._bar_line(4.0, 79)
