"""``bertft cross_validate``: its arguments as those of a sweep over the folds.

    bertft cross_validate a.csv folds=3 repeats=2
    → train -m data=files data.train=a.csv data.folds=3 data.repeat=1,2 data.fold=1,2,3

Every other setting belongs to the runs of the folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bertft.config.compose import ComposeRequest, compose_config
from bertft.config.overrides import format_value, rewrite_overrides, split_override
from bertft.config.sweep_plan import SweepPlan, check_sweep_input, plan_sweep
from bertft.utils.messages import Problem, usage_error

__all__ = ["plan_folds"]

_OWN_SETTINGS = ("folds", "repeats", "hydra.run.dir", "hydra.sweep.dir")


def plan_folds(words: Sequence[str], config_dir: Path | None = None) -> tuple[SweepPlan, list[str]]:
    """The plan of the sweep over the folds, and its overrides of ``train -m``.

    Args:
        words: the arguments after ``expand_positional`` and ``expand_config_file``.
        config_dir: the folder of ``--config-dir``.

    Raises:
        UsageError: lists every problem of the settings.
    """
    keys = {split_override(word)[1] for word in words}
    if "hydra/sweeper" in keys:
        raise usage_error(
            [
                Problem(
                    "hydra/sweeper",
                    "is not supported by cross_validate: the folds are its jobs",
                    "Leave it out. To search for settings, use bertft tune",
                )
            ]
        )
    overrides = rewrite_overrides("cross_validate", words, config_dir=config_dir)
    config = compose_config(ComposeRequest("cross_validate", tuple(overrides), config_dir))
    is_run_dir_set = "hydra.run.dir" in keys and "hydra.sweep.dir" not in keys
    folder = config.hydra.run.dir if is_run_dir_set else config.hydra.sweep.dir
    of_runs = [word for word in words if split_override(word)[1] not in _OWN_SETTINGS]
    sweep = [
        *rewrite_overrides("train", of_runs, config_dir=config_dir),
        f"data.folds={config.folds}",
        f"data.repeat={','.join(map(str, range(1, config.repeats + 1)))}",
        f"data.fold={','.join(map(str, range(1, config.folds + 1)))}",
        f"hydra.sweep.dir={format_value(str(folder))}",  # resolved: its name may have the time
    ]
    check_sweep_input(sweep)
    return plan_sweep(ComposeRequest("train", tuple(sweep), config_dir)), sweep
