"""Distributions in Hydra's syntax, and what cannot be searched."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from bertft.config.command_configs import TrainConfig, TuneConfig
from bertft.config.compose import ComposeRequest, compose_config
from bertft.config.overrides import rewrite_overrides
from bertft.config.search_plan import plan_search
from bertft.config.search_space import (
    Distribution,
    combinations,
    default_space,
    fixed_and_searched,
    space_problems,
)
from bertft.config.serialize import to_plain_dict
from bertft.config.tune import parse_time
from bertft.config.tune_command import sweep_words
from bertft.errors import UsageError


def read(*words):
    fixed, space = fixed_and_searched(OverridesParser.create().parse_overrides(list(words)))
    assert fixed == []
    return space


def one(word):
    [distribution] = read(word).values()
    return distribution


def test_every_distribution():
    assert one("method.rank=choice(2,4,4,8)").choices == ("2", "4", "8")
    assert one("method=lora,prefix").choices == ("lora", "prefix")
    assert one("method.rank=range(2,9,2)").values() == ["2", "4", "6", "8"]
    assert one("method.rank=range(8,1,-2)").values() == ["2", "4", "6", "8"]
    floats = one("method.low_rank.dropout=range(0.0,0.3,0.1)")
    assert floats.choices == ("0.0", "0.1", "0.2") and floats.size == 3
    dropout = one("method.low_rank.dropout=interval(0,0.3)")
    assert (dropout.low, dropout.high, dropout.is_log, dropout.size) == (0, 0.3, False, None)
    rate = one("trainer.learning_rate=tag(log,interval(1e-4,1e-2))")
    assert (rate.low, rate.high, rate.is_log, rate.is_integer) == (1e-4, 1e-2, True, False)
    batch = one("trainer.batch_size=tag(log,interval(7.5,64.5))")
    assert (batch.low, batch.high, batch.is_integer, batch.size) == (8, 64, True, 57)
    assert one("++model.architecture.hidden_size=choice(32,64)").sign == "++"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("method.rank=choice(2)", "fewer than two values"),
        ("method.rank=range(2,3)", "fewer than two values"),
        ("trainer.learning_rate=interval(1e-2,1e-2)", "is not an interval"),
        ("trainer.learning_rate=tag(log,interval(0,1))", "has no logarithm at 0"),
        ("trainer.batch_size=interval(8.2,8.8)", "fewer than two values"),
        ("trainer.batch_size=interval(8.2,9.5)", "fewer than two values"),
        ("method.rank=tag(log,choice(2,4))", r"tag\(log, ...\) is not supported"),
        ("method.rank=tag(log,range(2,9))", r"tag\(log, ...\) is not supported"),
        ("trainer.warmup=tag(log,fine,interval(0.1,0.2))", r"tag\(fine, ...\) is not supported"),
        ("method.rank=shuffle(2,4)", "shuffle is not supported"),
    ],
)
def test_a_distribution_without_values(word, text):
    with pytest.raises(UsageError, match=text):
        one(word)


def test_numbers_are_short_and_within_the_ends():
    rate = Distribution("", low=1.2344e-4, high=0.0099999)
    assert rate.format(0.00123456789) == "0.001235"
    assert [float(rate.format(number)) for number in (1.2344e-4, 0.0099999)] == [
        1.2344e-4, 0.0099999,
    ]  # fmt: skip
    assert Distribution("", low=2, high=8, is_integer=True).format(4.0) == "4"


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (Distribution("", ("2", "4")), 4, "4"),
        (Distribution("", ("2", "4")), 8, None),
        (Distribution("", ("lora", "'a b'")), "a b", "'a b'"),
        (Distribution("", ("null", "3")), None, "null"),
        (Distribution("", ("true", "false")), True, "true"),
        (Distribution("", ("[query,value]",)), ["query", "value"], "[query,value]"),
        (Distribution("", low=0.0, high=1.0), 0.25, "0.25"),
        (Distribution("", low=0.0, high=1.0), 2.0, None),
        (Distribution("", low=0.0, high=1.0), None, None),
        (Distribution("", low=2, high=8, is_integer=True, step=2), 4, "4"),
        (Distribution("", low=2, high=8, is_integer=True, step=2), 5, None),
    ],
)
def test_the_default_is_found_in_a_distribution(distribution, value, expected):
    assert distribution.find(value) == expected


def test_combinations_are_listed_if_they_are_few():
    space = {
        "a": Distribution("", ("x", "y")),
        "b": Distribution("", low=1, high=3, is_integer=True),
    }
    assert combinations(space, 6) == [(x, n) for x in "xy" for n in "123"]
    assert combinations(space, 5) is None
    assert combinations({"a": Distribution("", low=0.0, high=1.0)}, 10**6) is None


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("seed=0,1", "seed: cannot be searched. Set tune.seeds"),
        ("data=sample,sst2", "data: cannot be searched, because it can change the rows"),
        ("data.label=choice(a,b)", "data.label: cannot be searched, because it can change"),
        ("data.seed=0,1", "data.seed: cannot be searched"),
        ("trainer.evaluations=4,8", "trainer.evaluations: cannot be searched. Set it to one"),
        ("trainer.on_collapse=warn,retry", "on_collapse: cannot be searched. Set it to one"),
        ("trainer.device=cpu,cuda", "because it has no effect on the metric"),
        ("quiet=true,false", "because it has no effect on the metric"),
        ("method.low_rank=choice(a,b)", "is a group of settings"),
        ("method.low_rank.dropout=interval(0,1.5)", "1.5 is out of range. It must be at least 0"),
        ("trainer.batch_size=choice(0,8)", "0 is out of range. It must be at least 1"),
        ("method.rank=interval(0.5,8)", ""),
        ("data.max_length=32,64", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_searched(word, text):
    problems = "; ".join(map(str, space_problems(read(word))))
    assert text in problems and bool(problems) == bool(text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["method=lora"],
            {
                "method.low_rank.learning_rate": "tag(log,interval(0.0002,0.02))",
                "method.head_learning_rate": "tag(log,interval(0.0002,0.02))",
                "method.low_rank.dropout": "choice(0.0,0.05,0.1,0.2)",
            },
        ),
        (
            ["method=full"],
            {
                "method.base.learning_rate": "tag(log,interval(1e-05,0.001))",
                "method.head_learning_rate": "tag(log,interval(1e-05,0.001))",
            },
        ),
        (
            ["method=prefix", "trainer.learning_rate=0.01"],
            {
                "trainer.learning_rate": "tag(log,interval(0.001,0.1))",
                "method.prefix.length": "choice(8,16,32)",
            },
        ),
    ],
)
def test_the_default_space_begins_with_the_learning_rates(words, expected):
    config = to_plain_dict(compose_config(ComposeRequest("train", tuple(words))))
    assert list(default_space(config, ()).items()) == list(expected.items())
    first = next(iter(expected))
    assert list(default_space(config, [first])) == list(expected)[1:]


def plan(*words):
    arguments = rewrite_overrides("train", sweep_words(words), sweep=True)
    return plan_search(ComposeRequest("train", tuple(arguments)))


def test_the_plan_of_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = plan(
        "method=lora", "method.rank=4", "trainer.epochs=2", "tune.trials=6", "tune.time=1.5m",
        "tune.seeds=[3]", "tune.seed=5", "tune.space={method.low_rank.dropout: choice(0.0, 0.05), "
        "trainer.weight_decay: interval(0,0.1)}", "hydra.run.dir=s", "quiet=true", "seed=2",
    )  # fmt: skip
    assert (made.budget.trials, made.budget.seconds) == (6, 90.0)
    assert (made.budget.seeds, made.budget.seed, made.base_seed) == ((3,), 5, 2)
    assert list(made.space) == ["method.low_rank.dropout", "trainer.weight_decay"]
    assert made.default == {"method.low_rank.dropout": "0.05", "trainer.weight_decay": "0.01"}
    assert made.fixed == (
        "+open/method/low_rank=yes",
        "method=lora", "method.rank=4", "trainer.epochs=2", "quiet=true", "seed=2",
        "trainer.evaluations=8",
    )  # fmt: skip
    assert (str(made.folder), made.launcher, made.quiet) == ("s", "basic", True)
    assert made.default_folder.startswith("lora-r4-sample-s2-")
    assert not list(tmp_path.iterdir())


def test_a_default_outside_of_the_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan("tune.space.method.rank=choice(2,4)").default is None
    made = plan("method=lora,svd_lora", "tune.space.method.rank=choice(2,8)")
    assert made.default == {"method": "lora", "method.rank": "8"}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["tune.space={}"], "tune.space: is empty"),
        (["tune.space=[a]"], "expected {setting: distribution}, got"),
        (["tune.space={method.rank}"], "method.rank has no distribution"),
        (["tune.space.method.rank=8"], "'8' is not a distribution. Write choice"),
        (["tune.space.method.rnk=choice(2,4)"], "Did you mean 'method.rank'?"),
        (["tune.space.method.rank=choice(2,4)", "method.rank=4"], "is set to a value and searched"),
        (["tune.trails=4"], "Did you mean 'tune.trials'?"),
        (["tune.trials=1"], "tune.trials: 1 is out of range. It must be at least 2"),
        (["tune.trials=null"], "tune.trials: null requires tune.time"),
        (["tune.time=soon"], "tune.time: 'soon' is not a time. Write 90s, 45m or 2h"),
        (["tune.seeds=[]"], "tune.seeds: [] is not a list of seeds"),
        (["tune.seeds=[1,1]"], "tune.seeds: a seed is listed twice"),
        (["check=true"], "check: is not supported by tune"),
        (["resume=auto"], "resume: is not supported by tune"),
        (["trainer.evaluate_every=10"], "Set trainer.evaluations=8 instead"),
        (["trainer.stop_at=0.5"], "trainer.stop_at: is not supported by a search"),
        (["method.low_rank.dropout=interval(0,1.5)"], "1.5 is out of range"),
        (["method=head,prefix", "method.rank=2,4"], "is not supported"),
        (["trainer.optimizer=adam,adamw"], "'adam' is not a valid value"),
        (
            ["method=full", "method.base.learning_rate=1e-4", "method.head_learning_rate=1e-3"],
            "tune.space: is empty: the command sets everything",
        ),
    ],
)
def test_mistakes_are_reported_before_any_run(words, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        plan(*words)
    assert text in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), (" 3 m ", 180)]
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "1d", "-1s", "1e3"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


def test_tune_has_every_setting_of_train():
    assert issubclass(TuneConfig, TrainConfig)


def test_the_defaults_of_the_sweeper_are_those_of_tune():
    from bertft.config.tune import TuneSettings
    from hydra_plugins.bertft_halving.halving_sweeper import HalvingSweeperConfig

    tune, sweeper = TuneSettings(), HalvingSweeperConfig()
    for name in ("trials", "time", "seed"):
        assert getattr(tune, name) == getattr(sweeper, name)
    assert tune.seeds == list(sweeper.seeds)


def test_a_file_of_settings_has_a_group_tune(tmp_path, monkeypatch):
    from bertft.config.config_file import expand_config_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(
        "method: svd_lora\ntune:\n  trials: 4\n  space:\n    method.rank: [2, 4]\n"
        "    trainer:\n      weight_decay: interval(0, 0.1)\n"
    )
    made = plan(*expand_config_file("tune", ["config=my.yaml", "tune.trials=3"]))
    assert made.budget.trials == 3 and made.default_folder.startswith("svd_lora-")
    assert {key: d.text for key, d in made.space.items()} == {
        "method.rank": "choice(2,4)", "trainer.weight_decay": "interval(0, 0.1)"
    }  # fmt: skip
    words = expand_config_file("train", ["config=my.yaml"])
    assert not [word for word in words if "tune" in word], "train ignores the group"
