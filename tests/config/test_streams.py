"""Standard streams that are closed, broken or of another encoding end nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PREPARED = "import sys\nfrom bertft.utils.terminal import *\nprepare_streams()\n"


def in_shell(code: str, redirection: str, encoding: str = "utf-8") -> tuple[str, str]:
    """Output and error of a process that runs ``code``; its status ends the error."""
    script = f'"$0" -c "$1" {redirection}; echo "status ${{PIPESTATUS[0]}}" >&2'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, PREPARED + code],
        capture_output=True, text=True, timeout=900,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    return done.stdout, done.stderr


def test_a_reader_who_has_gone_does_not_end_the_work():
    lines = "for n in range(200_000): print(n)\nsys.stdout.flush()\n"
    rest = "print('gone', is_output_closed(sys.stdout), file=sys.stderr)"
    out, err = in_shell(lines + rest, "| head -n 1")
    assert out == "0\n"
    assert err == "gone True\nstatus 0\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_characters_that_an_encoding_lacks_are_escaped(encoding):
    out, err = in_shell("print('Δ 中', supports_unicode(sys.stdout))", "", encoding)
    assert out == "\\u0394 \\u4e2d False\n" and err == "status 0\n"


def test_a_closed_output_takes_what_is_written():
    out, err = in_shell("print('x'); print(is_output_closed(sys.stdout), file=sys.stderr)", ">&-")
    assert out == "" and err == "True\nstatus 0\n"


def test_a_closed_input_is_empty_and_no_file_takes_its_number(tmp_path):
    path = tmp_path / "file"
    code = f"file = open({str(path)!r}, 'w'); print(repr(sys.stdin.read()), file.fileno() > 2)"
    out, err = in_shell(code, "<&-")
    assert out == "'' True\n" and err == "status 0\n"


def test_a_closed_error_takes_what_is_written():
    out, _ = in_shell("print('x', file=sys.stderr); print('done')", "2>&-")
    assert out == "done\n"


def test_help_is_readable_in_every_encoding():
    done = subprocess.run(
        [sys.executable, "-m", "bertft", "train", "--help", "all"],
        capture_output=True, timeout=900, env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0 and b"\\u0394W" in done.stdout
