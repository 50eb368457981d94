"""Evaluations that begin with stored states have the bits of those that compute all layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from bertft.data.batch import collate
from bertft.data.features import ConcatFeatureTable
from bertft.data.stored_states import load_states, store_states
from bertft.models import runner as runner_module
from bertft.models.dropout import replace_dropout
from bertft.models.families import encoder_layers
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.pipeline.frozen_states import tokens_digest
from bertft.training import evaluate, frozen_states
from bertft.training.evaluate import predict_logits
from bertft.training.frozen_states import compute_states, skip_frozen_layers, state_order

LENGTHS = [3, 9, 5, 7, 4, 6, 8, 3, 5, 10, 3, 12, 17, 2, 30, 31, 5, 5, 9, 9]
HEADS = {"sequence": AutoModelForSequenceClassification, "token": AutoModelForTokenClassification}


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch):
    for module in (evaluate, frozen_states):
        monkeypatch.setattr(module, "token_budget", lambda device: 64)


def make_runner(level, layout, precision, count, dropout=0.1, **changes):
    """A small encoder with ``count`` frozen layers of 3, as a run places it."""
    settings = {
        "model_type": "bert", "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 32,
        "initializer_range": 0.3, "num_labels": 3, **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(**settings)
    config.hidden_dropout_prob = dropout
    model = HEADS[level].from_config(config)
    replace_dropout(model)
    model.base_model.requires_grad_(False)
    for layer in list(encoder_layers(model))[count:]:
        layer.requires_grad_(True)
    precision.place_model(model, base_trains=count < 3)
    return EncoderRunner(model, level, layout)


def store(runner, rows, precision, folder):
    order = state_order(runner, rows, precision)
    blocks = list(compute_states(runner, rows, precision))
    rows.frozen_states = store_states(folder, "key", blocks, blocks[0].dtype, order)
    return torch.cat(blocks)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize(("task", "level"), [("classification", "sequence"), ("tagging", "token")])
def test_logits_have_the_same_bits(table, tmp_path, task, level, name, layout, count):
    precision, rows = Precision(name, torch.device("cpu")), table(LENGTHS, task)
    runner = make_runner(level, layout, precision, count)
    runner.model.train()
    expected = predict_logits(runner, rows, precision)
    assert len(np.unique(expected)) > 30
    example = skip_frozen_layers(runner, count, rows, precision)
    # Norms of a base that trains are in fp32 under autocast, and so are its states.
    assert example.dtype == (torch.bfloat16 if (name, count) == ("bf16", 3) else torch.float32)
    states = store(runner, rows, precision, tmp_path)
    assert len(states) == (len(LENGTHS) if (level, count) == ("sequence", 3) else sum(LENGTHS))
    assert runner.model.training
    calls = []
    for layer in list(encoder_layers(runner.model))[:count]:
        layer.register_forward_pre_hook(lambda *_: calls.append(1))
    assert np.array_equal(predict_logits(runner, rows, precision), expected)
    if count == 3:  # the base is not called
        assert calls == []
    other = copy.copy(rows)
    other.frozen_states = None
    assert np.array_equal(predict_logits(runner, other, precision), expected)
    assert len(calls) > 0


def test_states_do_not_change_when_they_are_computed_again(table, tmp_path):
    """A resumed run whose cache was removed has the same states."""
    precision, rows = Precision("bf16", torch.device("cpu")), table(LENGTHS)
    runs = []
    for number in range(2):
        runner = make_runner("sequence", "unpadded", precision, 2)
        assert skip_frozen_layers(runner, 2, rows, precision) is not None
        runs.append(store(runner, rows, precision, tmp_path / str(number)))
    assert torch.equal(*runs)
    order = state_order(runner, rows, precision)
    loaded = load_states(tmp_path / "0", "key", order)
    everything = loaded.gather(order.features)
    assert torch.equal(everything, runs[0])


def test_rows_without_labels_have_states_too(table, tmp_path):
    """data.unlabelled: a table of two, of which the second has no labels."""
    precision, whole = Precision("fp32", torch.device("cpu")), table(LENGTHS)
    runner = make_runner("sequence", "unpadded", precision, 2)
    rows = ConcatFeatureTable(table(LENGTHS), table(LENGTHS[:7]), len(LENGTHS))
    expected = predict_logits(runner, rows, precision)
    assert skip_frozen_layers(runner, 2, rows, precision) is not None
    store(runner, rows, precision, tmp_path)
    batch = collate(rows, np.array([2, 21, 19]), ("labels",))
    assert len(batch.frozen_states) == 5 + 9 + 9 and batch.label_mask.tolist() == [
        True,
        False,
        True,
    ]
    assert batch.select_labelled().frozen_states is None
    assert np.array_equal(predict_logits(runner, rows, precision), expected)
    assert tokens_digest(rows) != tokens_digest(whole) == tokens_digest(table(LENGTHS, "tagging"))


def test_random_numbers_are_not_drawn(table, tmp_path):
    precision, rows = Precision("fp32", torch.device("cpu")), table(LENGTHS)
    runner = make_runner("sequence", "unpadded", precision, 2, dropout=0.5)
    before = torch.get_rng_state()
    skip_frozen_layers(runner, 2, rows, precision)
    store(runner, rows, precision, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_that_does_not_fit_is_split(table, tmp_path, monkeypatch):
    precision, rows = Precision("fp32", torch.device("cpu")), table(LENGTHS)
    runner = make_runner("sequence", "unpadded", precision, 2)
    skip_frozen_layers(runner, 2, rows, precision)
    expected = torch.cat(list(compute_states(runner, rows, precision)))
    compute = runner_module.EncoderRunner.compute_frozen_states

    def limited(self, batch):
        if len(batch.input_ids) > 40:
            raise torch.OutOfMemoryError
        return compute(self, batch)

    monkeypatch.setattr(runner_module.EncoderRunner, "compute_frozen_states", limited)
    actual = torch.cat(list(compute_states(runner, rows, precision)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("count", "is_supported"), [(1, False), (2, True), (3, True)])
def test_layers_that_cannot_be_separated_are_found_out(table, count, is_supported):
    """The convolution of DeBERTa-v2 reads the input of the first layer next to its output."""
    precision, rows = Precision("fp32", torch.device("cpu")), table(LENGTHS)
    runner = make_runner(
        "sequence", "unpadded", precision, count, model_type="deberta-v2",
        conv_kernel_size=3, conv_act="gelu", relative_attention=True, pos_att_type=["p2c", "c2p"],
    )  # fmt: skip
    example = skip_frozen_layers(runner, count, rows, precision)
    assert (example is not None) == is_supported
    assert (runner.frozen is not None) == is_supported
