"""``hydra/sweeper=halving``: search by successive halving, for ``bertft train -m``.

Hydra imports this module in every program that has bertft installed. It therefore imports neither
optuna nor the code of the search before a sweep starts. Hydra's loader runs the module before it is
in ``sys.modules``, so that a dataclass cannot have annotations in the form of text.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["HalvingSweeper", "HalvingSweeperConfig"]


@dataclass
class HalvingSweeperConfig:
    """The settings ``hydra.sweeper``; ``bertft tune --help tune`` describes them.

    The space consists of the settings with a distribution on the command line.
    """

    _target_: str = "hydra_plugins.bertft_halving.halving_sweeper.HalvingSweeper"
    trials: int | None = 16
    time: str | None = None
    seeds: Any = (1, 2, 3)
    seed: int = 0


ConfigStore.instance().store(
    group="hydra/sweeper", name="halving", node=HalvingSweeperConfig, provider="bertft"
)


class HalvingSweeper(Sweeper):
    """Proposes configurations and runs them through the launcher: see ``bertft.search``."""

    def __init__(self, trials: int | None, time: str | None, seeds: Any, seed: int) -> None:
        self.settings = {"trials": trials, "time": time, "seeds": seeds, "seed": seed}
        self.config: DictConfig
        self.hydra_context: HydraContext
        self.launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search; its results are in the folder of the sweep."""
        from bertft.search.run import run_search

        run_search(
            self.settings, self.config, self.hydra_context.config_loader, self.launcher, arguments
        )
