"""IA³: trained factors of a linear layer's outputs, or of its inputs.

    y = l ⊙ (W·x + bias)        l [out], of keys and values
    y = W·(l ⊙ x) + bias        l [in], of the layer after the feed-forward activation

l starts at 1, so the model starts as the base. Folded: diag(l)·W and l ⊙ bias, or W·diag(l).
If another method has changed the layer, W·x + bias is the output of the changed layer.

Liu et al. 2022 (arXiv 2205.05638, §3.3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bertft.config.method import MethodConfig
from bertft.config.method_components.ia3 import IA3Config
from bertft.errors import UsageError
from bertft.methods.component import MethodComponent, MetricHistory, NamedParameter, PeftAdapter
from bertft.methods.layer_grid import layer_grid
from bertft.methods.peft_format import (
    PREFIX,
    copy_and_group_tensors,
    find_linear_layer,
    refuse_fan_in_fan_out,
    shape_mismatch_error,
)
from bertft.models.linear_layers import (
    LinearWrapper,
    TargetLayer,
    check_foldable,
    find_target_layers,
    plain_path,
    replace_modules,
)
from bertft.models.precision import at_least_fp32
from bertft.tasks.report_items import ReportItem

__all__ = ["IA3", "ScaledLinear", "build", "from_peft"]

_INPUT = "input"  # the name of factors of inputs; factors of outputs have the name of their role


def build(settings: IA3Config, method: MethodConfig, learning_rate: float | None) -> IA3:
    """``learning_rate`` overrides ``settings.learning_rate``."""
    return IA3(settings, learning_rate or settings.learning_rate)


def from_peft(settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> ImportedIA3:
    """The component of an IA³ adapter: entries of its adapter_config.json, and its tensors."""
    return ImportedIA3(settings, tensors)


class ScaledLinear(LinearWrapper):
    """A linear layer whose output or input is multiplied by trained factors.

    Factors are fp32, or fp64 if the weight is. Only the product is rounded to the type of what is
    scaled: a factor of 1.005 would be 1.0039 in bf16.

    Args:
        inner: The layer.
        outputs: Role → rows of the weight whose outputs it scales, None for all rows. If None, the
            input is scaled.
    """

    def __init__(self, inner: nn.Module, outputs: Mapping[str, slice | None] | None) -> None:
        super().__init__(inner)
        dtype = at_least_fp32(self.weight.dtype)
        self.rows = dict(outputs or {})
        self.scales_input = outputs is None
        sizes = {_INPUT: self.in_features}
        if outputs is not None:
            sizes = {
                role: self.out_features if rows is None else rows.stop - rows.start
                for role, rows in outputs.items()
            }
        self.adapter = nn.ParameterDict(
            {
                role: nn.Parameter(torch.ones(size, dtype=dtype, device=self.weight.device))
                for role, size in sizes.items()
            }
        )

    def input_factors(self) -> Tensor | None:
        """l [in]; None if the output is scaled."""
        return self.adapter[_INPUT] if self.scales_input else None

    def output_factors(self) -> Tensor | None:
        """l [out], 1 for rows that are not scaled; None if the input is scaled."""
        pieces: list[Tensor] = []
        filled = 0
        by_start = sorted(self.rows.items(), key=lambda item: item[1].start if item[1] else 0)
        for role, rows in by_start:
            factors = self.adapter[role]
            if rows is None:
                return factors
            pieces += [factors.new_ones(rows.start - filled), factors]
            filled = rows.stop
        if not pieces:
            return None
        return torch.cat([*pieces, pieces[-1].new_ones(self.out_features - filled)])

    def forward(self, x: Tensor) -> Tensor:
        input_factors, output_factors = self.input_factors(), self.output_factors()
        y: Tensor = self.inner(x if input_factors is None else (x * input_factors).to(x.dtype))
        return y if output_factors is None else (y * output_factors).to(y.dtype)


class IA3(MethodComponent):
    """Attaches after the low-rank component, and scales what that has changed."""

    name = "ia3"
    attach_order = 25
    use_weight_decay = False

    def __init__(self, settings: IA3Config, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate

    def attach(self, model: nn.Module) -> None:
        """UsageError if a target has no match, or a layer of feedforward is not a target."""
        targets = _find_targets(model, self.settings.targets, "targets")
        inputs = _find_targets(model, self.settings.feedforward, "feedforward")
        whole = {target.path for target in targets if target.rows is None}
        for target in inputs:
            if target.rows is not None or target.path not in whole:
                path = plain_path(target.path)
                raise UsageError(
                    f"{path} shares its matrix with other projections, so its input cannot be"
                    " scaled separately"
                    if target.rows is not None
                    else f"{path} is not in method.ia3.targets",
                    where="method.ia3.feedforward",
                    hint="Name layers of method.ia3.targets, for example [ffn_out]",
                )
        scaled = {target.path for target in inputs}
        by_layer: dict[nn.Module, dict[str, slice | None] | None] = defaultdict(dict)
        for target in targets:
            if target.path in scaled:
                by_layer[target.module] = None
            else:
                by_layer[target.module][target.role] = target.rows  # type: ignore[index]
        replace_modules(
            model, {layer: ScaledLinear(layer, outputs) for layer, outputs in by_layer.items()}
        )

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        for path, layer in _scaled_layers(model).items():
            for role, factors in layer.adapter.items():
                yield f"{path}.adapter.{role}", factors

    def report_items(self, model: nn.Module, history: MetricHistory) -> Iterator[ReportItem]:
        """How far the factors are from 1."""
        distances = {
            (path, "linear" if role == _INPUT else role): float((factors.detach() - 1).abs().mean())
            for path, layer in _scaled_layers(model).items()
            for role, factors in layer.adapter.items()
        }
        if distances:
            yield layer_grid(
                "factors",
                "Factors, mean |l − 1|",
                "Mean change of the factors per module.",
                list(distances),
                list(distances.values()),
                3,
            )

    def peft_adapter(self, model: nn.Module) -> PeftAdapter:
        """An IA³ adapter, in fp32."""
        tensors, inputs = {}, []
        layers = {plain_path(path): layer for path, layer in _scaled_layers(model).items()}
        for path, layer in layers.items():
            input_factors, output_factors = layer.input_factors(), layer.output_factors()
            if input_factors is not None:
                inputs.append(path)
                factors = input_factors[None]
            else:
                assert output_factors is not None
                factors = output_factors[:, None]
            tensors[f"{PREFIX}{path}.ia3_l"] = factors.detach().float().cpu().contiguous()
        settings = {
            "peft_type": "IA3",
            "target_modules": sorted(layers),
            "feedforward_modules": sorted(inputs),
            "fan_in_fan_out": False,
            "init_ia3_weights": True,
            "inference_mode": True,
        }
        return settings, tensors

    @torch.no_grad()
    def fold(self, model: nn.Module) -> int:
        """Multiply the factors into weight and bias, in fp64, rounded once."""
        layers = _scaled_layers(model)
        check_foldable(layers)
        plain: dict[nn.Module, nn.Module] = {}
        for layer in layers.values():
            linear = layer.unwrap()
            input_factors, output_factors = layer.input_factors(), layer.output_factors()
            if input_factors is not None:
                linear.weight.copy_(linear.weight.double() * input_factors.double())
            if output_factors is not None:
                linear.weight.copy_(linear.weight.double() * output_factors.double()[:, None])
                if linear.bias is not None:
                    linear.bias.copy_(linear.bias.double() * output_factors.double())
            plain[layer] = linear
        replace_modules(model, plain)
        return len(plain)


class ImportedIA3(IA3):
    """The frozen factors of an adapter that was trained elsewhere."""

    def __init__(self, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__(IA3Config(), IA3Config().learning_rate)
        self.peft_settings, self.tensors = settings, tensors

    @torch.no_grad()
    def attach(self, model: nn.Module) -> None:
        """DataError if the factors do not fit the model."""
        refuse_fan_in_fan_out(self.peft_settings)
        replacements: dict[nn.Module, nn.Module] = {}
        tensors_by_layer = copy_and_group_tensors(model, self.tensors, "ia3_l")
        for path, layer_tensors in tensors_by_layer.items():
            layer, factors = find_linear_layer(model, path), layer_tensors["ia3_l"]
            # peft saves factors of inputs as a row, and factors of outputs as a column.
            outputs = {"linear": None} if factors.shape == (layer.out_features, 1) else None
            if outputs is None and factors.shape != (1, layer.in_features):
                raise shape_mismatch_error(path, layer)
            replacements[layer] = scaled = ScaledLinear(layer, outputs)
            for parameter in scaled.adapter.values():
                parameter.copy_(factors.flatten())
            scaled.adapter.requires_grad_(False)
        replace_modules(model, replacements)


def _scaled_layers(model: nn.Module) -> dict[str, ScaledLinear]:
    """Path → layer, each once."""
    return {
        path: module for path, module in model.named_modules() if isinstance(module, ScaledLinear)
    }


def _find_targets(
    model: nn.Module, names: str | list[str] | None, setting: str
) -> list[TargetLayer]:
    chosen = [names] if isinstance(names, str) else list(names or ())
    return find_target_layers(model, chosen, f"method.ia3.{setting}")
