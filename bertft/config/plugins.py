"""Hydra's launchers and sweepers that come as packages of their own, and how one gets them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from bertft.config.messages import Problem

__all__ = ["missing_hydra_plugin"]

_SWEEP_EXTRA = 'pip install "bertft[sweep]"'
# (group, choice) → the package, and what brings it.
_HYDRA_PLUGINS = {
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "submitit_local"): ("hydra-submitit-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "submitit_slurm"): ("hydra-submitit-launcher", _SWEEP_EXTRA),
    ("hydra/launcher", "ray"): ("hydra-ray-launcher", "pip install hydra-ray-launcher"),
    ("hydra/sweeper", "optuna"): ("hydra-optuna-sweeper", "pip install hydra-optuna-sweeper"),
}


def missing_hydra_plugin(group: str, name: str) -> Problem | None:
    """Why Hydra does not know ``group=name``, if that is a plugin; None if it is just a name."""
    if (group, name) not in _HYDRA_PLUGINS:
        return None
    package, install_command = _HYDRA_PLUGINS[group, name]
    try:
        installed = version(package)
    except PackageNotFoundError:
        return Problem(
            group, f"{name} needs the package {package}, which is not installed",
            f"It comes with {install_command}",
        )  # fmt: skip
    return Problem(
        group, f"{name} is in {package} {installed}, which cannot be imported here",
        f"Look at python -c 'import hydra_plugins.{package.replace('-', '_')}'",
    )  # fmt: skip
