"""A graph gives the logits of its model, for any batch size and sequence length."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from bertft.errors import UsageError
from bertft.export import onnx_graph
from bertft.export.onnx_graph import ONNX_PACKAGES, check_onnx_packages, write_onnx_graph

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TOLERANCE = 1e-5  # of logits of size 1 and more, in fp32
NAMES = ["input_ids", "attention_mask"]
SHAPES = [(1, 3), (3, 1), (5, 33), (2, 128)]
SIZES = {
    "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3,
    "intermediate_size": 40, "initializer_range": 0.3, "pad_token_id": 0,
}  # fmt: skip
ROBERTA = transformers.RobertaConfig(**SIZES, type_vocab_size=1)
DISTILBERT = transformers.DistilBertConfig(
    vocab_size=60, dim=24, n_layers=1, n_heads=3, hidden_dim=40, initializer_range=0.3
)
MODELS = {
    "roberta": (transformers.RobertaForQuestionAnswering, ROBERTA, 0),
    "distilbert": (transformers.DistilBertForTokenClassification, DISTILBERT, 1 << 30),
}
# An export takes seconds. Those of BERT are in tests/end_to_end/test_onnx.py.
PARAMS = ["roberta", pytest.param("distilbert", marks=pytest.mark.long)]


@pytest.fixture(scope="module", params=PARAMS)
def graph(request, tmp_path_factory):
    """A model, and a session of its graph. RoBERTa's weights are in a file of their own."""
    builder, config, largest = MODELS[request.param]
    folder = tmp_path_factory.mktemp("graph")
    torch.manual_seed(0)
    model = builder._from_config(config, attn_implementation="sdpa").train()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "_MAX_INLINE_BYTES", largest)
        write_onnx_graph(folder, model, SimpleNamespace(model_input_names=NAMES))
    assert model.training and model.config._attn_implementation == "sdpa", "left as it was"
    assert (folder / "model.onnx.data").exists() == (largest == 0)
    return model.eval(), onnxruntime.InferenceSession(folder / "model.onnx")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_logits_equal_those_of_torch(graph, shape):
    model, session = graph
    draw = np.random.default_rng(3)
    ids = draw.integers(5, 60, shape)
    lengths = draw.integers(1, shape[1] + 1, shape[0])
    mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    inputs = {"input_ids": np.where(mask, ids, 0), "attention_mask": mask}
    outputs = dict(
        zip(
            [output.name for output in session.get_outputs()],
            session.run(None, inputs),
            strict=True,
        )
    )
    with torch.no_grad():
        out = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    for name, logits in outputs.items():
        expected = out[name].numpy()
        assert logits.dtype == np.float32 and logits.shape == expected.shape
        real = mask.astype(bool)
        np.testing.assert_allclose(logits[real], expected[real], atol=TOLERANCE)
    if shape == SHAPES[2]:
        assert max(np.abs(output).max() for output in outputs.values()) > 0.3


def test_inputs_and_outputs_have_names_and_dynamic_sizes(graph):
    model, session = graph
    spans = "QuestionAnswering" in type(model).__name__
    assert [graph_input.name for graph_input in session.get_inputs()] == NAMES
    assert [output.name for output in session.get_outputs()] == (
        ["start_logits", "end_logits"] if spans else ["logits"]
    )
    assert all(
        isinstance(size, str) for graph_input in session.get_inputs() for size in graph_input.shape
    )


class Branching(transformers.RobertaForSequenceClassification):
    """The computation depends on values, which a graph does not support."""

    def forward(self, input_ids, attention_mask):
        if input_ids.sum() > 3:
            input_ids = input_ids + 1
        return super().forward(input_ids, attention_mask)


def test_a_model_that_cannot_be_exported(tmp_path, capsys):
    model = Branching._from_config(ROBERTA)
    with pytest.raises(UsageError, match="cannot export Branching to ONNX") as caught:
        write_onnx_graph(tmp_path, model, SimpleNamespace(model_input_names=NAMES))
    assert "bertft merge" in caught.value.hint
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("package", ONNX_PACKAGES)
def test_a_missing_package(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"onnx needs the package {package}, which") as caught:
        check_onnx_packages()
    assert caught.value.hint == 'Install it with pip install "bertft[export]"'
