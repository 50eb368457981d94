"""Layers of every architecture, and which of them share one module."""

from __future__ import annotations

import pytest

from bertft.errors import UsageError
from bertft.models.families import encoder_family, encoder_layers
from bertft.models.runner import EncoderRunner

OUTSIDE = ["deberta-v2", "mpnet", "rembert"]
APART = [
    "bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert", *OUTSIDE
]  # fmt: skip


@pytest.mark.parametrize("kind", [*APART, "albert"])
def test_families(encoder, kind):
    family = encoder_family(encoder(kind))
    assert (family.model_type, family.layers, family.kv_width) == (kind, 3, 24)
    assert family.uses_attention_interface is (kind not in OUTSIDE)
    assert family.supports_layouts is (kind != "rembert")


@pytest.mark.parametrize("kind", APART)
@pytest.mark.parametrize("head", ["sequence", "mask"])
def test_layers(encoder, kind, head):
    model = encoder(kind, head)
    layers = encoder_layers(model)
    names = [name for name, _ in model.named_parameters()]
    prefix = next(name for name, module in model.named_modules() if module is layers)
    for number, layer in enumerate(layers):
        parameter_names = [name for name, _ in layer.named_parameters()]
        assert {f"{prefix}.{number}.{name}" for name in parameter_names} <= set(names)
    assert len(layers) == 3


def test_one_layer(encoder):
    assert len(encoder_layers(encoder("bert", num_hidden_layers=1))) == 1


def test_shared_layers_cannot_be_distinguished(encoder):
    with pytest.raises(UsageError, match="layers of a albert model cannot be trained separately"):
        encoder_layers(encoder("albert"))


@pytest.mark.parametrize("kind", [kind for kind in APART if kind not in OUTSIDE])
def test_attention_modules_know_their_layer(encoder, kind):
    """By number: a count of calls would go on when activations are recomputed."""
    model = encoder(kind)
    EncoderRunner(model, "sequence")
    for number, layer in enumerate(encoder_layers(model)):
        actual = [getattr(module, "layer_idx", None) for module in layer.modules()]
        assert number in actual and set(actual) <= {number, None}
        assert all(
            module.layer_idx == number for module in layer.modules() if hasattr(module, "is_causal")
        )


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_decoders_are_refused(encoder, kind):
    with pytest.raises(UsageError, match=f"this {kind} model is a decoder"):
        EncoderRunner(encoder(kind, is_decoder=True), "sequence")
