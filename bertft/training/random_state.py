"""Seeds and states of all random generators: Python, NumPy, torch and each CUDA device.

The processes of a distributed run build the same model from one seed. Then each process uses its
own seed, for example for dropout.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

__all__ = ["capture_rng_state", "restore_rng_state", "seed_all", "seed_per_rank"]


def seed_all(seed: int) -> None:
    """Seed all generators. Runs with the same seed, device and number of threads are equal."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_per_rank(seed: int, rank: int) -> None:
    """Seed all processes differently, except the main one: it keeps its generators."""
    if rank:
        seed_all(int(np.random.SeedSequence([seed, rank]).generate_state(1)[0]))


def capture_rng_state() -> dict[str, Tensor]:
    """Return the states as tensors, which a checkpoint stores without pickle."""
    version, mersenne_state, gauss = random.getstate()
    assert version == 3, "the version since Python 3.2"
    legacy = np.random.get_state(legacy=False)
    keys = legacy["state"]["key"].astype(np.int64)
    rng_state = {
        "rng/python": torch.tensor(mersenne_state, dtype=torch.int64),
        "rng/python_gauss": torch.tensor(
            [float("nan") if gauss is None else gauss], dtype=torch.float64
        ),
        "rng/numpy": torch.from_numpy(keys),
        "rng/numpy_rest": torch.tensor(
            [legacy["state"]["pos"], legacy["has_gauss"], legacy["gauss"]], dtype=torch.float64
        ),
        "rng/torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for number, cuda_state in enumerate(torch.cuda.get_rng_state_all()):
            rng_state[f"rng/cuda{number}"] = cuda_state
    return rng_state


def restore_rng_state(rng_state: dict[str, Tensor]) -> None:
    """Restore what ``capture_rng_state`` returned; states of missing CUDA devices are ignored."""
    gauss = float(rng_state["rng/python_gauss"][0])
    random.setstate((3, tuple(rng_state["rng/python"].tolist()), None if gauss != gauss else gauss))
    position, has_gauss, value = rng_state["rng/numpy_rest"].tolist()
    keys = rng_state["rng/numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), value))
    torch.set_rng_state(rng_state["rng/torch"])
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if f"rng/cuda{number}" in rng_state:
                torch.cuda.set_rng_state(rng_state[f"rng/cuda{number}"], number)
