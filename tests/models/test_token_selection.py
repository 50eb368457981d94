"""What the top layer computes: for the selected tokens only, with the same result as for all."""

from __future__ import annotations

import contextlib
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from bertft.models.forward_state import ActivationRecorder
from bertft.models.runner import EncoderRunner

LENGTHS = [3, 9, 9, 17, 30]
KNOWN = ["bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"]
LAST = {"distilbert": "ffn.lin2"}


def tokens_in(model, path):
    """Sizes of what goes into a module of the top layer, in the passes to come."""
    top = next(
        module[-1] for module in model.base_model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == 3
    )  # fmt: skip
    seen = []
    top.get_submodule(path).register_forward_pre_hook(
        lambda _, values: seen.append(values[0].shape[:-1].numel())
    )
    return seen


@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
@pytest.mark.parametrize("kind", KNOWN)
def test_a_classifier_selects_the_first_tokens(encoder, batch, kind, layout):
    model = encoder(kind)
    seen = tokens_in(model, LAST.get(kind, "output.dense"))
    EncoderRunner(model, "sequence", layout)(batch(LENGTHS, types=False))
    assert seen == [len(LENGTHS)]


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("layout", ["unpadded", "packed", "padded"])
@pytest.mark.parametrize("chosen", [False, True])
def test_logits_and_gradients_are_those_of_all_tokens(encoder, batch, kind, layout, chosen):
    rows = batch(LENGTHS, types=False)
    level = "token" if chosen else "sequence"
    if chosen:
        rows = replace(rows, selected_tokens=torch.tensor([0, 2, 5, 40]))
    results = []
    for narrows in (True, False):
        model = encoder(kind, "token" if chosen else "sequence")
        runner = EncoderRunner(model, level, layout)
        seen = tokens_in(model, LAST.get(kind, "output.dense"))
        assert runner._selects_tokens
        runner._selects_tokens = narrows
        logits = runner(rows)
        assert (seen[0] < sum(LENGTHS)) is narrows
        logits.square().sum().backward()
        grads = {
            name: parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        results.append((logits.detach(), grads))
    (logits, grads), (expected, reference) = results
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    assert grads.keys() == reference.keys()
    for name in grads:
        torch.testing.assert_close(grads[name], reference[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "head", "level", "path"),
    [
        ("bert", "token", "token", "output.dense"),
        ("bert", "answer", "token", "output.dense"),
        ("modernbert", "sequence", "sequence", "mlp.Wo"),
    ],
)
def test_all_tokens_are_computed_if_all_are_selected_or_no_position_is_known(
    encoder, batch, kind, head, level, path
):
    model = encoder(kind, head)
    seen = tokens_in(model, path)
    EncoderRunner(model, level)(batch(LENGTHS, types=False))
    assert seen == [sum(LENGTHS)]


def test_states_are_those_of_all_tokens(encoder, batch):
    model, trace = encoder("bert"), ActivationRecorder(record_hidden=True)
    EncoderRunner(model, "sequence")(batch(LENGTHS), trace)
    assert trace.hidden_states[-1].shape[0] == sum(LENGTHS)


def test_a_pass_without_the_runner_is_the_model_s_own(encoder):
    model = encoder("bert").eval()
    ids = torch.arange(6)[None]
    model.set_attn_implementation("eager")
    expected = model(ids).logits
    EncoderRunner(model, "sequence")
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(ids).logits, expected)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_pass_in_between_is_not_taken_for_the_one_recomputed(encoder, batch, kind, reentrant):
    """Checkpointing runs a layer's forward again in the backward pass, without its hooks."""
    first, second = batch(LENGTHS, types=False), batch(LENGTHS[::-1], types=False)
    actual = []
    for between in (False, True):
        model = encoder(kind).train()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        runner = EncoderRunner(model, "sequence")
        logits = runner(first)
        if between:
            with torch.no_grad():
                runner(second)
        logits.square().sum().backward()
        actual.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, grad in actual[0].items():
        torch.testing.assert_close(actual[1][name], grad)


def test_threads_are_in_passes_of_their_own(encoder, batch):
    runner = EncoderRunner(encoder("bert"), "sequence")
    batches = [batch(LENGTHS[folder:] + LENGTHS[:folder], seed=folder) for folder in range(4)]

    def answer(rows):
        with torch.inference_mode():
            return runner(rows)

    expected = list(map(answer, batches))
    with ThreadPoolExecutor(4) as pool:
        for work_dir, logits in enumerate(pool.map(answer, batches * 25)):
            torch.testing.assert_close(logits, expected[work_dir % 4])


def test_a_pass_leaves_nothing_behind_and_the_model_can_be_pickled(encoder, batch):
    model = encoder("bert")
    runner = EncoderRunner(model, "sequence")
    trace = ActivationRecorder(frozenset({0}))
    gone = weakref.ref(trace)
    runner(batch(LENGTHS), trace)
    del trace
    assert gone() is None
    again = pickle.loads(pickle.dumps(model.bert.encoder.layer[-1]))
    hidden = torch.ones(1, 3, 24, dtype=torch.float64)
    assert again.attention.output(hidden, hidden).shape == hidden.shape


def test_layers_that_take_tokens_in_other_ways_see_all(encoder, batch):
    model = encoder("bert", chunk_size_feed_forward=2)
    rows = batch([3, 4, 5])
    logits = EncoderRunner(model, "sequence")(rows)
    torch.testing.assert_close(logits, EncoderRunner(encoder("bert"), "sequence")(rows))
    model = encoder("xmod", languages=["en_XX"], default_language="en_XX", pad_token_id=1)
    for layout in ("packed", "padded"):
        assert not EncoderRunner(model, "sequence", layout)._selects_tokens


def test_no_token_chosen(encoder, batch):
    rows = replace(batch(LENGTHS), selected_tokens=torch.tensor([], dtype=torch.long))
    assert EncoderRunner(encoder("bert", "token"), "token")(rows).shape == (0, 3)


def test_a_pass_that_fails_in_the_top_layer_is_let_go(encoder, batch):
    """Memory that ran out would be held by it while the rows are tried again."""
    runner = EncoderRunner(encoder("bert"), "sequence")
    top = runner.model.bert.encoder.layer[-1]
    seen = []

    def fail(module, args, kwargs):
        seen.append(weakref.ref(kwargs["forward_state"]))
        raise torch.OutOfMemoryError

    handle = top.attention.register_forward_pre_hook(fail, with_kwargs=True)
    with contextlib.suppress(torch.OutOfMemoryError):
        runner(batch([3, 5]))
    gc.collect()
    assert seen[0]() is None
    handle.remove()
    assert runner(batch([3, 5])).shape == (2, 3)
