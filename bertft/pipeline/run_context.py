"""The environment in which a run is prepared: configuration, run folder, device, processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bertft.config.command_configs import TrainConfig
from bertft.models.precision import (
    Precision,
    choose_precision,
    recorded_precision,
    resolve_device,
)
from bertft.runs.manifest import Manifest
from bertft.runs.run_folder import RunFolder
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext

__all__ = ["RunContext"]

_DEFAULT_THREADS = torch.get_num_threads()  # torch's own choice, before any run changes it


@dataclass(frozen=True)
class RunContext:
    """The environment of a run; use ``create`` to construct it.

    Attributes:
        log: called with a message before work that takes time.
        manifest: that of an existing run; None for a new run.
        checkpoint: the folder whose weights the caller loads after the preparation; None: the run
            starts at its first step, from its base.
        read_only: the run is read and not trained. Its data sources are logged, because the user
            may not know them, and nothing is downloaded.
    """

    config: TrainConfig
    run_folder: RunFolder
    log: Callable[[str], None]
    device: torch.device
    precision: Precision
    distributed: DistributedContext
    manifest: Manifest | None
    checkpoint: Path | None
    read_only: bool

    @classmethod
    def create(
        cls,
        config: TrainConfig,
        run_folder: RunFolder,
        log: Callable[[str], None],
        *,
        distributed: DistributedContext = SINGLE_PROCESS,
        manifest: Manifest | None = None,
        checkpoint: Path | None = None,
        read_only: bool = False,
    ) -> RunContext:
        """Choose the device and the precision, and set the number of threads."""
        setting = "device" if read_only else "trainer.device"  # of report, of train
        device = distributed.device_for_rank(resolve_device(config.trainer.device, setting))
        if manifest is None:
            precision = choose_precision(config.trainer.precision, device)
        else:
            precision = recorded_precision(manifest["precision"], device, run_folder.path)
        context = cls(
            config,
            run_folder,
            log,
            device,
            precision,
            distributed,
            manifest,
            checkpoint,
            read_only,
        )
        context.set_threads()
        return context

    def set_threads(self) -> None:
        """Set the run's number of CPU threads; the last bits of results depend on it."""
        torch.set_num_threads(self.config.trainer.threads or _DEFAULT_THREADS)
