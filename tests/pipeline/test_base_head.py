"""The head of a base is kept only where its outputs mean what those of the task mean."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel

from bertft.config.data import DataConfig
from bertft.config.method import MethodConfig
from bertft.config.model import ModelConfig
from bertft.methods import build_components
from bertft.models.precision import choose_precision
from bertft.models.source import find_model_source
from bertft.models.tokenizer import load_tokenizer
from bertft.pipeline.task_model import build_task_model
from bertft.tasks.task import build_task

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "good", "bad", "film"]
SIZES = {
    "vocab_size": 20, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 40, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
SEQUENCE, TOKENS = "BertForSequenceClassification", "BertForTokenClassification"


@pytest.fixture
def base(tmp_path):
    """``base(architecture, names, **config)``: a folder with a trained head and a tokenizer."""

    def make(architecture, names, **config):
        backend = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, "[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
            sep_token="[SEP]", mask_token="[MASK]",
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        ).save_pretrained(tmp_path)  # fmt: skip
        settings = transformers.BertConfig(**SIZES, id2label=dict(enumerate(names)))
        torch.manual_seed(0)
        getattr(transformers, architecture)(settings).save_pretrained(tmp_path)
        file = tmp_path / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return tmp_path

    return make


def aligned(folder, name, classes):
    """Note, and whether the output layer is that of the base."""
    settings = ModelConfig(name="base", path=str(folder))
    task_model = build_task_model(
        find_model_source(str(folder)), settings, build_components(MethodConfig(name="full")),
        build_task(DataConfig(name="data", task=name), classes), load_tokenizer(settings),
        choose_precision("fp32", torch.device("cpu")),
        base_config=lambda: json.loads((folder / "config.json").read_text()),
    )  # fmt: skip
    stored = load_file(folder / "model.safetensors")
    output = "qa_outputs" if name == "question_answering" else "classifier"
    weight = task_model.model.get_parameter(f"{output}.weight")
    return task_model.head_note, torch.equal(weight, stored.get(f"{output}.weight", weight[:0]))


MULTI, SINGLE = "multi_label_classification", "single_label_classification"


@pytest.mark.parametrize(
    ("architecture", "names", "problem", "task", "classes", "other"),
    [
        (SEQUENCE, ["urgent"], MULTI, "regression", None, "multi_label"),
        (SEQUENCE, ["a", "b"], MULTI, "classification", ["a", "b"], "multi_label"),
        (SEQUENCE, ["a", "b"], SINGLE, "multi_label", ["a", "b"], "classification"),
        (SEQUENCE, ["a", "b"], "regression", "classification", ["a", "b"], "regression"),
        (TOKENS, ["a", "b"], None, "classification", ["a", "b"], "token_classification"),
        (SEQUENCE, ["a", "b"], None, "token_classification", ["a", "b"], "classification"),
        ("BertForMultipleChoice", ["a"], None, "regression", None, "BertForMultipleChoice"),
    ],
)
def test_a_head_for_another_task_is_new(base, architecture, names, problem, task, classes, other):
    note, reused = aligned(base(architecture, names, problem_type=problem), task, classes)
    head = f"the base has a head for {other}, not for {task}"
    assert note == f"{head}: the output layer is newly initialized" and not reused


@pytest.mark.parametrize(
    ("names", "config", "task", "classes"),
    [
        (["score"], {}, "regression", None),
        (["score"], {"architectures": None}, "regression", None),
        (["a", "b"], {"problem_type": MULTI}, "multi_label", ["a", "b"]),
        (["a", "b"], {}, "multi_label", ["a", "b"]),  # the base does not record the problem
        (["a", "b"], {"architectures": []}, "classification", ["a", "b"]),
    ],
)
def test_a_head_for_the_same_task_is_kept(base, names, config, task, classes):
    note, reused = aligned(base(SEQUENCE, names, **config), task, classes)
    assert reused and "new" not in note


def test_a_base_with_several_heads_has_none_for_the_task(base):
    folder = base(SEQUENCE, ["a", "b"], architectures=[SEQUENCE, TOKENS])
    note, reused = aligned(folder, "classification", ["a", "b"])
    assert f"has a head for {SEQUENCE}, {TOKENS}, not for classification" in note and not reused


@pytest.mark.parametrize(
    ("architecture", "task", "classes", "layer"),
    [
        (SEQUENCE, "classification", ["a", "b"], "classifier"),
        ("BertForQuestionAnswering", "question_answering", None, "qa_outputs"),
    ],
)
def test_a_deeper_head_is_new(base, architecture, task, classes, layer):
    folder = base(architecture, ["a", "b"])
    file = folder / "model.safetensors"
    deeper = {f"{layer}.norm.bias": torch.ones(24)}
    save_file({**load_file(file), **deeper}, file, metadata={"format": "pt"})
    note, reused = aligned(folder, task, classes)
    assert (
        note
        == (
            "the head of the base has weights without a place in the model"
            f" ({layer}.norm.bias): the output layer is newly initialized"
        )
        and not reused
    )
