"""Every YAML file composes, checks, and says what it is."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.config.overrides import rewrite_overrides
from bertft.config.presets import find_presets, preset_groups, preset_summary
from bertft.config.registry import conf_dir

PRESETS = [(group, name) for group in preset_groups() for name in find_presets(group)]
NEEDED = {
    "train": (),
    "tune": (),
    "cross_validate": (),
    "eval": ("run=r",),
    "merge": ("run=r", "out=o"),
    "export": ("run=r", "out=o"),
    "predict": ("run=r",),
    "verify": ("run=r",),
    "report": ("run=r",),
    "compare": ("runs=[r,s]",),
    "init": (),
    "inspect": (f"data.train={__file__}",),
    "doctor": (),
}
FURTHER = {
    ("data", "files"): (f"data.train={__file__}",),
    ("data", "text"): (f"data.train={__file__}",),
    ("method", "distill"): ("method.distill.teacher=t",),
}


def composed(command, *words):
    request = ComposeRequest(command, tuple(rewrite_overrides(command, [*NEEDED[command], *words])))
    return to_dataclass(command, compose_config(request))


@pytest.mark.parametrize(("group", "name"), PRESETS)
def test_every_preset_trains(group, name):
    config = composed("train", f"{group}={name}", *FURTHER.get((group, name), ()))
    if group in ("method", "model", "data"):
        assert getattr(config, group).name == name


@pytest.mark.parametrize("name", [n for g, n in PRESETS if g == "data"])
def test_every_data_set_evaluates(name):
    assert composed("eval", f"data={name}").data.name == name


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_every_command_composes(command):
    assert isinstance(composed(command), COMMAND_CONFIGS[command])


def test_the_files_are_these():
    commands = {file.stem for file in conf_dir().glob("*.yaml")}
    assert commands == set(COMMAND_CONFIGS)
    assert preset_groups() == ["data", "experiment", "method", "model", "trainer"]
    assert set(find_presets("method")) >= {
        "head", "last_k", "bitfit", "full", "lora", "svd_lora", "prefix", "lora_prefix",
        "svd_lora_prefix", "distill", "ia3", "vera",
    }  # fmt: skip


@pytest.mark.parametrize("file", sorted(conf_dir().rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_file_states_what_it_is_and_which_command_uses_it(file):
    opening = file.read_text(encoding="utf-8").split("\n")
    comments = [line for line in opening[:3] if line.startswith("# ")]
    assert any(": bertft " in line for line in comments)
    assert preset_summary(file) and "bertft" not in preset_summary(file)
    assert all(len(line) <= 120 for line in opening)


def test_the_default_run_is_lora_on_minilm_and_the_sample():
    config = composed("train")
    assert (config.method.name, config.model.name, config.data.name) == (
        "lora", "minilm", "sample"
    )  # fmt: skip


def test_a_file_of_your_own_joins_a_group(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("name: mine\nrank: 3\nlow_rank: {alpha: 3}\n")
    request = ComposeRequest("train", ("method=mine",), tmp_path)
    config = to_dataclass("train", compose_config(request))
    assert (config.method.rank, config.method.low_rank.alpha) == (3, 3.0)


def test_a_part_opened_by_a_key_has_its_defaults():
    config = composed("train", "method=lora", "method.prefix.length=4")
    assert (config.method.prefix.length, config.method.prefix.kind) == (4, "key_value")
    plain = composed("train", "method=prefix", "method.prefix.length=4")
    assert plain.method.low_rank is None


def test_the_experiment_decides_over_the_presets_and_the_words_over_it():
    config = composed("train", "experiment=sst2_small_budget", "data.max_train_rows=10")
    assert (config.method.name, config.method.rank) == ("svd_lora", 2)
    assert config.data.max_train_rows == 10


def test_nothing_of_hydra_reaches_a_command():
    config = OmegaConf.structured(composed("train"))
    assert "hydra" not in config
