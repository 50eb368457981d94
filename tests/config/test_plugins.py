"""A launcher or sweeper that is not installed: one line that names what brings it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from bertft.config import hydra_errors
from bertft.config.hydra_errors import missing_hydra_plugin


@pytest.fixture
def nothing_installed(monkeypatch):
    def version(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(hydra_errors, "version", version)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("joblib", "hydra-joblib-launcher"),
        ("submitit_local", "hydra-submitit-launcher"),
        ("submitit_slurm", "hydra-submitit-launcher"),
    ],
)
def test_launchers_of_the_extra(nothing_installed, name, package):
    problem = missing_hydra_plugin("hydra/launcher", name)
    assert f"{name} needs the package {package}, which is not installed" in str(problem)
    assert 'pip install "bertft[sweep]"' in str(problem)


def test_plugins_of_others(nothing_installed):
    assert "pip install hydra-ray-launcher" in str(missing_hydra_plugin("hydra/launcher", "ray"))
    assert "pip install hydra-optuna-sweeper" in str(
        missing_hydra_plugin("hydra/sweeper", "optuna")
    )


def test_what_is_no_plugin():
    assert missing_hydra_plugin("hydra/launcher", "joblip") is None
    assert missing_hydra_plugin("method", "ray") is None


def test_one_that_is_installed_and_broken(monkeypatch):
    monkeypatch.setattr(hydra_errors, "version", lambda package: "9.9")
    content = str(missing_hydra_plugin("hydra/launcher", "ray"))
    assert "hydra-ray-launcher 9.9, which cannot be imported" in content
    assert "hydra_plugins.hydra_ray_launcher" in content


@pytest.mark.parametrize("word", ["hydra/launcher=ray", "hydra/sweeper=optuna"])
def test_the_command_line_states_it(run_bertft, calls, word, nothing_installed, monkeypatch):
    """Neither comes with the extra ``test``."""
    result = run_bertft("train", "-m", word, "seed=0,1")
    assert result.status == 2 and result.err.count("\n") == 1
    assert result.err.startswith(f"error: {word.partition('=')[0]}: ") and result.out == ""
    assert "which is not installed. Install it with pip install hydra-" in result.err


def test_a_launcher_that_is_none(run_bertft):
    result = run_bertft("train", "-m", "hydra/launcher=joblip", "seed=0,1")
    assert result.status == 2 and "Did you mean 'joblib'?" in result.err


def test_another_sweeper_s_fixed_words_are_checked_before_it_chooses(run_bertft, calls):
    result = run_bertft(
        "train", "-m", "hydra/sweeper=basic", "trainer.epoch=3", "seed=0,1", "method.rank=x"
    )
    assert result.status == 2 and calls["train"] == []
    assert (
        "trainer.epoch: unknown setting" in result.err and "'x' is not a whole number" in result.err
    )
