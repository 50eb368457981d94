"""Settings and choices under the names that they had in 0.1.0."""

from __future__ import annotations

import pytest

from bertft.config import former_names
from bertft.config.compose import ComposeRequest, compose_config
from bertft.config.former_names import current_path, rename_settings
from bertft.config.overrides import rewrite_overrides
from bertft.config.schema import find_setting, iter_leaves, settings_tree

FORMER = {
    "trainer.clip": "trainer.max_grad_norm",
    "trainer.steps": "trainer.max_steps",
    "data.masked_share": "data.mlm_probability",
    "data.validation_share": "data.validation_fraction",
    "method.low_rank.rank_stabilised": "method.low_rank.use_rslora",
    "method.low_rank.magnitude": "method.low_rank.use_dora",
}
CONTENT = {
    "trainer": {"clip": 0.5, "steps": 7, "layout": "rows"},
    "data": {"masked_share": 0.2, "validation_share": 0.3},
    "method": {"low_rank": {"rank_stabilised": True, "magnitude": True}},
}
PRESENT = {
    "trainer": {"max_grad_norm": 0.5, "max_steps": 7, "layout": "packed"},
    "data": {"mlm_probability": 0.2, "validation_fraction": 0.3},
    "method": {"low_rank": {"use_rslora": True, "use_dora": True}},
}


@pytest.fixture(autouse=True)
def _reported_anew():
    former_names.report_former.cache_clear()


def test_every_former_name_leads_to_a_setting():
    root = settings_tree("train")
    assert {old: current_path(root, old) for old in FORMER} == FORMER
    declared = {leaf.former for leaf in iter_leaves(root) if leaf.former}
    assert declared == {old.rpartition(".")[2] for old in FORMER}
    for old in FORMER:  # a former name is no setting, or one of the two could not be set
        assert find_setting(root, old)[0] is None


def test_a_present_name_stays():
    assert current_path(settings_tree("train"), "trainer.epochs") == "trainer.epochs"
    assert current_path(settings_tree("train"), "trainer.nonsense") == "trainer.nonsense"


@pytest.mark.parametrize(("former", "present"), FORMER.items())
def test_the_command_line_reports_a_former_name_once(capsys, former, present):
    words = [f"{former}=1", f"{former}=2"]
    assert rewrite_overrides("train", words)[-2:] == [f"{present}=1", f"{present}=2"]
    warning = capsys.readouterr().err
    assert warning.count(former) == 1
    assert present in warning


@pytest.mark.parametrize(
    ("word", "present"),
    [
        ("trainer.layout=rows", "trainer.layout=packed"),
        ("trainer.layout=stream,rows,padded", "trainer.layout=unpadded,packed,padded"),
        ("trainer.layout=choice(stream,padded)", "trainer.layout=choice(unpadded,padded)"),
    ],
)
def test_a_former_choice(capsys, word, present):
    assert rewrite_overrides("train", [word], sweep=True) == [present]
    assert "layout" in capsys.readouterr().err


def test_former_choices_of_merge(capsys):
    words = ["prefix=beside", "prefix=refuse", "prefix=separate"]
    assert rewrite_overrides("merge", words) == [
        "prefix=separate",
        "prefix=error",
        "prefix=separate",
    ]
    warnings = capsys.readouterr().err
    assert "prefix=beside is now called prefix=separate" in warnings
    assert "prefix=refuse is now called prefix=error" in warnings


def test_settings_of_a_file():
    assert rename_settings(settings_tree("train"), CONTENT) == PRESENT
    assert rename_settings(settings_tree("train"), PRESENT) == PRESENT


def test_a_former_name_next_to_the_present_one_is_not_lost():
    both = {"trainer": {"clip": 0.5, "max_grad_norm": 1.0}}
    assert rename_settings(settings_tree("train"), both) == both


@pytest.mark.parametrize("package", ["", "# @package _global_\n"])
def test_a_yaml_file_of_the_user(tmp_path, capsys, package):
    """A preset of a group and a file that sets several groups, through Hydra."""
    if package:
        (tmp_path / "experiment").mkdir()
        text = "trainer:\n  steps: 7\n  layout: stream\ndata:\n  validation_share: 0.3\n"
        (tmp_path / "experiment" / "mine.yaml").write_text(package + text)
        words = ("experiment=mine",)
    else:
        (tmp_path / "trainer").mkdir()
        (tmp_path / "trainer" / "mine.yaml").write_text("steps: 7\nlayout: stream\n")
        words = ("trainer=mine",)
    config = compose_config(ComposeRequest("train", words, tmp_path))
    assert (config.trainer.max_steps, config.trainer.layout) == (7, "unpadded")
    assert "steps" not in config.trainer
    assert config.data.validation_fraction == (0.3 if package else 0.1)
    warning = capsys.readouterr().err
    assert "mine.yaml" in warning
    assert "trainer.max_steps" in warning


def test_the_presets_have_present_names(capsys):
    for preset in ("default", "fast_check"):
        compose_config(ComposeRequest("train", (f"trainer={preset}",)))
    assert not capsys.readouterr().err
