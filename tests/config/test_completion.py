from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from bertft.cli.completion import complete_line
from bertft.config.command_configs import COMMAND_CONFIGS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bertft ", sorted(COMMAND_CONFIGS)),
        ("bertft tr", ["train"]),
        ("bertft train me", ["method.", "method="]),
        ("bertft train method=lora", ["method=lora", "method=lora_prefix"]),
        ("bertft train method.prefix.mlp", ["method.prefix.mlp=", "method.prefix.mlp_hidden="]),
        ("bertft train data.on_bad_row=", ["data.on_bad_row=error", "data.on_bad_row=skip"]),
        ("bertft train quiet=", ["quiet=false", "quiet=true"]),
        ("bertft train seed=1 experiment=ss", ["experiment=sst2_small_budget"]),
        ("bertft merge method", []),
        ("bertft nothing x", []),
        ("bertft train a.b.c", []),
        ("bertft compare d", ["device=", "draws="]),
        ("bertft train seed.x=", []),
    ],
)  # fmt: skip
def test_words_that_may_follow(line, expected):
    assert complete_line(line) == expected


def test_nothing_of_hydra_is_offered():
    offered = complete_line("bertft train ")
    assert not [word for word in offered if word.startswith(("hydra", "schema", "open"))]
    assert "trainer." in offered and "experiment=" in offered


def test_the_last_path_of_a_list_is_completed(tmp_path):
    (tmp_path / "second").mkdir()
    start = f"runs=[{tmp_path}/first,"
    actual = complete_line(f"bertft compare {start}{tmp_path}/se")
    assert [path.rstrip("/") for path in actual] == [f"{start}{tmp_path}/second"]


def test_paths_are_completed(tmp_path):
    (tmp_path / "reviews.csv").touch()
    assert complete_line(f"bertft train data.train={tmp_path}/re") == [
        f"data.train={tmp_path}/reviews.csv"
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_after_the_documented_line(tmp_path):
    program = tmp_path / "bertft"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bertft "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(bertft -sc install=bash)"
        COMP_LINE="bertft train method=svd"; COMP_POINT=${#COMP_LINE}
        COMP_WORDS=(bertft train method=svd); COMP_CWORD=2
        hydra_bash_completion; echo "${COMPREPLY[@]}"
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["method=svd_lora", "method=svd_lora_prefix"], done.stderr


def test_a_shell_that_is_not_known(run_bertft):
    result = run_bertft("-sc", "install=tcsh")
    assert result.status == 2 and "bash" in result.err
