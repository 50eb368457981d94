"""A config.json from elsewhere states no sizes that fill the memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bertft.errors import UsageError
from bertft.models.model_config import check_config_values, check_stated_size
from bertft.models.source import ModelSource
from bertft.tasks.shared.sequence_task import check_class_names


@pytest.mark.parametrize("content", [
    {"num_hidden_layers": 10**9}, {"n_layers": 3_000}, {"num_labels": 10**9},
    {"vocab_size": 2**63}, {"hidden_size": -(2**40)}, {"id2label": []}, {"architectures": [3]},
    {"architectures": {}}, {"problem_type": []}, {"label2id": 3},
])  # fmt: skip
def test_what_no_encoder_states_is_refused(content):
    with pytest.raises(UsageError, match=f"invalid value for '{next(iter(content))}'"):
        check_config_values({"model_type": "bert", **content}, "config.json")


def test_what_encoders_state_is_taken():
    check_config_values(
        {
            "num_hidden_layers": 96, "vocab_size": 250_880, "max_position_embeddings": -1,
            "architectures": ["BertModel"], "id2label": {"0": "a"}, "problem_type": None,
            "num_labels": 711,
        }, "config.json",
    )  # fmt: skip


@pytest.mark.parametrize(("sizes", "refused"), [
    ({}, False),
    ({"hidden_size": 2**20}, True),
    ({"vocab_size": 10**7}, True),
    ({"num_hidden_layers": 1_000}, True),
    ({"embedding_size": 16, "vocab_size": 10**6}, False),
])  # fmt: skip
def test_sizes_are_held_against_the_files(tmp_path, sizes, refused):
    usual = {"hidden_size": 384, "vocab_size": 30_522, "num_hidden_layers": 6,
             "intermediate_size": 1536}  # fmt: skip
    (tmp_path / "model.safetensors").write_bytes(bytes(1_000))
    config = SimpleNamespace(**{**usual, **sizes})
    source = ModelSource("x", "folder", str(tmp_path))
    if not refused:
        check_stated_size(config, source)
        return
    with pytest.raises(UsageError, match="but the files contain 1,000 bytes"):
        check_stated_size(config, source)


def test_many_classes_are_checked_at_once():
    """Comparing each with each would take minutes for the labels of one small file."""
    names = [f"label {number}" for number in range(100_000)]
    assert check_class_names(names, "classification") == names


def test_quantised_weights_are_refused():
    stated = {"model_type": "bert", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    with pytest.raises(UsageError, match=r"weights are quantized \(gptq\), which is not supported"):
        check_config_values(stated, "config.json")
    check_config_values({"model_type": "bert", "quantization_config": {}}, "config.json")


def test_the_kinds_of_problems_are_named():
    with pytest.raises(UsageError, match=r"'problem_type' \(got 'ranking'\).*regression, single"):
        check_config_values({"model_type": "bert", "problem_type": "ranking"}, "config.json")
