"""The facts of a card for a model that does not come from a run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.export.card_facts import collect_card_facts, used_method_settings
from bertft.export.model_card import MergeCheck
from bertft.models.source import ModelSource


@pytest.mark.parametrize(
    ("peft_type", "method"), [("LORA", "lora"), ("IA3", "ia3"), ("VERA", "vera"), (None, "")]
)
def test_the_method_is_the_kind_of_the_adapter(tmp_path, peft_type, method):
    if peft_type is not None:
        config = json.dumps({"peft_type": peft_type})
        (tmp_path / "adapter_config.json").write_text(config, encoding="utf-8")
    task = SimpleNamespace(auto_class="AutoModelForSequenceClassification", metric="accuracy")
    loaded = SimpleNamespace(
        run=None,
        config=None,
        folder=tmp_path,
        is_adapter=peft_type is not None,
        info=SimpleNamespace(task="classification", labels=["a", "b"], max_length=32),
        task_model=SimpleNamespace(task=task, source=ModelSource("base", "folder", str(tmp_path))),
        threshold=None,
    )
    check = MergeCheck(4, 0.0, {}, {}, "sample rows")
    facts = collect_card_facts(loaded, "out", check, {"total": 10, "method": 0}, pair=False)
    assert facts.method == method
    assert facts.counts == {"total": 10} and {"bertft", "torch", "numpy"} <= set(facts.versions)


def method_settings(*words):
    return used_method_settings(
        to_dataclass("train", compose_config(ComposeRequest("train", words)))
    )


def test_only_settings_of_the_method_are_listed():
    lora = method_settings("method=lora")
    assert "alpha" in lora["low_rank"] and "use_dora" in lora["low_rank"]
    assert not {"orthogonality", "begin", "e_rate_ratio", "d_initial"} & set(lora["low_rank"])
    assert not {"prefix", "distill", "ia3", "initial_rank"} & set(lora)
    svd = method_settings("method=svd_lora")
    assert {"begin", "orthogonality"} <= set(svd["low_rank"]) and "use_dora" not in svd["low_rank"]
    constant = method_settings("method=svd_lora", "method.low_rank.adapt=false")
    assert "begin" not in constant["low_rank"] and "orthogonality" in constant["low_rank"]
    assert "mlp_hidden" not in method_settings("method=prefix")["prefix"]
    assert "mlp_hidden" in method_settings("method=prefix", "method.prefix.mlp=true")["prefix"]


def test_the_length_is_listed_where_the_method_sets_it():
    assert {"epochs", "warmup"} <= set(method_settings())
    other = method_settings("trainer.max_steps=5", "trainer.warmup=0.1")
    assert not {"epochs", "warmup"} & set(other)
