"""``config=<file>``: a YAML file of settings, below those of the command line."""

from __future__ import annotations

import pytest
import yaml

from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.config.config_file import expand_config_file
from bertft.config.overrides import rewrite_overrides
from bertft.config.positional import expand_positional
from bertft.config.serialize import to_yaml
from bertft.config.sweep_plan import plan_sweep
from bertft.errors import UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    (tmp_path / "other.csv").write_text("text,label\na,b\n")
    return tmp_path


def overrides(*words, text, sweep=False):
    if text is not None:
        with open("my.yaml", "w", encoding="utf-8") as file:
            file.write(text)
        words = ("config=my.yaml", *words)
    arguments = expand_config_file("train", expand_positional("train", words))
    return tuple(rewrite_overrides("train", arguments, sweep))


def composed(*words, text=None):
    request = ComposeRequest("train", overrides(*words, text=text))
    return to_dataclass("train", compose_config(request))


PLAIN = """\
method: svd_lora
model: {name: bert_base, dropout: 0.2}
data:
  train: rows.csv
  text: message
  labels: {坏: bad, good: good}
trainer.epochs: 5
trainer:
  batch_size: 16
method.rank: 4
method.prefix.length: 3
loss: {class_weights: {bad: 2.5, good: 1}}
seed: 3
"""


def test_presets_groups_and_dotted_names():
    config = composed(text=PLAIN)
    assert (config.method.name, config.method.rank, config.method.low_rank.kind) == (
        "svd_lora", 4, "svd_lora",
    )  # fmt: skip
    assert config.method.prefix.length == 3
    assert config.model.path == "google-bert/bert-base-uncased" and config.model.dropout == 0.2
    assert (config.data.name, config.data.train, config.data.text) == (
        "files", "rows.csv", "message",
    )  # fmt: skip
    assert config.data.labels == {"坏": "bad", "good": "good"}
    assert (config.trainer.epochs, config.trainer.batch_size, config.seed) == (5.0, 16, 3)
    assert config.loss.class_weights == {"bad": 2.5, "good": 1}
    assert config.config is None


def test_the_command_line_wins():
    config = composed("seed=4", "trainer.epochs=1", "other.csv", "method.prefix=null", text=PLAIN)
    assert (config.seed, config.trainer.epochs, config.trainer.batch_size) == (4, 1.0, 16)
    assert (config.data.train, config.data.text) == ("other.csv", "message")
    assert config.method.prefix is None


def test_a_preset_on_the_command_line_replaces_the_group():
    config = composed("method=lora", "data=sst2", text=PLAIN)
    assert (config.method.rank, config.method.prefix) == (8, None)
    assert (config.data.name, config.data.text) == ("sst2", "sentence")
    assert config.trainer.batch_size == 16


def test_a_null_group_is_opened_by_a_setting_in_it():
    config = composed("method.prefix.length=2", text="method: {name: lora, prefix: null}")
    assert config.method.prefix.length == 2


@pytest.mark.parametrize("words", [(), ("method=lora_prefix",), ("data=squad", "seed=7")])
def test_the_configuration_of_a_run_gives_the_same_again(words, folder):
    first = composed(*words)
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(to_yaml(first), encoding="utf-8")
    assert composed("config=run/config.yaml") == first
    assert composed("config=run") == first


def test_a_run_with_presets_and_packages_that_are_not_here(folder):
    content = yaml.safe_load(to_yaml(composed()))
    content["method"] |= {"name": "mine", "scaling": None}
    content["experiment"] = "nowhere"
    config = composed(text=yaml.safe_dump(content))
    assert (config.method.name, config.method.rank, config.experiment) == ("mine", 8, None)


def test_the_header_and_the_defaults_of_hydra():
    text = """\
# @package _global_
defaults:
  - override /method: prefix
  - _self_
hydra: {run: {dir: there}}
seed: 2
"""
    request = ComposeRequest("train", overrides(text=text))
    composed_config = compose_config(request)
    assert composed_config.hydra.run.dir == "there"
    assert (composed_config.method.name, composed_config.seed) == ("prefix", 2)


def test_every_experiment_is_a_file_too(folder):
    from bertft.config.presets import find_presets

    for name, file in find_presets("experiment").items():
        plain, selected = composed(f"config={file}"), composed(f"experiment={name}")
        assert plain == selected, name


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1"])
def test_a_file_that_is_not_utf_8(folder, encoding):
    (folder / "my.yaml").write_text("seed: 1 # é\n", encoding=encoding)
    with pytest.raises(UsageError, match=r"my\.yaml: is not UTF-8\. Save it as UTF-8"):
        overrides("config=my.yaml", text=None)


def test_an_empty_file_changes_nothing():
    assert composed(text="# nothing\n") == composed()
    assert composed("config=null") == composed()


def test_a_sweep_over_a_file():
    words = overrides("seed=0,1", "hydra.sweep.dir=s", text="method: head\n", sweep=True)
    plan = plan_sweep(ComposeRequest("train", words))
    configs = [job.config for job in plan.jobs or ()]
    assert [(config.method.name, config.seed) for config in configs] == [("head", 0), ("head", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer:\n  epoch: 3\n", r"my\.yaml:2: trainer\.epoch: .*Did you mean 'trainer\.epochs'"),
        ("trainer.epoch: 3\n", r"my\.yaml:1: trainer\.epoch: .*'trainer\.epochs'"),
        ("seed: 1\ntrainr: {epochs: 3}\n", r"my\.yaml:2: trainr: .*Did you mean 'trainer'"),
        ("method: lorra\n", r"my\.yaml:1: method: .*Did you mean 'lora'"),
        ("\nmethod: {name: lorra}\n", r"my\.yaml:2: method: .*Did you mean 'lora'"),
        ("seed: x\n", r"my\.yaml:1: seed: 'x' is not a whole number"),
        ("num_train_epochs: 3\n", r"my\.yaml:1: num_train_epochs: .*trainer\.epochs"),
        ("- seed\n", r"my\.yaml: expected settings with values, got a list"),
        ("seed\n", r"my\.yaml: expected settings with values"),
        ("a: [\n", r"my\.yaml:2: is not valid YAML"),
        ("seed: ${x}\n", r"my\.yaml: interpolations"),
        ("seed: !!python/object:a 1\n", r"my\.yaml: line 1: tags"),
        ("defaults: [{method: 1}]\n", r"my\.yaml: defaults: 'method' is not supported"),
        ("defaults: [{}, other]\n", r"'other' is not supported"),
    ],
)
def test_problems_have_file_line_and_the_closest_name(text, message):
    with pytest.raises(UsageError, match=message):
        overrides(text=text)


@pytest.mark.parametrize(
    "text",
    [
        "model: {trust_remote_code: true}\n",
        "hydra: {callbacks: {x: {_target_: os.system}}}\n",
        "hydra: {searchpath: [file:///tmp]}\n",
        "defaults: [{override hydra/launcher: joblib}]\n",
        "resume: run\n",
        "config: other.yaml\n",
    ],
)
def test_only_the_command_line_names_code_and_runs(text):
    with pytest.raises(UsageError, match=r"command line|not supported"):
        overrides(text=text)


def test_trust_on_the_command_line_is_enough():
    text = "model: {trust_remote_code: true}\n"
    assert composed("model.trust_remote_code=true", text=text).model.trust_remote_code
    assert not composed("model.trust_remote_code=false", text=text).model.trust_remote_code


def test_the_cache_of_another_machine_is_ignored(capsys):
    assert composed(text="data: {cache: /elsewhere}\n").data.cache is None
    assert "data.cache is ignored" in capsys.readouterr().err


def test_files_that_are_not_there_and_combinations(folder):
    (folder / "my.yaml").touch()
    with pytest.raises(UsageError, match=r"no such file. Did you mean 'my\.yaml'"):
        composed("config=mi.yaml")
    with pytest.raises(UsageError, match="experiment"):
        composed("config=my.yaml", "experiment=sst2_small_budget")


def test_a_complete_file_in_the_folder_of_a_group(folder):
    (folder / "own" / "method").mkdir(parents=True)
    text = "# Mine\nmethod: lora\ntrainer: {epochs: 3}\n"
    (folder / "own" / "method" / "mine.yaml").write_text(text)
    words = tuple(rewrite_overrides("train", ["method=mine"]))
    problem = r"method would become method\.method.*@package _global_.*config=<file>"
    with pytest.raises(UsageError, match=problem):
        compose_config(ComposeRequest("train", words, folder / "own"))
