"""Names of transformers and peft are answered with ours, which exist."""

from __future__ import annotations

import re

import pytest

from bertft.config.foreign_names import FOREIGN_MODELS, FOREIGN_SETTINGS
from bertft.config.presets import find_presets
from bertft.config.schema import iter_leaves, settings_tree
from bertft.config.validation import validate_override

PATHS = {leaf.path for leaf in iter_leaves(settings_tree("train"))}


@pytest.mark.parametrize(("foreign", "ours"), FOREIGN_SETTINGS.items())
def test_the_answer_names_a_setting(foreign, ours):
    name = re.match(r"[\w.]+", ours)[0]
    assert "." not in name or name in PATHS or name.startswith("hydra.")
    assert foreign not in PATHS


@pytest.mark.parametrize("prefix", ["", "trainer.", "method."])
def test_it_is_given_wherever_the_name_stands(prefix):
    word = f"{prefix}num_train_epochs=3"
    (problem,) = validate_override("train", word, 3, {})
    assert "trainer.epochs" in problem.hint


def test_models():
    assert set(FOREIGN_MODELS.values()) <= set(find_presets("model"))
    presets = {"model": list(find_presets("model"))}
    value = "bert-base-uncased"
    (problem,) = validate_override("train", f"model={value}", value, presets)
    assert "model=bert_base" in problem.hint
