from __future__ import annotations

import re

import pytest
from doc_commands import check_command

from bertft.cli.app import main
from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.help import MOST_USED, command_page, main_page
from bertft.config.presets import find_presets, preset_summary
from bertft.config.schema import Leaf, find_setting, iter_leaves, iter_nodes, settings_tree
from bertft.errors import UsageError


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_a_page_has_at_most_30_lines_and_states_how_to_see_more(command):
    page, full = command_page(command), command_page(command, "all")
    assert len(page.splitlines()) <= 30
    assert page == full or f"bertft {command} --help all" in page
    assert page.splitlines()[2].startswith(f"  bertft {command} [")
    assert page.splitlines()[3].startswith(f"  bertft {command}")


@pytest.mark.parametrize("command", ["train", "eval", "predict", "merge", "export"])
def test_a_short_page_fits_80_columns_below_its_title(command):
    assert max(len(line) for line in command_page(command).splitlines()[1:]) <= 80


def test_the_short_page_of_train_shows_the_settings_that_are_used_most():
    page = command_page("train")
    for text in ("data.text=null", "method=lora", "model=minilm", "trainer.batch_size=32"):
        assert f"  {text} " in page
    assert "bertft train tickets.csv" in page


@pytest.mark.parametrize("command", [*COMMAND_CONFIGS])
def test_the_short_page_names_settings_that_exist_and_hides_none_by_accident(command):
    lines = command_page(command).splitlines()
    if "Settings with their defaults" not in lines:
        return
    start = lines.index("Settings with their defaults") + 1
    shown = [line.split("=")[0].strip() for line in lines[start : lines.index("", start)]]
    root = settings_tree(command)
    assert all(find_setting(root, path)[0] is not None for path in shown)
    expected = [path for path, child in root.children.items() if isinstance(child, Leaf)]
    assert shown == list(MOST_USED.get(command, expected))


TOPICS = [node for node in iter_nodes(settings_tree("train")) if node.path]


@pytest.mark.parametrize("node", TOPICS, ids=lambda node: node.path)
def test_a_topic_shows_its_settings_alone(node):
    page = command_page("train", node.path.rpartition(".")[2])
    assert page == command_page("train", node.path)
    for leaf in iter_leaves(settings_tree("train")):
        is_inside = leaf.path.rpartition(".")[0] == node.path
        assert (f"    {leaf.path}  " in page) == is_inside


def test_other_topics():
    assert "--config-dir" in command_page("train", "options")
    assert "    seed  int  = 0" in command_page("train", "general")
    assert "sst2_small_budget" in command_page("train", "experiment")
    assert "kind: svd_lora" in command_page("train", "svd_lora")
    assert "--help low_rank" in command_page("train", "method")
    assert command_page("train", "method=lora") == command_page("train", "method")


@pytest.mark.parametrize(
    ("topic", "path"),
    [
        ("trainer.batch_size", "trainer.batch_size"),
        ("batch_size", "trainer.batch_size"),
        ("trainer.clip", "trainer.max_grad_norm"),
        ("clip", "trainer.max_grad_norm"),
        ("num_train_epochs", "trainer.epochs"),
    ],
)
def test_the_page_of_one_setting(topic, path):
    page = command_page("train", topic)
    leaf, _ = find_setting(settings_tree("train"), path)
    assert f"{path}  " in page and leaf.help.split(". ")[0] in " ".join(page.split())
    assert len(page.splitlines()) <= 4


@pytest.mark.parametrize(
    ("topic", "closest"),
    [("trainr", "trainer"), ("batchsize", "batch_size"), ("data.metrc", "data.metric")],
)
def test_a_misspelled_topic_gets_the_closest_one(topic, closest):
    with pytest.raises(UsageError, match=f"Did you mean '{closest}'"):
        command_page("train", topic)


def test_an_unknown_topic_gets_the_topics():
    with pytest.raises(UsageError, match=r"One of: method, base, .*, all"):
        command_page("train", "zzzzz")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--help", "trainer"],
        ["train", "a.csv", "-h", "trainer"],
        ["help", "train", "trainer"],
        ["--help", "train", "trainer"],
    ],
)
def test_the_word_after_help_is_the_topic(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out.rstrip() == command_page("train", "trainer")


def test_options_after_help_are_not_topics(capsys, tmp_path):
    assert main(["train", "--help", "--config-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.rstrip() == command_page("train")
    assert main(["train", "--help", "trainr"]) == 2
    assert "Did you mean 'trainer'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_the_examples_are_valid(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = command_page(command).splitlines()
    for line in lines[3 : lines.index("", 3)]:
        check_command(line.strip(), tmp_path)


def test_a_page_opens_with_what_the_command_does():
    assert command_page("train", "all").startswith(
        f"bertft train: {COMMAND_CONFIGS['train'].__doc__}"
    )


def test_the_main_page_names_every_command():
    page = main_page()
    for name, cls in COMMAND_CONFIGS.items():
        assert f"  {name}  " in page and f"  {cls.__doc__.strip()}" in page


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_a_command_s_page_shows_every_setting_with_its_meaning(command):
    page = command_page(command, "all")
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
    assert f"\n  {usage}\n" in command_page(command, "all")


def test_parts_that_are_null_show_their_settings_too():
    page = command_page("train", "all")
    assert "method.prefix: Prefix tuning (trained keys and values in every layer)" in page
    assert "method.prefix.length  int  = 16" in page


def test_every_preset_is_listed_with_its_description():
    flat = " ".join(command_page("train", "all").split())
    for group in ("method", "model", "data", "trainer", "experiment"):
        for name, file in find_presets(group).items():
            assert f"{name} {' '.join(preset_summary(file).split())}" in flat


def test_files_of_one_s_own_are_listed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("# Mine alone\nname: mine\n")
    assert "Mine alone" in command_page("train", "data", tmp_path)


def test_lines_fit_a_wide_terminal():
    assert max(len(line) for line in command_page("train", "all").splitlines()) <= 100


def test_bounds_and_defaults_are_shown():
    page = command_page("train", "all")
    assert "trainer.batch_size  int  = 32" in page and "(at least 1)" in page
    assert "trainer.gradient_checkpointing  bool  = false" in page
    assert "trainer.precision  auto | fp32 | bf16 | fp16  = auto" in page
    assert "trainer.max_steps  int | null  = null" in page
    assert "run  str  = (required)" in command_page("verify")


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_sweeps_are_offered_where_they_are_taken(command):
    assert ("--multirun" in command_page(command, "all")) == (command == "train")


# method.base.train=last_k in the help of a setting, and what follows "Only with".
SETTING_IN_HELP = re.compile(r"(?:Only with |(?<![\w.<])(?=[\w.]+=))(\w[\w.]*\w|\w)(?:=(\w+))?")


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_a_help_text_names_other_settings_with_their_whole_path(command):
    root = settings_tree(command)
    for leaf in iter_leaves(root):
        for path, value in SETTING_IN_HELP.findall(leaf.help):
            entry, _ = find_setting(root, path)
            assert entry is not None, f"{path} in {leaf.path}: {leaf.help}"
            choices = entry.choices if isinstance(entry, Leaf) else None
            assert not value or not choices or value in choices, f"{leaf.path}: {leaf.help}"


def test_help_texts_that_name_settings_are_found():
    help = "Only with mlp=true. For a.b=c (x=1), and Only with method.low_rank."
    names = SETTING_IN_HELP.findall(help)
    assert names == [("mlp", "true"), ("a.b", "c"), ("x", "1"), ("method.low_rank", "")]
