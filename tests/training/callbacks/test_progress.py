"""The view at any width, through a pipe, and whatever ends the run."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from bertft.training.callbacks.meter import ProgressMeter
from bertft.training.callbacks.progress import ProgressView
from bertft.training.events import Collapsed, Finished, Interrupted, Started, StepSkipped

GIGABYTE = 1_000_000_000


def screen(width, **kwargs):
    return Console(
        file=io.StringIO(), width=width, height=40, force_terminal=True, force_jupyter=False,
        color_system="truecolor", legacy_windows=False, _environ={}, **kwargs,
    )  # fmt: skip


def pipe():
    return Console(file=io.StringIO(), force_terminal=False, force_jupyter=False, _environ={})


def shown(console, events, clock, **kwargs):
    """Every line that was ever drawn, the control codes taken out."""
    meter = ProgressMeter(clock=clock, memory=lambda: GIGABYTE)
    with ProgressView(console=console, meter=meter, clock=clock, **kwargs) as view:
        for event in events:
            view(event)
            if view._block is not None:
                view._block.refresh()
    text = console.file.getvalue()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").split("\n")


@pytest.mark.parametrize("width", [12, 40, 80, 160, 300])
def test_no_line_is_longer_than_the_terminal(width, events, clock):
    lines = shown(screen(width), events(), clock)
    assert max(map(cell_len, lines)) <= width - 3
    assert any("epoch 2.50" in line or width == 12 for line in lines)


def test_eighty_columns_show_everything_in_three_lines(events, clock):
    *_, bar, first, second, end = shown(screen(80), events(), clock)
    assert re.fullmatch(r"━+\s+25/25 0:00 total", bar.rstrip())
    assert first.split("  ")[0] == "epoch 2.50"
    for figure in ("loss 0.", "accuracy 0.7500", "best 0.7500", "lr 1.0e-4–1.0e-3"):
        assert figure in first
    for figure in ("64 rows/s", "1.8k tokens/s", "1.0 GB memory", "budget 288", "mean rank 8.2"):
        assert figure in second
    assert end == ""


@pytest.mark.parametrize("width", [40, 100])
def test_the_advice_after_a_collapse_is_never_cut(width, events, clock):
    reason = "the training loss of the last 50 steps is at the level of predictions without input"
    advice = "Set method.low_rank.learning_rate=0.001 method.head_learning_rate=0.001"
    collapse = Collapsed(16, reason, advice, 0.7, 0.7)
    lines = shown(screen(width), [*events()[:20], collapse], clock)
    assert max(map(cell_len, lines)) <= width - 3
    text = "".join(" ".join(line.rstrip() for line in lines).split())
    assert "".join(f"step 16: the run may have collapsed: {reason}. {advice}".split()) in text
    plain = shown(pipe(), [*events()[:20], collapse], clock)
    assert f"step 16: the run may have collapsed: {reason}. {advice}" in plain


def test_wide_terminals_take_two_lines(events, clock):
    *_, bar, figures, _ = shown(screen(160), events(), clock)
    assert bar.startswith("━" * 100)
    for figure in ("epoch 2.50", "mean rank 8.2"):
        assert figure in figures


def test_evaluations_and_skipped_steps_scroll_by_above(events, clock):
    lines = [line.rstrip() for line in shown(screen(80), events(), clock)]
    assert "step 8  epoch 0.80  accuracy 0.5800 best  loss 0.4200  f1_macro 0.5700" in lines
    skipped = "step 17 was not applied: loss or gradient was not finite (rows: a.csv:3, a.csv"
    assert any(line.startswith(skipped[:75]) for line in lines)
    assert not any("saved" in line for line in lines)


def test_an_evaluation_that_does_not_count_reports_it(clock, an_evaluation):
    early = an_evaluation(8, 0.5, best=False, eligible=False, ineligible_reason="pruning")
    lines = shown(screen(80), [Started(0, 25, 10, 320), early], clock)
    assert any("accuracy 0.5000 (pruning: not a candidate for best)" in line for line in lines)


def test_no_color_is_honoured(events, clock):
    console = Console(
        file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor",
        _environ={"NO_COLOR": "1"},
    )  # fmt: skip
    shown(console, events(), clock)
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|9[0-9]|38;)", console.file.getvalue())


def test_a_pipe_gets_plain_lines(events, clock):
    console = pipe()
    meter = ProgressMeter(clock=clock, memory=lambda: GIGABYTE)
    with ProgressView(console=console, meter=meter, clock=clock, every=10.0) as view:
        for event in events():
            clock.now += 1.0
            view(event)
    text = console.file.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    assert lines[0] == "training: 25 steps, 10 per epoch, 320 rows"
    assert [line.split()[1] for line in lines if "/25" in line] == [
        "2/25",
        "7/25",
        "12/25",
        "20/25",
    ]
    whole = next(line for line in lines if "20/25" in line)
    assert "mean rank 8.2" in whole and whole.endswith(" left")
    assert "step 16  epoch 1.60  accuracy 0.6600 best  loss 0.3400  f1_macro 0.6500" in text
    assert lines[-1] == "done after 25 steps"


def test_quiet_prints_nothing(events, clock):
    for console in (screen(80), pipe()):
        shown(console, events(), clock, quiet=True)
        assert console.file.getvalue() == ""


def test_the_cursor_stays_visible(events, clock):
    console = screen(80)
    meter = ProgressMeter(clock=clock)
    view = ProgressView(console=console, meter=meter, clock=clock)

    def interrupted():
        with view:
            view(Started(0, 25, 10, 320))
            text = console.file.getvalue()
            assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert console.file.getvalue().endswith("\x1b[?25h")
    assert not console._live_stack


def test_what_ended_the_run_is_reported(clock):
    start = Started(0, 25, 10, 320)
    lines = shown(screen(80), [start, Interrupted(3, signal.SIGINT)], clock)
    assert "interrupted by SIGINT after step 3" in [line.rstrip() for line in lines]
    lines = shown(screen(80), [start, Finished(8, "patience")], clock)
    assert any("stopped early after 8 steps" in line for line in lines)


def test_long_rows_of_a_skipped_step_are_cut(clock):
    many = StepSkipped(
        3, "loss or gradient was not finite", tuple(range(500)), ("a.csv:10000",) * 500
    )
    lines = shown(screen(80), [Started(0, 25, 10, 320), many], clock)
    line = next(line for line in lines if "not applied" in line)
    assert cell_len(line.rstrip()) == 77
    assert line.rstrip().endswith("…")


PROGRAM = """
    import sys
    from pathlib import Path
    sys.path[:0] = [{tests!r}]
    from conftest import run
    from bertft.training.callbacks.progress import ProgressView
    with ProgressView(every=0.0) as view:
        for event in run():
            view(event)
            {statement}
    print("finished", file=sys.stdout)
"""


def program(tmp_path, statement="pass"):
    path = tmp_path / "program.py"
    tests = os.path.dirname(os.path.abspath(__file__))
    path.write_text(
        textwrap.dedent(PROGRAM).format(tests=tests, statement=statement), encoding="utf-8"
    )
    return [sys.executable, str(path)]


def environment(**more):
    root = str(Path(__file__).parents[3])
    remaining = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    return {**remaining, "PYTHONPATH": root, "TERM": "xterm-256color", **more}


def test_a_real_pipe_has_no_control_codes_even_if_colour_is_forced(tmp_path):
    done = subprocess.run(
        program(tmp_path), capture_output=True, env=environment(FORCE_COLOR="1"), check=True
    )
    assert b"\x1b" not in done.stderr
    assert b"done after 25 steps" in done.stderr
    assert done.stdout == b"finished\n"


def test_a_reader_that_went_away_does_not_end_the_run(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        program(tmp_path), stdout=subprocess.PIPE, stderr=writer, env=environment(), check=False
    )
    os.close(writer)
    assert done.stdout == b"finished\n"


@pytest.mark.parametrize("width", [80, 160])
def test_a_real_terminal_breaks_no_line(width, tmp_path):
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    child = subprocess.Popen(
        program(tmp_path), stdout=subprocess.DEVNULL, stderr=side, env=environment()
    )
    os.close(side)
    seen = b""
    with contextlib.suppress(OSError):  # the other end is closed: it has ended
        while piece := os.read(main, 65536):
            seen += piece
    os.close(main)
    assert child.wait(900) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    lines = re.split(r"[\r\n]+", text)
    assert width - 30 < max(map(cell_len, lines)) <= width - 3
    for figure in ("loss ", "accuracy 0.7500", "tokens/s", "memory", "budget 288", "mean rank 8.2"):
        assert any(figure in line for line in lines), figure


def test_a_real_terminal_that_is_killed_in_the_middle_shows_its_cursor(tmp_path):
    main, side = pty.openpty()
    slow = "__import__('time').sleep(0.05)"
    child = subprocess.Popen(
        program(tmp_path, slow), stdout=subprocess.DEVNULL, stderr=side, env=environment()
    )
    os.close(side)
    seen = b""
    deadline = time.monotonic() + 900
    while b"accuracy" not in seen and time.monotonic() < deadline:
        if select.select([main], [], [], 0.1)[0]:
            seen += os.read(main, 65536)
    child.send_signal(signal.SIGTERM)  # nothing handles it: the process dies at once
    assert child.wait(900) == -signal.SIGTERM
    os.close(main)
    assert b"\xe2\x94\x81" in seen  # the bar was drawn
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")
