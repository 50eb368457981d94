"""Build the optimizer of a run, and save and restore its state.

    AdamW    θ ← θ − η_t · (m̂ / (√v̂ + ε) + λ·θ)

Every parameter group has its own peak learning rate and its own weight decay λ; ``Schedule`` in
``bertft.training.step`` computes the learning rate η_t of step t. Other optimizers are registered
in ``bertft.config.registry.OPTIMIZERS``.

Reference: Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization (arXiv 1711.05101).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import AdamW, Optimizer

from bertft.config.registry import OPTIMIZERS
from bertft.config.trainer import TrainerConfig
from bertft.methods.component import ParamGroup

__all__ = [
    "adamw",
    "build_optimizer",
    "load_optimizer_state",
    "optimizer_state",
]


def build_optimizer(groups: Sequence[ParamGroup], trainer: TrainerConfig) -> Optimizer:
    """The optimizer ``trainer.optimizer`` over ``groups``, in their order."""
    description = OPTIMIZERS[trainer.optimizer]
    param_groups: list[dict[str, Any]] = [
        {
            "params": [parameter for _, parameter in group.parameters],
            "param_names": [name for name, _ in group.parameters],
            "name": group.name,
            "lr": group.learning_rate,
            "initial_lr": group.learning_rate,
            "state_names": description.state_tensors,
            "weight_decay": trainer.weight_decay if group.use_weight_decay else 0.0,
        }
        for group in groups
    ]
    settings = None
    if description.settings is not None:
        settings = description.settings(**trainer.optimizer_settings)
    build = OPTIMIZERS.implementation(trainer.optimizer, "build")
    optimizer: Optimizer = build(param_groups, trainer, settings)
    return optimizer


def adamw(groups: list[dict[str, Any]], trainer: TrainerConfig, _: None) -> AdamW:
    """Fused AdamW over all parameter groups."""
    return AdamW(groups, betas=(trainer.beta1, trainer.beta2), eps=trainer.epsilon, fused=True)


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's tensors and numbers, named ``<state>/<parameter>``."""
    return {
        f"{key}/{name}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_state(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Replace the state by what ``optimizer_state`` returned.

    A parameter that never had a gradient has no state. Raises KeyError for an unknown parameter
    or one whose state is incomplete.
    """
    saved_states: dict[str, dict[str, Any]] = {}
    optimizer.state.clear()
    for path, value in saved.items():
        key, _, name = path.partition("/")
        saved_states.setdefault(name, {})[key] = value
    for group in optimizer.param_groups:
        expected = set(group["state_names"])
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            parameter_state = saved_states.pop(name, {})
            if parameter_state and expected and set(parameter_state) != expected:
                raise KeyError(f"the optimizer state of {name} has only {sorted(parameter_state)}")
            for key, value in parameter_state.items():
                if not isinstance(value, Tensor):
                    optimizer.state[parameter][key] = value
                    continue
                # A step counter stays in fp32; moments have the dtype of their parameter.
                is_moment = key != "step" and value.shape == parameter.shape
                dtype = parameter.dtype if is_moment else value.dtype
                optimizer.state[parameter][key] = value.to(parameter.device, dtype).clone()
    if saved_states:
        unknown = sorted(f"{key}/{name}" for name, state in saved_states.items() for key in state)
        raise KeyError(f"the optimizer state has entries of unknown parameters: {unknown[:3]}")
