from __future__ import annotations

import pytest

from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.help import command_page, main_page
from bertft.config.presets import find_presets, preset_summary
from bertft.config.schema import iter_leaves, settings_tree


def test_a_page_opens_with_what_the_command_does():
    assert command_page("train").startswith(f"bertft train: {COMMAND_CONFIGS['train'].__doc__}")


def test_the_main_page_names_every_command():
    page = main_page()
    for name, cls in COMMAND_CONFIGS.items():
        assert name in page and cls.__doc__.strip() in page


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_a_command_s_page_shows_every_setting_with_its_meaning(command):
    page = command_page(command)
    flat = " ".join(page.split())
    for leaf in iter_leaves(settings_tree(command)):
        assert f" {leaf.path}  " in page
        assert " ".join(leaf.help.split()) in flat
        for choice in leaf.choices or ():
            assert choice in page


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("train", "bertft train [data.train] [setting=value ...] [options]"),
        ("predict", "bertft predict [run] [input] [setting=value ...] [options]"),
        ("compare", "bertft compare [runs ...] [setting=value ...] [options]"),
        ("doctor", "bertft doctor [setting=value ...] [options]"),
    ],
)
def test_the_usage_line_names_the_positional_arguments(command, usage):
    assert f"\n  {usage}\n" in command_page(command)


def test_parts_that_are_null_show_their_settings_too():
    page = command_page("train")
    assert "method.prefix: Prefix tuning (trained keys and values in every layer)" in page
    assert "method.prefix.length  int  = 16" in page


def test_every_preset_is_listed_with_what_it_says():
    flat = " ".join(command_page("train").split())
    for group in ("method", "model", "data", "trainer", "experiment"):
        for name, file in find_presets(group).items():
            assert f"{name} {' '.join(preset_summary(file).split())}" in flat


def test_files_of_one_s_own_are_listed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("# Mine alone\nname: mine\n")
    assert "Mine alone" in command_page("train", tmp_path)


def test_lines_fit_a_wide_terminal():
    assert max(len(line) for line in command_page("train").splitlines()) <= 100


def test_bounds_and_defaults_are_shown():
    page = command_page("train")
    assert "trainer.batch_size  int  = 32" in page and "(at least 1)" in page
    assert "trainer.gradient_checkpointing  bool  = false" in page
    assert "trainer.precision  auto | fp32 | bf16 | fp16  = auto" in page
    assert "trainer.max_steps  int | null  = null" in page
    assert "run  str  = (required)" in command_page("verify")


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_sweeps_are_offered_where_they_are_taken(command):
    assert ("--multirun" in command_page(command)) == (command == "train")
