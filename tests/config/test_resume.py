"""A run goes on under its own configuration."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.config.overrides import rewrite_overrides
from bertft.config.resume import read_run_config
from bertft.config.schema import iter_leaves, settings_tree
from bertft.errors import DataError


@pytest.fixture
def run(tmp_path):
    """A begun run: svd_lora with a batch of 4."""

    def make(*words):
        words = rewrite_overrides("train", ["method=svd_lora", "trainer.batch_size=4", *words])
        config = to_dataclass("train", compose_config(ComposeRequest("train", tuple(words))))
        folder = tmp_path / "run"
        folder.mkdir()
        OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")
        (folder / "manifest.json").write_text("{}")
        return folder

    return make


def test_it_resumes_with_its_own_settings_in_its_own_folder(run_bertft, calls, run):
    folder = run("seed=7")
    assert run_bertft("train", f"resume={folder}").status == 0
    ((config, at),) = calls["train"]
    assert at == folder
    assert (config.method.name, config.trainer.batch_size, config.seed) == ("svd_lora", 4, 7)
    assert config.resume == str(folder)


def test_it_may_train_longer_elsewhere_and_in_silence(run_bertft, calls, run):
    folder = run()
    words = ["trainer.epochs=5", "trainer.device=cpu", "quiet=true", "trainer.log_every=3"]
    assert run_bertft("train", f"resume={folder}", *words).status == 0
    ((config, _),) = calls["train"]
    assert (config.trainer.epochs, config.trainer.device, config.quiet) == (5, "cpu", True)


def test_settings_without_a_value_can_be_repeated(run_bertft, calls, run):
    """As in a search, whose command has them for each trial."""
    folder = run()
    config = OmegaConf.load(folder / "config.yaml")
    nulls = [
        f"{leaf.path}=null"
        for leaf in iter_leaves(settings_tree("train"))
        if OmegaConf.select(config, leaf.path, default="missing") is None and leaf.path != "resume"
    ]
    assert {"trainer.epochs=null", "trainer.max_steps=null", "experiment=null"} <= set(nulls)
    result = run_bertft("train", f"resume={folder}", "method=svd_lora", *nulls)
    assert (result.status, len(calls["train"])) == (0, 1), result.err
    result = run_bertft("train", f"resume={folder}", "trainer.batch_size=4", "trainer.patience=1")
    assert result.status == 2 and "trainer.patience: the run has null, not 1" in result.err


def test_a_stop_belongs_to_one_command(run_bertft, calls, run):
    folder = run("trainer.stop_at=3")
    assert run_bertft("train", f"resume={folder}").status == 0
    assert run_bertft("train", f"resume={folder}", "trainer.stop_at=0.5").status == 0
    assert [config.trainer.stop_at for config, _ in calls["train"]] == [None, 0.5]


def test_it_may_train_longer_by_the_former_name_of_a_setting(run_bertft, calls, run):
    assert (
        run_bertft("train", f"resume={run('trainer.max_steps=5')}", "trainer.steps=9").status == 0
    )
    ((config, _),) = calls["train"]
    assert config.trainer.max_steps == 9


@pytest.mark.parametrize(("recorded", "meant"), [(True, None), (False, False)])
def test_quoting_that_was_the_default_is_still_the_default(run, recorded, meant):
    folder = run(f"data.quoting={recorded}")
    assert read_run_config(folder).data.quoting is recorded
    content = OmegaConf.load(folder / "config.yaml")
    del content.data["max_skipped"]  # as a run of an earlier version has it
    OmegaConf.save(content, folder / "config.yaml")
    assert read_run_config(folder).data.quoting is meant


@pytest.mark.parametrize(
    ("begun", "word", "expected_text"),
    [
        ((), "trainer.batch_size=8", "trainer.batch_size: the run has 4, not 8"),
        ((), "method=lora", "method.low_rank.kind: the run has svd_lora, not lora"),
        ((), "method.low_rank.alpha=3", "method.low_rank.alpha: the run has 9.0, not 3.0"),
        ((), "data.metric=f1_macro", "data.metric: the run has null, not f1_macro"),
        ((), "trainer.compile=true", "trainer.compile: the run has false, not true"),
        ((), "data.labels=[a,b]", "data.labels: the run has null, not [a,b]"),
        ((), "trainer.epochs=2", "trainer.epochs: 2.0 is not larger than 3.0"),
        (("trainer.epochs=4",), "trainer.epochs=3", "3.0 is not larger than 4.0"),
        (
            ("trainer.max_steps=9",),
            "trainer.epochs=3",
            "is configured with trainer.max_steps",
        ),
        (("trainer.epochs=4",), "trainer.max_steps=3", "is configured with trainer.epochs"),
        (("trainer.max_steps=9",), "trainer.max_steps=8", "8 is not larger than 9"),
        (("loss.class_weights={a: 2}",), "loss.class_weights.a=3", "a: the run has 2, not 3"),
        ((), "trainer.clip=0.5", "trainer.max_grad_norm: the run has 1.0, not 0.5"),
        ((), "+trainer.clip=0.5", "trainer.max_grad_norm: the run has 1.0, not 0.5"),
        (("trainer.max_steps=9",), "trainer.steps=8", "8 is not larger than 9"),
        ((), "loss.class_weights.a=3", "loss.class_weights.a: the run has null, not 3"),
    ],
)
def test_it_may_not_change(run_bertft, calls, run, begun, word, expected_text):
    result = run_bertft("train", f"resume={run(*begun)}", word)
    assert (result.status, calls["train"]) == (2, [])
    assert expected_text in result.err


def test_a_setting_inside_another_may_be_repeated_but_not_changed(run_bertft, calls, run):
    words = ["model=tiny", "method=svd_lora", "model.architecture.hidden_size=32"]
    folder = run(*words)
    assert run_bertft("train", f"resume={folder}", *words).status == 0
    for word, old in (("hidden_size=64", 32), ("vocab_size=64", "null")):
        result = run_bertft("train", f"resume={folder}", *words, f"model.architecture.{word}")
        name = word.partition("=")[0]
        assert result.status == 2, result
        assert f"model.architecture.{name}: the run has {old}, not 64" in result.err
    assert len(calls["train"]) == 1


def test_auto_takes_the_command_that_began_it(run_bertft, calls, run):
    folder = run("trainer.max_steps=9")
    words = ["method=svd_lora", "trainer.batch_size=4", "trainer.max_steps=9", "resume=auto"]
    assert run_bertft("train", *words, f"hydra.run.dir={folder}").status == 0
    assert run_bertft("train", *words, f"hydra.run.dir={folder}", "data.seed=3").status == 2


def test_auto_starts_where_nothing_was_started(run_bertft, calls, tmp_path):
    words = ["method=lora", "resume=auto", f"hydra.run.dir={tmp_path / 'new'}"]
    assert run_bertft("train", *words).status == 0
    ((config, _),) = calls["train"]
    assert (config.method.name, config.resume) == ("lora", "auto")


def test_a_folder_without_a_run(run_bertft, tmp_path):
    result = run_bertft("train", f"resume={tmp_path}")
    assert result.status == 2 and "is not a run" in result.err


DAMAGED = ["trainer: [1", "trainer: {epochs: three}", "zzz: 1", "\x00", "- 1"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_configuration(run_bertft, run, text):
    folder = run()
    (folder / "config.yaml").write_text(text)
    result = run_bertft("train", f"resume={folder}")
    assert result.status == 2, result.err
    assert "config.yaml: cannot be read" in result.err


EDITED = [
    ({"trainer": {"max_steps": -5}}, "trainer.max_steps -5 is out of range"),
    ({"trainer": {"micro_batch": 10_000}}, "trainer.micro_batch 10000 is above"),
    ({"method": {"low_rank": {"alpha": float("nan")}}}, "method.low_rank.alpha nan is not finite"),
    ({"seed": 10**25}, f"seed {10**25} is out of range. It must be at least 0 and below {2**63:,}"),
]


@pytest.mark.parametrize(("edit", "expected_text"), EDITED)
def test_an_edited_configuration_is_held_to_the_rules(run_bertft, run, edit, expected_text):
    file = run() / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(file), edit), file)
    result = run_bertft("train", f"resume={file.parent}")
    assert result.status == 2 and f"config.yaml: {expected_text}" in result.err, result.err
    with pytest.raises(DataError, match=r"config\.yaml"):
        read_run_config(file.parent)


@pytest.mark.parametrize("content", ["", "{}", "null"])
def test_a_config_without_entries_is_damaged(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(DataError, match=r"config\.yaml"):
        read_run_config(tmp_path)
