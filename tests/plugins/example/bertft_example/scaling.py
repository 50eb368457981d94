"""A factor for each output of a linear layer: y = l ⊙ (W·x + b), l starting at 1.

Folded: diag(l)·W and l ⊙ b.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.config.method import MethodConfig
from bertft.errors import UsageError
from bertft.methods.component import (
    ComponentState,
    MethodComponent,
    MetricHistory,
    NamedParameter,
    PeftAdapter,
)
from bertft.models.linear_layers import LinearWrapper, find_target_layers, replace_modules
from bertft.models.precision import at_least_fp32
from bertft.tasks.report_items import ReportItem, TableItem
from bertft_example.components import ScalingSettings

__all__ = ["ScaledLinear", "Scaling", "build", "from_peft"]


def build(settings: ScalingSettings, method: MethodConfig, learning_rate: float | None) -> Scaling:
    """``learning_rate`` overrides ``settings.learning_rate``."""
    return Scaling(settings, learning_rate or settings.learning_rate)


def from_peft(settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> Scaling:
    """The component of an adapter of this package's own type."""
    factors = {
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX): tensor
        for name, tensor in tensors.items()
        if name.endswith(_SUFFIX)
    }
    return _ImportedScaling(ScalingSettings(targets=sorted(factors)), factors)


_PREFIX, _SUFFIX = "base_model.model.", ".scale"


class ScaledLinear(LinearWrapper):
    """``adapter.scale`` [out] multiplies the output of ``inner``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        weight = self.weight
        dtype = at_least_fp32(weight.dtype)
        scale = torch.ones(self.out_features, dtype=dtype, device=weight.device)
        self.adapter = nn.ParameterDict({"scale": nn.Parameter(scale)})

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y * self.adapter["scale"].to(y.dtype)


class Scaling(MethodComponent):
    """Attaches after bertft's own components, and so scales what they have changed."""

    name = "scaling"
    attach_order = 60
    use_weight_decay = False

    def __init__(self, settings: ScalingSettings, learning_rate: float) -> None:
        self.settings, self.learning_rate, self.steps = settings, learning_rate, 0

    def attach(self, model: nn.Module) -> None:
        targets = find_target_layers(model, self.settings.targets, "method.scaling.targets")
        sliced = [target.path for target in targets if target.rows is not None]
        if sliced:
            raise UsageError(f"{sliced[0]} shares its matrix with other projections",
                             where="method.scaling.targets", hint="Name whole layers")  # fmt: skip
        replace_modules(model, {target.module: ScaledLinear(target.module) for target in targets})

    def _layers(self, model: nn.Module) -> dict[str, ScaledLinear]:
        return {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, ScaledLinear)
        }

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        for path, layer in self._layers(model).items():
            yield f"{path}.adapter.scale", layer.adapter["scale"]

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        self.steps += 1

    def metrics(self) -> dict[str, float]:
        return {"scaling_steps": float(self.steps)}

    def state_dict(self) -> ComponentState:
        return {"steps": self.steps}

    def load_state_dict(self, state: ComponentState) -> None:
        self.steps = int(state["steps"])

    def report_items(self, model: nn.Module, history: MetricHistory) -> Iterator[ReportItem]:
        rows = [
            [path, float(layer.adapter["scale"].min()), float(layer.adapter["scale"].max())]
            for path, layer in self._layers(model).items()
        ]
        yield TableItem(
            "scaling",
            "Factors",
            "Of each layer.",
            head=["layer", "min", "max"],
            rows=rows,
        )

    def peft_adapter(self, model: nn.Module) -> PeftAdapter:
        layers = self._layers(model)
        settings = {
            "peft_type": "SCALING", "target_modules": sorted(layers), "inference_mode": True,
        }  # fmt: skip
        return settings, {
            f"base_model.model.{path}.scale": layer.adapter["scale"].detach().float()[:, None]
            for path, layer in layers.items()
        }

    @torch.no_grad()
    def fold(self, model: nn.Module) -> int:
        plain: dict[nn.Module, nn.Module] = {}
        for layer in self._layers(model).values():
            linear, scale = layer.unwrap(), layer.adapter["scale"]
            linear.weight.mul_(scale[:, None])
            if linear.bias is not None:
                linear.bias.mul_(scale)
            plain[layer] = linear
        replace_modules(model, plain)
        return len(plain)


class _ImportedScaling(Scaling):
    """Attaches with the factors of an adapter."""

    def __init__(self, settings: ScalingSettings, factors: Mapping[str, Tensor]) -> None:
        super().__init__(settings, settings.learning_rate)
        self.factors = factors

    @torch.no_grad()
    def attach(self, model: nn.Module) -> None:
        super().attach(model)
        for path, layer in self._layers(model).items():
            layer.adapter["scale"].copy_(self.factors[path].flatten())
