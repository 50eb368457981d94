"""Names of transformers and peft are answered with ours, which exist."""

from __future__ import annotations

import dataclasses
import re

import pytest

from bertft.config.compose import ComposeRequest, compose_config
from bertft.config.foreign_names import (
    FOREIGN_METHODS,
    FOREIGN_MODELS,
    FOREIGN_SETTINGS,
    NO_SETTING,
    foreign_method_hint,
)
from bertft.config.overrides import rewrite_overrides
from bertft.config.presets import find_presets, preset_groups
from bertft.config.schema import find_setting, iter_leaves, settings_tree
from bertft.config.validation import validate_override
from bertft.errors import UsageError

ROOT = settings_tree("train")
PATHS = {leaf.path for leaf in iter_leaves(ROOT)}
NAMES = {path.rpartition(".")[2] for path in PATHS}
CLASSES = {
    "transformers": ["TrainingArguments"],
    "peft": [
        "LoraConfig", "AdaLoraConfig", "PrefixTuningConfig", "PromptTuningConfig", "IA3Config",
        "VeraConfig",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("foreign", "ours"), FOREIGN_SETTINGS.items())
def test_the_answer_names_a_setting(foreign, ours):
    name = re.match(r"[\w.]+", ours)[0]
    assert name in PATHS or name in preset_groups() or name.startswith("hydra.")
    assert foreign not in PATHS


@pytest.mark.parametrize(("foreign", "reason"), NO_SETTING.items())
def test_the_reason_names_settings_that_exist(foreign, reason):
    assert foreign not in FOREIGN_SETTINGS and foreign not in PATHS
    assert len(reason) > 20 and not reason.endswith(".")
    groups = "|".join(node for node in ROOT.children if node in preset_groups())
    for name in re.findall(rf"\b(?:{groups})\.[\w.]+", reason):
        assert find_setting(ROOT, name)[0] is not None, name


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in CLASSES for name in CLASSES[package]]
)
def test_every_field_of_the_installed_version_has_an_answer(package, name):
    """A field is a name of ours too, has a setting of another name, or a reason."""
    cls = getattr(pytest.importorskip(package), name)
    fields = [item.name for item in dataclasses.fields(cls)]
    assert len(fields) > 5
    unanswered = []
    for field in fields:
        if field in PATHS:
            continue
        (problem,) = validate_override("train", f"{field}=1", 1, {})
        answer = FOREIGN_SETTINGS.get(field) or NO_SETTING.get(field)
        if answer is not None:
            assert answer in problem.hint
        elif field in NAMES:
            assert problem.hint.rstrip("?'").endswith(f".{field}")
        else:
            unanswered.append(field)
    assert not unanswered


@pytest.mark.parametrize("prefix", ["", "trainer.", "method."])
def test_it_is_given_wherever_the_name_stands(prefix):
    word = f"{prefix}num_train_epochs=3"
    (problem,) = validate_override("train", word, 3, {})
    assert "trainer.epochs" in problem.hint


def model_of(*words, sweep=False):
    return rewrite_overrides("train", words, sweep)[-1]


def test_the_hub_ids_of_the_presets_select_them():
    assert set(FOREIGN_MODELS.values()) == set(find_presets("model")) - {"tiny"}
    for name, file in find_presets("model").items():
        path = re.search(r"^path: (\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        for hub_id in (path[1], path[1].rpartition("/")[2]) if path else ():
            assert model_of(f"model={hub_id}") == f"model={name}"
    config = compose_config(ComposeRequest("train", (model_of("model=bert-base-uncased"),)))
    assert config.model.name == "bert_base"


@pytest.mark.parametrize("name", ["bert_base_uncased", "BERT-base-uncased", "modernbert-base"])
def test_a_hub_id_in_another_spelling_selects_the_preset(name):
    assert model_of(f"model={name}") in ("model=bert_base", "model=modernbert_base")


@pytest.mark.parametrize("settings", FOREIGN_METHODS.values())
def test_the_settings_for_foreign_methods_are_valid(settings):
    words = [*settings.split(), *(["method.distill.teacher=t"] if "distill" in settings else [])]
    compose_config(ComposeRequest("train", tuple(rewrite_overrides("train", words))))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("adalora", "method=svd_lora"),
        ("DoRA", "method=lora method.low_rank.use_dora=true"),
        ("rs-lora", "method.low_rank.use_rslora=true"),
        ("p_tuning_v2", "method=prefix"),
        ("lora+", "b_rate_ratio"),
        ("adapters", "other adapters are method=lora"),
        ("qlora", "Quantized models are not supported"),
        ("svd", "Did you mean 'svd_lora'?"),
    ],
)
def test_the_name_of_a_method_elsewhere_gets_the_settings_of_bertft(method, expected):
    with pytest.raises(UsageError, match=f"there is no preset method={re.escape(method)}") as error:
        compose_config(ComposeRequest("train", (f"method='{method}'",)))
    assert expected in str(error.value)
    assert foreign_method_hint("lora") is None


def test_other_hub_ids_and_folders_are_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "merged").mkdir()
    assert model_of("model=albert/albert-base-v2") == "model.path='albert/albert-base-v2'"
    assert model_of("model=merged") == "model.path='merged'"
    assert model_of("model=outputs/run") == "model.path='outputs/run'"


def test_a_sweep_over_hub_ids():
    word = model_of("model=bert-base-uncased,minilm", sweep=True)
    assert word == "model=bert_base,minilm"
    assert model_of("model=a/b,c/d", sweep=True) == "model.path='a/b','c/d'"


@pytest.mark.parametrize(
    ("value", "hint"), [("bert_bsae", "Did you mean 'bert_base'"), ("x-y", r"One of: .*tiny\. For")]
)
def test_an_unknown_name_gets_the_closest_preset_and_the_way_to_the_hub(value, hint):
    with pytest.raises(UsageError, match=rf"{hint}.*set model\.path={value}"):
        compose_config(ComposeRequest("train", (model_of(f"model={value}"),)))
