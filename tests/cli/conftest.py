"""Sweeps and searches without training: the command train is replaced in this process."""

from __future__ import annotations

import sys
import types

import pytest


@pytest.fixture
def fake(request, monkeypatch, tmp_path):
    """An instance of the test module's ``Fake``, whose ``run`` takes the place of the command."""
    monkeypatch.chdir(tmp_path)
    made = request.module.Fake()
    module = types.ModuleType("bertft.cli.commands.train")
    module.run = made.run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made
