"""Every mistake: its message, status 2, no traceback, and the command never called."""

from __future__ import annotations

import pytest

ONE_BY_ONE = {
    # words                                 what the message must hold
    "method=svdlora": ("method: there is no preset method=svdlora", "'svd_lora'"),
    "model=bert_bas": ("model: there is no preset model=bert_bas", "'bert_base'"),
    "data=nothing_like": ("data: there is no preset data=nothing_like", "ag_news"),
    "experiment=sst2": ("experiment: there is no preset experiment=sst2", "sst2_small_budget"),
    "+experiment=zzz": ("experiment: there is no preset experiment=zzz",),
    "method=null": ("method: there is no preset method=None",),
    "method=大": ("method: there is no preset method=大",),
    "trainer.learing_rate=1": ("unknown setting", "'trainer.learning_rate'"),
    "trainer.foo=1": ("trainer.foo: unknown setting", "epochs, max_steps"),
    "+trainer.foo=1": ("trainer.foo: unknown setting",),
    "++trainer.foo=1": ("trainer.foo: unknown setting",),
    "open/method/prefix=0": ("open/method/prefix: unknown setting",),
    "~open/method/prefix=0": ("cannot be removed",),
    "run=outputs/x": ("unknown setting", "resume=<run>"),
    "train.epochs=1": ("unknown setting", "'trainer.epochs'"),
    "learning_rate=1": ("unknown setting", "'trainer.learning_rate'"),
    "epochs=3": ("unknown setting", "'trainer.epochs'"),
    "sed=1": ("unknown setting", "'seed'"),
    "method.low_rank.rnk=1": ("method.low_rank.rnk: unknown setting",),
    "method.lowrank.alpha=1": ("unknown setting", "'method.low_rank.alpha'"),
    "trainer.epochs.more=1": ("trainer.epochs.more: unknown setting",),
    "ключ=1": ("ключ: unknown setting",),
    "hydra.run.dirr=x": ("hydra.run.dirr: unknown setting", "'dir'"),
    "~trainer.max_grad_norm": ("trainer.max_grad_norm: settings cannot be removed", "null"),
    "trainer.epochs=three": ("'three' is not a number",),
    "trainer.epochs=три": ("'три' is not a number",),
    "trainer.max_steps=1.5": ("1.5 is not a whole number",),
    "trainer.gradient_checkpointing=maybe": ("'maybe' is not true or false",),
    "trainer.batch_size=null": ("null is not supported", "at least 1"),
    "trainer.batch_size=[1]": ("expected one value, got a list",),
    "trainer={batch_sze: 1}": ("trainer",),
    "method.prefix={lenght: 1}": ("unknown setting", "'method.prefix.length'"),
    "method.prefix=5": ("method.prefix: is a group of settings, not 5", "length"),
    "trainer.batch_size=0": ("0 is out of range", "at least 1"),
    "trainer.batch_size=-3000000000": ("is out of range", "at least 1 and below 2,147,483,648"),
    "trainer.learning_rate=-1": ("-1", "out of range", "above 0"),
    "trainer.learning_rate=nan": ("nan is not finite",),
    "trainer.epochs=inf": ("inf is not finite",),
    "data.validation_fraction=1.5": ("1.5 is out of range", "below 1"),
    "trainer.precision=bf61": ("'bf61' is not a valid value", "'bf16'"),
    "data.task=clasification": ("Did you mean 'classification'?",),
    "data.on_bad_row=stop": ("'stop' is not a valid value", "error, skip"),
    "trainer.epochs=1,2": ("expected one value, got", "-m"),
    "method=lora,prefix": ("expected one value, got", "-m"),
    "trainer.epochs=${nowhere}": ("nowhere",),
    "method.rank": ("method.rank",),
    "=3": ("=3",),
}


@pytest.mark.parametrize("word", ONE_BY_ONE)
def test_one_mistake(run_bertft, calls, word):
    result = run_bertft("train", word)
    assert result.status == 2, result.err
    assert result.err.startswith("error: ") and "Traceback" not in result.err
    for expected_text in ONE_BY_ONE[word]:
        assert expected_text in result.err
    assert result.out == "" and calls["train"] == []


def test_all_mistakes_at_once(run_bertft):
    result = run_bertft(
        "train", "method=svdlora", "trainer.learing_rate=1", "trainer.epochs=three",
        "+trainer.foo=1", "trainer.batch_size=0", "data=sample", "data.train=x.csv",
    )  # fmt: skip
    assert result.status == 2
    lines = result.err.splitlines()
    assert lines[0] == "error: 6 problems:"
    wheres = [line.split(":")[0].strip() for line in lines[1:]]
    assert wheres == [
        "method", "trainer.learing_rate", "trainer.epochs", "trainer.foo", "trainer.batch_size",
        "data.train",
    ]  # fmt: skip


def test_nothing_is_guessed_that_rests_on_a_mistake(run_bertft):
    """Neither the rank nor l1 can be judged while the method or the kind is not known."""
    for words in (
        ["method=svdlora", "method.low_rank.l1=0.1", "method.initial_rank=20"],
        ["method.low_rank.kind=svdlora", "method.low_rank.l1=0.1"],
    ):
        result = run_bertft("train", *words)
        assert len(result.err.splitlines()) == 1 and "svdlora" in result.err


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("eval", ["run"]),
        ("merge", ["run", "out"]),
        ("export", ["run", "out"]),
        ("predict", ["run"]),
        ("verify", ["run"]),
        ("compare", ["runs"]),
    ],
)
def test_what_must_be_given(run_bertft, calls, command, missing):
    result = run_bertft(command)
    assert result.status == 2 and calls[command] == []
    for name in missing:
        assert f"{name}: is missing. Set {name}=" in result.err


def test_a_setting_of_another_command(run_bertft):
    result = run_bertft("merge", "run=r", "out=o", "method=lora", "trainer.epochs=1")
    assert result.status == 2
    assert "method: unknown setting" in result.err
    assert "trainer.epochs: unknown setting" in result.err


def test_a_key_below_a_null_contradicts_it(run_bertft):
    result = run_bertft("train", "method.prefix=null", "method.prefix.length=4")
    assert result.status == 2
    assert "method.prefix.length: cannot be set, because method.prefix=null" in result.err


@pytest.fixture
def recipe(tmp_path):
    """Write an experiment of one's own; returns the words that use it."""

    def write(text, header="# @package _global_\n"):
        folder = tmp_path / "own" / "experiment"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.yaml").write_text(header + text, encoding="utf-8")
        return ["--config-dir", str(tmp_path / "own"), "experiment=mine"]

    return write


def test_a_recipe_of_one_s_own(run_bertft, calls, recipe):
    assert run_bertft("train", *recipe("method:\n  rank: 3\n")).status == 0
    (config, _) = calls["train"][0]
    assert (config.method.rank, config.experiment) == (3, "mine")


def test_mistakes_in_a_file_are_named_with_its_line(run_bertft, recipe):
    words = recipe(
        "trainer:\n  learing_rate: 1\n  epochs: three\n  steps: -1\n"
        "method:\n  low_rank:\n    alfa: 1\n"
    )
    result = run_bertft("train", *words, "seed=x")
    assert result.status == 2
    for expected_text in (
        "own/experiment/mine.yaml:3: trainer.learing_rate: unknown setting",
        "mine.yaml:4: trainer.epochs: 'three' is not a number",
        "mine.yaml:5: trainer.max_steps: -1 is out of range",
        "mine.yaml:8: method.low_rank.alfa: unknown setting. Did you mean 'method.low_rank.alpha'?",
        "seed: 'x' is not a whole number",
    ):
        assert expected_text in result.err, result.err


def test_a_preset_that_a_file_requests_in_vain(run_bertft, recipe):
    result = run_bertft("train", *recipe("defaults:\n  - override /method: lorra\n"))
    assert result.status == 2
    assert "method: there is no preset method=lorra. Did you mean 'lora'?" in result.err


def test_a_recipe_without_its_package(run_bertft, recipe):
    result = run_bertft("train", *recipe("method:\n  rank: 3\n", header=""))
    assert result.status == 2 and "# @package _global_" in result.err
    assert "under experiment: method would become experiment.method" in result.err


@pytest.mark.parametrize("text", ["method:\n rank: 3\n  low: 2\n", "seed: 1\nseed: 2\n", "a: [1\n"])
def test_a_file_that_is_no_yaml(run_bertft, recipe, text):
    result = run_bertft("train", *recipe(text))
    assert result.status == 2 and "mine.yaml:" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize(
    "command", [["train"], ["train", "-m", "seed=1,2"], ["train", "--help", "experiment"]]
)
def test_a_file_that_is_not_utf_8(run_bertft, calls, recipe, tmp_path, command, encoding):
    words = recipe("seed: 5 # é\n")
    file = tmp_path / "own/experiment/mine.yaml"
    file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    result = run_bertft(*command, *(words[:2] if "--help" in command else words))
    assert result.status == 2 and calls["train"] == []
    assert "mine.yaml: is not UTF-8. Save it as UTF-8" in result.err
    assert "Traceback" not in result.err


def test_a_byte_order_mark_does_not_hide_the_package(run_bertft, calls, recipe, tmp_path):
    """Windows editors write it; Hydra did not find the package after it."""
    words = recipe("seed: 5\n", header="\ufeff# @package _global_\n")
    assert run_bertft("train", *words).status == 0
    assert calls["train"][0][0].seed == 5
    (tmp_path / "my.yaml").write_text("\ufeff# @package trainer\nepochs: 7\n", encoding="utf-8")
    assert run_bertft("train", "config=my.yaml").status == 0
    assert calls["train"][1][0].trainer.epochs == 7


@pytest.mark.parametrize("header", ["# @package\n", "# @package _global_ please\n"])
def test_a_first_line_that_hydra_cannot_read(run_bertft, recipe, header):
    result = run_bertft("train", *recipe("seed: 5\n", header=header))
    assert result.status == 2 and "Example: # @package _global_" in result.err


def test_a_search_path_of_one_s_own(run_bertft, calls, recipe, tmp_path):
    recipe("seed: 5\n")
    words = [f"hydra.searchpath=[file://{tmp_path}/own]", "experiment=mine"]
    assert run_bertft("train", *words).status == 0
    assert calls["train"][0][0].seed == 5


def test_a_folder_of_files_that_is_not_there(run_bertft):
    result = run_bertft("train", "--config-dir", "nowhere")
    assert result.status == 2 and "there is no folder nowhere" in result.err


@pytest.mark.parametrize("flag", ["--epochs=3", "--config-name=x", "-z"])
def test_flags_that_are_none(run_bertft, flag):
    result = run_bertft("train", flag)
    assert result.status == 2 and result.err.startswith("error: ")
