"""Attention with relative positions against transformers' own code and against its equations."""

from __future__ import annotations

import copy

import pytest
import torch

from bertft.config.method_components.prefix import PrefixConfig
from bertft.methods.prefix import build
from bertft.models.attention.relative import DistanceTables, attend_with_distances
from bertft.models.forward_state import ForwardState
from bertft.models.runner import EncoderRunner
from bertft.models.sequence_layout import SequenceLayout

# The longest text has more tokens than buckets, so that distances share and exceed them.
LENGTHS = [3, 9, 9, 17, 30]
LAYOUTS = ["unpadded", "packed", "padded"]
VARIANTS = {
    "c2p": {"pos_att_type": ["c2p"]},
    "p2c": {"pos_att_type": ["p2c"]},
    "no terms": {"relative_attention": False, "pos_att_type": None},
    "shared keys, layer norm, buckets (v3)": {
        "share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 8,
        "position_biased_input": False, "max_relative_positions": -1, "type_vocab_size": 0,
    },
    "convolution (v2 xlarge)": {
        "conv_kernel_size": 3, "conv_act": "gelu", "share_att_key": True, "position_buckets": 6,
    },
    "few distances": {"max_relative_positions": 5},
}  # fmt: skip


def loss_and_gradients(model, logits, labels):
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), grads


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_deberta_equals_transformers(encoder, batch, plain, variant, layout):
    """Logits and the gradients of all parameters, those of the relative embeddings included."""
    with_types = VARIANTS[variant].get("type_vocab_size", 2) > 0
    model, rows = encoder("deberta-v2", "token", **VARIANTS[variant]), batch(LENGTHS, with_types)
    labels = torch.arange(len(rows.input_ids)) % 3
    reference = copy.deepcopy(model)
    expected, expected_grads = loss_and_gradients(reference, plain(reference, rows), labels)
    runner = EncoderRunner(model, "token", layout)
    loss, grads = loss_and_gradients(model, runner(rows), labels)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
    assert grads.keys() == expected_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=0, atol=1e-10)


def test_the_gradients_of_mpnet_equal_those_of_transformers(encoder, batch, plain):
    model, rows = encoder("mpnet", "token"), batch([2, 40, 7], False)
    labels = torch.arange(len(rows.input_ids)) % 3
    reference = copy.deepcopy(model)
    _, expected = loss_and_gradients(reference, plain(reference, rows), labels)
    _, grads = loss_and_gradients(model, EncoderRunner(model, "token")(rows), labels)
    assert float(grads["mpnet.encoder.relative_attention_bias.weight"].abs().max()) > 1e-6
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["unpadded", "packed"])
def test_scores_are_those_of_the_equations(kind):
    """Pair by pair, with a prefix, which has no position."""
    torch.manual_seed(0)
    lengths, heads, size, prefix_length = [3, 5, 4], 2, 4, 2
    layout = SequenceLayout(lengths, kind, torch.device("cpu"))
    rows, width = layout.shape
    longest = max(lengths) if kind == "unpadded" else width
    query, key, value = torch.randn(3, rows, width, heads, size, dtype=torch.float64)
    table_size = (heads, 2 * longest - 1, size)
    for_queries, for_keys = torch.randn(2, *table_size, dtype=torch.float64)
    bias = torch.randn(table_size[:2], dtype=torch.float64)
    prefix = torch.randn(2, prefix_length, heads, size, dtype=torch.float64)
    output = attend_with_distances(
        query, key, value, DistanceTables(for_queries, for_keys, bias, longest),
        ForwardState(layout), prefix, 0.0,
    )  # fmt: skip
    assert output.shape == (rows, width, heads * size)
    slots = layout.token_indices().split(lengths)
    query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
    for sequence in slots:
        for i, query_slot in enumerate(sequence):
            for head in range(heads):
                q, scores = query[query_slot, head], []
                scores += [q @ prefix[0, p, head] for p in range(prefix_length)]
                for j, key_slot in enumerate(sequence):
                    k, distance = key[key_slot, head], i - j
                    score = q @ k + q @ for_queries[head, longest - 1 - distance]
                    row = distance + longest - 1
                    scores.append(score + k @ for_keys[head, row] + bias[head, row])
                weights = torch.softmax(torch.stack(scores), 0)
                values = torch.cat([prefix[1, :, head], value[sequence, head]])
                actual = output.flatten(0, 1)[query_slot].view(heads, size)[head]
                torch.testing.assert_close(actual, weights @ values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["deberta-v2", "mpnet"])
def test_a_copy_and_a_pass_without_state_use_transformers_code(encoder, batch, plain, kind):
    model, rows = encoder(kind), batch(LENGTHS, kind == "deberta-v2")
    expected = plain(copy.deepcopy(model), rows)
    EncoderRunner(model, "sequence")
    torch.testing.assert_close(plain(copy.deepcopy(model), rows), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["deberta-v2", "mpnet"])
def test_dropout_acts_in_training_alone_and_repeats(encoder, batch, kind):
    """Checkpointed layers are computed twice, with the same masks (MPNet does not support it)."""
    rows, results = batch(LENGTHS, kind == "deberta-v2"), {}
    for checkpointing in (False, kind == "deberta-v2"):
        model = encoder(kind, dropout=0.3).train()
        build(PrefixConfig(length=4), None, None).attach(model)
        with torch.no_grad():
            model.prefix.vectors.fill_(0.1)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        runner = EncoderRunner(model, "sequence")
        torch.manual_seed(5)
        labels = torch.arange(len(rows.lengths)) % 3
        results[checkpointing] = loss_and_gradients(model, runner(rows), labels)
        assert not torch.equal(runner(rows), runner(rows))
        model.eval()
        torch.testing.assert_close(runner(rows), runner(rows), rtol=0, atol=0)
    if kind == "deberta-v2":
        torch.testing.assert_close(results[True], results[False], rtol=1e-12, atol=1e-13)


def test_the_work_depends_on_the_lengths_not_on_the_table(encoder, batch):
    """transformers multiplies with all relative positions; here, those that occur are projected."""
    model, rows = encoder("deberta-v2", max_relative_positions=500), batch([4, 4])
    projected = []
    layer = model.deberta.encoder.layer[0].attention.self
    layer.pos_key_proj.register_forward_pre_hook(lambda _, args: projected.append(len(args[0])))
    EncoderRunner(model, "sequence")(rows)
    assert projected == [7]
