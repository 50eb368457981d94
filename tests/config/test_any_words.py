"""Whatever words stand on the command line: a configuration, or one error that can be printed."""

from __future__ import annotations

import functools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.compose import (
    ComposeRequest,
    compose_config,
    hydra_session,
    to_dataclass,
    validate_overrides,
)
from bertft.config.overrides import rewrite_overrides
from bertft.config.presets import find_presets
from bertft.config.schema import iter_leaves, settings_tree
from bertft.config.sweep_plan import plan_sweep
from bertft.errors import UsageError

GROUPS = ("method", "model", "data", "trainer", "experiment")
PATHS = sorted(
    {leaf.path for command in COMMAND_CONFIGS for leaf in iter_leaves(settings_tree(command))}
)
CHOICES = sorted(
    {
        c
        for config in COMMAND_CONFIGS
        for x in iter_leaves(settings_tree(config))
        for c in x.choices or ()
    }
)
# Every sign that some grammar on the way (a shell's, Hydra's, OmegaConf's, YAML's) knows.
SIGNS = st.text(
    st.sampled_from("=,:;.[]{}()'\"\\$%~+-*/|@#!&<>? \t\n\0ab01é酒\U0001f600"), max_size=12
)
KEYS = st.one_of(
    st.sampled_from(PATHS), st.sampled_from(GROUPS), SIGNS, st.text(max_size=12),
    st.sampled_from(
        ["method.prefix", "method.low_rank", "data.", ".", "hydra", "hydra.run.dir",
         "hydra/launcher", "model.architecture.hidden_size", "method.prefix.length.x",
         "open/method/prefix", "defaults"]
    ),
    st.sampled_from(PATHS).map(lambda path: path[:-1]),
)  # fmt: skip
VALUES = st.one_of(
    st.integers().map(str), st.floats().map(str), st.sampled_from(CHOICES), SIGNS,
    st.text(max_size=12), st.booleans().map(str),
    st.sampled_from([name for group in GROUPS for name in find_presets(group)]),
    st.sampled_from(
        ["null", "???", "${seed}", "${oc.env:HOME}", "${data.name}", "${no.such}", "[a,b]", "{a:1}",
         "[", "{", "'", "1e999", "-0", "nan", "1,2", "range(1,3)", "choice(a,b)", "", "[[[[]]]]",
         "9" * 400, "a" * 5_000, "${", "$", "\\", "1_000", "0x10", "٣"]
    ),
)  # fmt: skip
WORD = st.one_of(
    st.builds(
        lambda sign, key, value: f"{sign}{key}={value}",
        st.sampled_from(["", "", "", "+", "++", "~"]), KEYS, VALUES,
    ),
    SIGNS, st.text(max_size=12),
)  # fmt: skip
NEEDED = {
    "train": (), "tune": (), "cross_validate": (), "eval": ("run=r",), "merge": ("run=r", "out=o"),
    "predict": ("run=r",), "export": ("run=r", "out=o"), "verify": ("run=r",), "report": ("run=r",),
    "compare": ("runs=[r]",), "init": (), "doctor": (),
    "inspect": (f"data.train={__file__}",),
}  # fmt: skip


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.long)])
def test_any_words(count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = settings(
        max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    options(any_words)()
    assert not list(tmp_path.iterdir()), "composing writes nothing"


@given(
    command=st.sampled_from(["train", "train", *COMMAND_CONFIGS]),
    words=st.lists(WORD, min_size=1, max_size=4),
    sweep=st.booleans(),
    whole=st.integers(0, 9).map(lambda number: number == 9),
)
def any_words(command, words, sweep, whole):
    """Words are checked one by one; composing takes long: for those that pass, and some others."""
    words = [*NEEDED[command], *words]
    sweep = sweep and command == "train"
    try:
        request = ComposeRequest(command, tuple(rewrite_overrides(command, words, sweep)))
        problems, _, _ = validate_overrides(hydra_of(command), request, request.overrides)
        assert all(str(problem).strip() for problem in problems)
        if problems and not whole:
            return
        if sweep:
            jobs = plan_sweep(request).jobs
            configs = [job.config for job in jobs or ()]
        else:
            configs = [compose_config(request)]
            assert not problems
        for config in configs:
            assert isinstance(to_dataclass(command, config), COMMAND_CONFIGS[command])
    except UsageError as error:
        assert str(error).strip()  # noqa: PT017  (a configuration is as good an answer)
        str(error).encode(errors="backslashreplace")


@functools.cache
def hydra_of(command):
    with hydra_session(ComposeRequest(command, ())) as hydra:
        return hydra
