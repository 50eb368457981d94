"""The status line: transient in a terminal, plain lines in a pipe, silent when it must be."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bertft
from bertft.utils.status import mute_status, show_status, status_lines
from bertft.utils.terminal import log_warnings

ROOT = Path(bertft.__file__).parents[1]
# Reports the first import of torch and ends the process, so that the test needs no import.
STOP_AT_TORCH = """
import os, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torch":
            sys.stderr.write("-- import torch\\n")
            sys.stderr.flush()
            os._exit(0)
sys.meta_path.insert(0, Finder)
from bertft.cli.app import main
sys.exit(main())
"""
WORK = """
import sys, time
from bertft.utils.terminal import prepare_streams
from bertft.utils.status import show_status, status_lines
prepare_streams()
with status_lines():
    show_status("loading model")
    print("result")
    show_status("drawing report")
    show_status("drawing report")
print("end")
"""


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **more}


def in_terminal(code, **more):
    """The bytes that a process writes to a terminal."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=terminal, stderr=terminal, env=environment(**more)
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            block = os.read(controller, 4096)
        except OSError:  # the process closed the terminal
            break
        if not block:
            break
        output += block
    assert process.wait() == 0
    os.close(controller)
    return output.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "model=tiny"],
        ["eval", "run=missing"],
        ["predict", "run=missing"],
        ["merge", "run=missing", "out=out"],
        ["verify", "run=missing"],
        ["report", "run=missing"],
        ["compare", "runs=[a,b]"],
        ["doctor"],
        ["train", "-m", "model=tiny", "seed=0,1"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_states_that_it_imports_torch_before_it_does(words, tmp_path):
    for name in ("missing", "a", "b"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", STOP_AT_TORCH, *words],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    # A slow machine repeats the line.
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" elapsed")]
    assert lines[-2:] == ["importing torch and transformers", "-- import torch"], done.stderr
    assert done.stdout == ""


def test_quiet_shows_no_status(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STOP_AT_TORCH, "train", "quiet=true", "model=tiny"],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.stderr == "-- import torch\n" and done.stdout == ""


def test_in_a_terminal_the_status_disappears():
    output = in_terminal(WORK)
    assert "loading model\r\x1b[2Kresult\n" in output
    shown = [re.split("\r\x1b\\[2K", line)[-1] for line in output.split("\n")]
    assert shown == ["result", "end", ""]


def test_a_dumb_terminal_and_a_pipe_get_plain_lines_once():
    assert in_terminal(WORK, TERM="dumb") == "loading model\nresult\ndrawing report\nend\n"
    done = subprocess.run(
        [sys.executable, "-c", WORK], env=environment(), capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("result\nend\n", "loading model\ndrawing report\n")


def test_a_long_status_has_its_seconds_and_fits_the_line():
    code = WORK.replace('"loading model"', '"loading " + "m" * 200').replace(
        'print("result")', "time.sleep(3.2)"
    )
    output = in_terminal(code, COLUMNS="40")
    frames = output.split("\r\x1b[2K")
    assert any(re.fullmatch(r"loading m+ \([23] s\)", frame) for frame in frames)
    assert max(map(len, frames[:3])) <= 39


def test_a_muted_status_and_one_outside_of_a_program_is_not_shown(capsys):
    show_status("nobody sees this")
    with status_lines():
        with mute_status():
            show_status("muted")
        with mute_status(False):
            show_status("a text with\nan \x1b escape")
    assert capsys.readouterr() == ("", "a text with an \\x1b escape\n")


def test_the_api_logs_the_status(caplog, capsys):
    logger = logging.getLogger("bertft")
    with caplog.at_level(logging.INFO, "bertft"), log_warnings(logger):
        show_status("loading model")
        show_status("reading settings", brief=True)
    assert caplog.messages == ["loading model"] and capsys.readouterr() == ("", "")


def test_the_status_continues_after_output_inside_keep_status():
    code = WORK.replace(
        'print("result")',
        'with keep_status(): print("row")\n    set_status_rows(7)\n    time.sleep(0.6)',
    ).replace("show_status,", "keep_status, set_status_rows, show_status,")
    row, _, rest = in_terminal(code).partition("row\n")
    assert row.endswith("\r\x1b[2K"), "the line is erased before the output"
    assert rest.startswith("\r\x1b[2Kloading model") and "loading model  7 rows  " in rest
