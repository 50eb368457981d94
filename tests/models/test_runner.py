"""Every layout against transformers' own forward pass, row by row, in fp64."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import BertftError, UsageError
from bertft.methods.prefix import build
from bertft.models.runner import EncoderRunner
from bertft.models.sequence_layout import SequenceLayout, rounded_slot_count

INTERFACE = [
    "bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert", "modernbert",
    "deberta-v2", "mpnet"
]  # fmt: skip
OUTSIDE = ["rembert"]
LENGTHS = [3, 9, 9, 17, 30]
LAYOUTS = ["unpadded", "rounded", "packed", "rounded packed", "padded"]


def make_runner(model, level, layout):
    """ "rounded" adds the surplus slots of half precision, also to the selection of the head."""
    if not layout.startswith("rounded"):
        return EncoderRunner(model, level, layout)
    runner = EncoderRunner(model, level, "packed" if "packed" in layout else "unpadded")
    runner._rounds_slots = lambda input_ids: True
    return runner


def with_types(kind):
    return kind not in ("roberta", "xlm-roberta", "camembert", "modernbert", "distilbert", "mpnet")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", INTERFACE)
@pytest.mark.parametrize(
    ("head", "level"),
    [("sequence", "sequence"), ("token", "token"), ("answer", "token"), ("mask", "token")],
)
def test_logits_equal_transformers(encoder, batch, plain, kind, head, level, layout):
    model, rows = encoder(kind, head), batch(LENGTHS, with_types(kind))
    expected = plain(copy.deepcopy(model), rows)
    with torch.no_grad():
        logits = make_runner(model, level, layout)(rows)
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["roberta", "camembert", "bert"])
def test_tokens_with_the_id_of_padding(encoder, batch, plain, kind, layout):
    """RoBERTa's kin do not count them: a text may spell <pad>, or a config name its first token."""
    model, rows = encoder(kind), batch(LENGTHS, with_types(kind))
    rows.input_ids[[0, 5, 6, 20, 37, 67]] = model.config.pad_token_id
    expected = plain(copy.deepcopy(model), rows)
    logits = make_runner(model, "sequence", layout)(rows)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_mean_of_modernbert_is_over_own_tokens(encoder, batch, plain, layout):
    model, rows = encoder("modernbert", classifier_pooling="mean"), batch(LENGTHS, False)
    expected = plain(copy.deepcopy(model), rows)
    logits = make_runner(model, "sequence", layout)(rows)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", OUTSIDE)
@pytest.mark.parametrize(("head", "level"), [("sequence", "sequence"), ("token", "token")])
def test_encoders_outside_the_interface_run_padded(encoder, batch, plain, kind, head, level):
    model, rows = encoder(kind, head), batch(LENGTHS, with_types(kind))
    expected = plain(copy.deepcopy(model), rows)
    runner = EncoderRunner(model, level, "unpadded")
    assert runner.layout == "padded"
    torch.testing.assert_close(runner(rows), expected, rtol=0, atol=1e-10)


def gradients(model, runner, rows):
    loss = torch.nn.functional.cross_entropy(runner(rows), rows.labels["labels"])
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return loss.detach(), grads


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("kind", INTERFACE)
def test_gradients_equal_those_of_padded_with_a_prefix(encoder, batch, kind, shifted):
    rows = batch(LENGTHS, with_types(kind))
    results = []
    for layout in LAYOUTS:
        model = encoder(kind)
        torch.manual_seed(3)
        build(PrefixConfig(length=5, shift_positions=shifted), None, None).attach(model)
        results.append(gradients(model, make_runner(model, "sequence", layout), rows))
    assert SequenceLayout(LENGTHS, "unpadded", rows.device, rounded=True).surplus_slots == 4
    *others, (reference_loss, reference) = results
    for loss, ours in others:
        torch.testing.assert_close(loss, reference_loss, rtol=1e-12, atol=0)
        assert ours.keys() == reference.keys() and "prefix.vectors" in ours
        assert (ours["prefix.vectors"].abs().amax((1, 2, 3)) > 0).all()  # in every layer
        for name in ours:
            torch.testing.assert_close(ours[name], reference[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert"])
@pytest.mark.parametrize("mlp", [False, True])
def test_checkpointed_layers_give_the_same_gradients(encoder, batch, kind, layout, mlp):
    rows = batch(LENGTHS, with_types(kind))
    results = []
    for checkpointing in (False, True):
        model = encoder(kind).train()
        torch.manual_seed(3)
        build(PrefixConfig(length=5, mlp=mlp), None, None).attach(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        results.append(gradients(model, make_runner(model, "sequence", layout), rows))
    (loss, ours), (reference_loss, reference) = results
    torch.testing.assert_close(loss, reference_loss)
    for name in reference:
        torch.testing.assert_close(ours[name], reference[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", INTERFACE)
@pytest.mark.parametrize(("head", "level"), [("sequence", "sequence"), ("token", "token")])
def test_a_prompt_stands_before_the_words(encoder, batch, kind, head, level):
    """All layouts agree, and equal a model that is fed the same embeddings row by row."""
    rows = batch([3, 9, 17], with_types(kind))
    logits = []
    for layout in LAYOUTS:
        model = encoder(kind, head)
        torch.manual_seed(3)
        build(PrefixConfig(kind="prompt", length=4), None, None).attach(model)
        logits.append(make_runner(model, level, layout)(rows))
    for logit in logits[1:]:
        torch.testing.assert_close(logit, logits[0], rtol=0, atol=1e-10)
    if (head, kind) == ("token", "bert"):
        words = model.get_input_embeddings()(rows.input_ids[:3])
        model.set_attn_implementation("eager")
        types = torch.cat([torch.zeros(4, dtype=torch.long), rows.token_type_ids[:3]])
        both = torch.cat([model.prompt(), words])[None]
        expected = model(inputs_embeds=both, token_type_ids=types[None]).logits[0, 4:]
        torch.testing.assert_close(logits[0][:3], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_prefix_is_refused_where_attention_cannot_be_reached(encoder, kind):
    with pytest.raises(UsageError, match=f"attention of a {kind} model"):
        build(PrefixConfig(), None, None).attach(encoder(kind))


def test_an_encoder_that_ignores_the_interface_is_found_out(encoder, batch, monkeypatch):
    model = encoder("bert")
    runner = EncoderRunner(model, "sequence")
    model.set_attn_implementation("sdpa")
    with pytest.raises(BertftError, match="calls: 0 in 3 layers"):
        runner(batch([3, 4]))


def test_the_whole_length_stays_for_the_text_next_to_a_prefix(encoder, batch):
    model = encoder("bert")
    build(PrefixConfig(length=16), None, None).attach(model)
    assert EncoderRunner(model, "sequence")(batch([64, 64])).shape == (2, 3)


def test_a_mean_in_half_precision_is_summed_in_single(encoder, batch):
    """257 times 3 is 772 in bf16, and 257 itself 256."""
    runner = EncoderRunner(encoder("modernbert", classifier_pooling="mean"), "sequence")
    rows = batch([257, 2], False)
    layout = SequenceLayout(rows.lengths.tolist(), "unpadded", rows.device)
    actual = runner._pool(torch.full((259, 24), 3.0, dtype=torch.bfloat16), layout)
    assert actual.dtype == torch.bfloat16 and bool((actual == 3).all())


@pytest.mark.parametrize(
    ("dtype", "has_gradient", "is_rounded"),
    [(torch.bfloat16, True, True), (torch.bfloat16, False, True),
     (torch.float32, False, True), (torch.float32, True, False)],
)  # fmt: skip
def test_few_shapes_occur(encoder, batch, dtype, has_gradient, is_rounded):
    """In half precision, kernels are generated for each shape and kept; without gradients, sizes
    fragment the heap. The number of slots is rounded, also of those that the top layer and the head
    compute, and the logits are those of the batch."""
    generator, row_counts = torch.Generator().manual_seed(1), set()
    model = encoder("bert", "mask").to(dtype)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(
                lambda _, inputs: row_counts.add(inputs[0].shape[:-1].numel())
            )
    runner = EncoderRunner(model, "token", fused_layers=False)
    with torch.set_grad_enabled(has_gradient):
        for count in range(65, 129, 3):
            rows = batch([count // 2, count - count // 2])
            selected = torch.randperm(count, generator=generator)[: count // 3].sort().values
            assert len(runner(rows)) == count
            assert len(runner(dataclasses.replace(rows, selected_tokens=selected))) == count // 3
    if is_rounded:
        assert all(count % 8 == 0 for count in row_counts) and len(row_counts) <= 12
    else:
        assert len(row_counts) > 30


def test_rounding_adds_few_slots():
    counts = {tokens: rounded_slot_count(tokens) for tokens in range(1, 5000)}
    assert all(tokens <= slots < tokens + max(8, tokens / 8) for tokens, slots in counts.items())
    for power in (128, 256, 512, 1024, 2048):
        assert len({counts[tokens] for tokens in range(power + 1, 2 * power + 1)}) == 16
        coarse = {rounded_slot_count(tokens, 4) for tokens in range(power + 1, 2 * power + 1)}
        assert len(coarse) == 4 and all(count % (power // 4) == 0 for count in coarse)
