"""Commands that only record the configuration that they are called with."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from bertft.cli.app import main
from bertft.config.command_configs import COMMAND_CONFIGS


class CliResult:
    """What a command line printed and ended with."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def calls(monkeypatch, tmp_path) -> dict[str, list[tuple[Any, Any]]]:
    """Calls of each command's ``run``, made in an empty folder."""
    monkeypatch.chdir(tmp_path)
    made: dict[str, list[tuple[Any, Any]]] = {}
    for name in COMMAND_CONFIGS:
        module = types.ModuleType(f"bertft.cli.commands.{name}")
        made[name] = []
        module.run = lambda config, folder, name=name: made[name].append((config, folder))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.fixture
def run_bertft(calls, capsys) -> Callable[..., CliResult]:
    """Run a command line given as words."""

    def run(*words: str) -> CliResult:
        status = main(words)
        return CliResult(status, *capsys.readouterr())

    return run
