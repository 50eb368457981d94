"""Starts from the data: main directions of inputs and of gradients, against plain autograd."""

from __future__ import annotations

import pytest
import torch
from transformers import BertForSequenceClassification

from bertft.errors import NonFiniteError, UsageError
from bertft.methods.low_rank.data_start import (
    start_from_data,
    top_eigenvectors,
    top_singular_vectors,
)
from bertft.methods.low_rank.fold import low_rank_layers

IDS = torch.randint(0, 64, (5, 9), generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 2, 0, 1])
LAYERS = ("query", "ffn_in", "ffn_out")
PATHS = {
    "query": "bert.encoder.layer.0.attention.self.query",
    "ffn_in": "bert.encoder.layer.0.intermediate.dense",
    "ffn_out": "bert.encoder.layer.0.output.dense",
}


def run_passes(model, masked=False):
    def run(reset):
        mask = torch.ones_like(IDS)
        if masked:
            mask[:, 5:] = 0
        model(IDS, attention_mask=mask, labels=LABELS).loss.backward()

    return run


def reference(model: BertForSequenceClassification, path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [N, in] and the gradient [out, in] of a weight of the plain model."""
    layer, inputs = model.get_submodule(path), []
    layer.weight.requires_grad_(True)
    handle = layer.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    model(IDS, labels=LABELS).loss.backward()
    handle.remove()
    return inputs[0].detach().reshape(-1, layer.in_features), layer.weight.grad


def projector(rows: torch.Tensor) -> torch.Tensor:
    """The projection onto the span of ``rows`` [r, n]; it does not depend on signs."""
    basis = torch.linalg.qr(rows.T).Q
    return basis @ basis.T


def aligned(bert, build_component, **changes):
    model = bert()
    component = build_component(targets=list(LAYERS), start_batches=1, **changes)
    component.attach(model)
    component.start_from_data(model, run_passes(model))
    return model, {role: low_rank_layers(model)[path].adapter[role] for role, path in PATHS.items()}


@pytest.mark.parametrize("kind", ["lora", "svd_lora"])
def test_activations(bert, build_component, kind):
    _, updates = aligned(bert, build_component, kind=kind, start="activations")
    for role, path in PATHS.items():
        inputs, _ = reference(bert(), path)
        update = updates[role]
        _, _, vectors = torch.linalg.svd(inputs, full_matrices=False)
        expected = projector(vectors[: update.rank])
        torch.testing.assert_close(projector(update.A), expected, rtol=0, atol=1e-9)
        # Equal sizes, those that a random start has on average, and orthogonal rows.
        size = 1 / 3 if kind == "lora" else 0.02**2 * update.A.shape[1]
        gram = size * torch.eye(update.rank, dtype=torch.float64)
        torch.testing.assert_close(update.A @ update.A.T, gram, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["lora", "svd_lora"])
def test_gradient(bert, build_component, kind):
    _, updates = aligned(bert, build_component, kind=kind, start="gradient", rank=2)
    for role, path in PATHS.items():
        _, gradient = reference(bert(), path)
        update = updates[role]
        left, values, right = torch.linalg.svd(gradient, full_matrices=False)
        torch.testing.assert_close(
            projector(update.A), projector(right[: update.rank]), rtol=0, atol=1e-7
        )
        if kind == "lora":
            assert (update.B == 0).all()
            continue
        torch.testing.assert_close(
            projector(update.B.T), projector(left[:, : update.rank].T), rtol=0, atol=1e-7
        )
        # Pairs belong together: uᵀ·G·v is the singular value, not 0.
        up, down = (torch.nn.functional.normalize(x, dim=1) for x in (update.B.T, update.A))
        found = torch.einsum("ro,oi,ri->r", up, gradient, down)
        torch.testing.assert_close(found, values[: update.rank], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("start", ["activations", "gradient"])
@pytest.mark.parametrize("changes", [{"kind": "lora"}, {"kind": "svd_lora"},
                                     {"kind": "lora", "use_dora": True}])  # fmt: skip
def test_the_logits_at_the_start_are_those_of_the_base(
    bert, build_component, logits, start, changes
):
    expected = logits(bert())
    model, _ = aligned(bert, build_component, start=start, **changes)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-12)
    assert not any(layer._forward_hooks for layer in low_rank_layers(model).values())


def test_tokens_without_influence_do_not_count(bert, build_component):
    """Padding at the end of each row, which attention hides."""
    model = bert()
    component = build_component(targets=["key"], start="activations", start_batches=1)
    component.attach(model)
    component.start_from_data(model, run_passes(model, masked=True))
    update = low_rank_layers(model)["bert.encoder.layer.0.attention.self.key"].adapter["key"]
    inputs = bert().bert.embeddings(IDS[:, :5]).reshape(-1, 24)
    _, _, vectors = torch.linalg.svd(inputs, full_matrices=False)
    expected = projector(vectors[: update.rank])
    torch.testing.assert_close(projector(update.A), expected, rtol=0, atol=1e-9)


def test_passes_that_begin_again_count_once(bert, build_component):
    def made(run_twice):
        model = bert()
        component = build_component(start="gradient", start_batches=1, kind="svd_lora")
        component.attach(model)

        def run(reset):
            if run_twice:
                (1e3 * model(IDS.flip(1), labels=LABELS).loss).backward()
                reset()
            run_passes(model)(reset)

        start_from_data(model, "gradient", run)
        return [update.A for layer in low_rank_layers(model).values()
                for _, update in layer.updates()]  # fmt: skip

    assert all(a.equal(b) for a, b in zip(made(False), made(True), strict=True))


def test_inputs_that_are_not_finite(bert, build_component):
    model = bert()
    component = build_component(start="activations", start_batches=1)
    component.attach(model)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[IDS[0, 0]] = float("nan")
    with pytest.raises(NonFiniteError, match="are not finite"):
        component.start_from_data(model, run_passes(model))


def test_more_vectors_than_the_layer_has(bert, build_component):
    with pytest.raises(UsageError, match="start=gradient supports") as caught:
        build_component(start="gradient", rank=25).attach(bert())
    assert "start=zero_b" in caught.value.hint


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_singular_vectors(shape, rank):
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(*shape, generator=generator, dtype=torch.float64)
    down, up = top_singular_vectors(matrix, rank)
    left, values, right = torch.linalg.svd(matrix)
    best = left[:, :rank] * values[:rank] @ right[:rank]
    torch.testing.assert_close(up.T @ torch.diag(values[:rank]) @ down, best)


def test_directions_without_data_are_left_out():
    matrix = torch.zeros(6, 9, dtype=torch.float64)
    matrix[2, 4] = -3.0
    down, up = top_singular_vectors(matrix, 3)
    assert down.shape == (1, 9) and up.shape == (1, 6)
    assert (up[0] @ matrix @ down[0]).item() == pytest.approx(3.0)
    assert len(top_eigenvectors(torch.zeros(4, 4), 2)) == 0


@pytest.mark.parametrize("start", ["activations", "gradient"])
def test_the_rest_of_the_rows_stays_random(bert, build_component, start):
    """Two different inputs, three rows of A: the third is random and orthogonal to the others."""
    model = bert()
    component = build_component(
        kind="svd_lora", targets=["ffn_in"], start=start, start_batches=1, rank=3, adapt=False
    )
    component.attach(model)
    layer = low_rank_layers(model)["bert.encoder.layer.0.intermediate.dense"]
    inputs = torch.eye(24, dtype=torch.float64)[[3, 7, 3]]

    def run(reset):
        (layer(inputs) * torch.arange(40.0, dtype=torch.float64)).sum().backward()

    start_from_data(model, start, run)
    update = layer.adapter["ffn_in"]
    size = 0.02**2 * 24 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(update.A @ update.A.T, size, rtol=0, atol=1e-12)
    known = 2 if start == "activations" else 1  # the gradient is of rank 1 here
    outside = update.A[known:][:, [n for n in range(24) if n not in (3, 7)]]
    assert (outside.abs() > 1e-6).all()
    assert (update.A[:known][:, [0, 1, 2]].abs() < 1e-12).all()
