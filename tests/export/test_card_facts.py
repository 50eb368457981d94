"""The facts of a card for a model that does not come from a run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from bertft.export.card_facts import collect_card_facts
from bertft.export.model_card import MergeCheck


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
        task_model=SimpleNamespace(
            task=task, source=SimpleNamespace(name="base", kind="folder", load=str(tmp_path))
        ),
        threshold=None,
    )
    check = MergeCheck(4, 0.0, {}, {}, "sample rows")
    facts = collect_card_facts(loaded, "out", check, {"total": 10, "method": 0}, pair=False)
    assert facts.method == method
    assert facts.counts == {"total": 10} and {"bertft", "torch", "numpy"} <= set(facts.versions)
