"""Two processes never train in one folder; whoever dies leaves it free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bertft.errors import UsageError
from bertft.runs.run_folder import exclusive_lock

HOLD = """
import sys, time
from pathlib import Path
from bertft.runs.run_folder import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        env={**os.environ, **path}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_until_the_first_is_gone(holder, tmp_path):
    run = tmp_path / "run"
    with (
        pytest.raises(UsageError, match="another process is writing to this folder"),
        exclusive_lock(run),
    ):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with exclusive_lock(run):
        assert list(run.iterdir()) == [], "the lock is no file"
    with exclusive_lock(run):
        pass


def test_a_file_in_its_place_is_for_others_to_tell(tmp_path):
    (tmp_path / "run").write_text("")
    with exclusive_lock(Path(tmp_path / "run")):
        assert (tmp_path / "run").is_file()
