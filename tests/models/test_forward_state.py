"""What a trace holds equals what transformers shows of each row by itself, in every layout."""

from __future__ import annotations

import pytest
import torch

from bertft.config.method import MethodConfig
from bertft.config.method_components import prefix
from bertft.errors import UsageError
from bertft.methods import attach_components, build_components
from bertft.models.forward_state import ActivationRecorder
from bertft.models.runner import EncoderRunner

LENGTHS = [2, 9, 9, 5, 14]


def rows_of(model, batch):
    """Hidden states [layers + 1][N, H] and attention [layers][rows][heads, t, t], eagerly."""
    model.set_attn_implementation("eager")
    states, maps, at = [], [], 0
    for length in batch.lengths.tolist():
        output = model(
            batch.input_ids[None, at : at + length], attention_mask=torch.ones(1, length).long(),
            output_hidden_states=True, output_attentions=True,
        )  # fmt: skip
        states.append(output.hidden_states)
        maps.append([attention[0] for attention in output.attentions])
        at += length
    hidden = [torch.cat([row[n][0] for row in states]) for n in range(len(states[0]))]
    return hidden, [[row[n] for row in maps] for n in range(len(maps[0]))]


@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "albert", "modernbert"])
def test_states_and_attention(encoder, batch, kind, layout):
    made = batch(LENGTHS, types=False)
    hidden, maps = rows_of(encoder(kind), made)
    trace = ActivationRecorder(frozenset({0, 2}), record_hidden=True)
    runner = EncoderRunner(encoder(kind), "sequence", layout)
    with torch.no_grad():
        logits = runner(made, trace)
        # Looking changes nothing, but that the top layer is computed for all tokens.
        torch.testing.assert_close(runner(made), logits, rtol=0, atol=1e-14)
    assert sorted(trace.head_states) == [0, 2] and len(trace.hidden_states) == len(hidden) == 4
    for one, other in zip(trace.hidden_states, hidden, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # eager's softmax is in fp32
    for layer, heads in trace.head_states.items():
        assert heads.query.shape == (sum(LENGTHS), 2, 12)
        at = 0
        for length, expected in zip(LENGTHS, maps[layer], strict=True):
            q, k = (tensor[at : at + length].transpose(0, 1) for tensor in (heads.query, heads.key))
            scores = heads.scale * q @ k.transpose(1, 2)
            if heads.window is not None:
                steps = torch.arange(length)
                far = (steps[:, None] - steps[None]).abs() >= heads.window
                scores = scores.masked_fill(far, float("-inf"))
            torch.testing.assert_close(scores.softmax(-1), expected, rtol=0, atol=1e-6)
            at += length


@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
@pytest.mark.parametrize("kind", ["key_value", "prompt"])
def test_the_places_of_a_prefix_are_left_out(encoder, batch, kind, layout):
    settings = MethodConfig(name="test", prefix=prefix.PrefixConfig(kind=kind, length=3))
    made, traces = batch(LENGTHS), []
    for layout_name in ("padded", layout):
        model = encoder("bert")
        torch.manual_seed(1)
        attach_components(build_components(settings), model)
        traces.append(ActivationRecorder(frozenset({1}), record_hidden=True))
        EncoderRunner(model.eval(), "sequence", layout_name)(made, traces[-1])
    wanted, trace = traces
    assert all(state.shape == (sum(LENGTHS), 24) for state in trace.hidden_states)
    for one, other in zip(trace.hidden_states, wanted.hidden_states, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        trace.head_states[1].value, wanted.head_states[1].value, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
def test_gradients_flow_back_and_checkpointing_changes_none(encoder, batch, layout):
    actual = []
    for checkpointing in (False, True):
        model = encoder("bert").train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        trace = ActivationRecorder(frozenset({2}), record_hidden=True)
        logits = EncoderRunner(model, "sequence", layout)(batch(LENGTHS), trace)
        loss = (
            logits.sum()
            + trace.head_states[2].value.square().sum()
            + trace.hidden_states[1].cos().sum()
        )
        loss.backward()
        actual.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*actual, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_outside_the_interface_states_alone_are_seen(encoder, batch):
    model, made = encoder("deberta-v2"), batch(LENGTHS)
    runner, trace = EncoderRunner(model, "sequence"), ActivationRecorder(record_hidden=True)
    runner(made, trace)
    assert [state.shape for state in trace.hidden_states] == [(sum(LENGTHS), 24)] * 4
    with pytest.raises(UsageError, match="attention of a deberta-v2 model"):
        runner(made, ActivationRecorder(frozenset({0})))
