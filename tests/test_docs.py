"""The docs are true: their code runs, and the links, paths, names and messages in them exist."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from doc_commands import bertft_commands, check_command

import bertft
from bertft.config.compose import ComposeRequest
from bertft.config.foreign_names import (
    FOREIGN_METHODS,
    NO_METHOD,
    NO_SETTING,
    PEFT_NAMES,
    SCRIPT_NAMES,
    TRAINING_ARGUMENTS,
)
from bertft.config.schema import iter_leaves, settings_tree
from bertft.config.sweep_plan import plan_sweep

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_is_found(page):
    """A page that no other links to is not read."""
    others = (other.read_text(encoding="utf-8") for other in PAGES if other != page)
    assert page.name == "README.md" or any(f"{page.name})" in text for text in others)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:bertft|tests|tools|conf|docs)/[\w./-]+)`", text)
    paths += [f"tests/{name}" for name in re.findall(r"`(?:tests/)?(\w+/test_\w+\.py)`", text)]
    missing = [name for name in paths if "X.Y.Z" not in name and not (ROOT / name).exists()]
    assert not missing


def test_the_architecture_page_names_what_is_defined_in_each_file():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(bertft/\S+\.py)` \| (`\S.*?) \|", page, re.MULTILINE)
    assert len(rows) > 20
    for file, names in rows:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert set(re.findall(r"`(\w+)`", names)) <= defined, file


def test_the_messages_in_troubleshooting_exist():
    """Every quoted message, between its ellipses, is part of a string of the source."""
    strings = {
        node.value
        for file in (ROOT / "bertft").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert len(cells) > 25
    for message in re.findall(r"`([^`]+)`", " ".join(cells)):
        for fragment in re.split(r"\.\.\.|'x'|=0\.01|−1| 2 ", message):
            words = fragment.strip(" .:")
            assert not words or any(words in string for string in strings), (message, words)


def test_the_commands_page_lists_the_settings_that_a_resumed_run_can_change():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = page.partition("\n## Resume training\n")[2].partition("\n## ")[0]
    section = section.replace("\n\n", "\0").replace("\n", " ")
    listed = section.partition("can change when a run is resumed:")[2].partition("\0")[0]
    changeable = {
        leaf.path for leaf in iter_leaves(settings_tree("train")) if leaf.on_resume != "fixed"
    }
    # A repeated command may have config= and experiment=; their settings are compared one by one.
    expected = changeable - {"config", "experiment", "trainer.epochs", "trainer.max_steps"}
    assert set(re.findall(r"`([\w.]+)`", listed)) == expected


def test_the_slurm_file_is_one(tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own" / "experiment" / "cluster.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    words = ("experiment=cluster", "hydra.sweep.dir=s", "seed=0,1")
    planned = plan_sweep(ComposeRequest("train", words, tmp_path / "own"))
    assert planned.launcher == "submitit_slurm" and len(planned.jobs or ()) == 2
    launcher = (planned.jobs or ())[0].config.hydra.launcher
    assert (launcher.partition, launcher.additional_parameters.requeue) == ("gpu", True)


@pytest.mark.slow
def test_the_method_of_a_package_trains_merges_and_is_in_the_help(tmp_path):
    page = (ROOT / "docs" / "add_a_method.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", page, re.DOTALL)
    assert [Path(name).name for name, _ in blocks] == ["__init__.py", "norms.py", "norms.yaml"]
    assert 40 <= sum(text.count("\n") for _, text in blocks) <= 70
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (point,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    points = tomllib.loads(point)["project"]["entry-points"]["bertft.methods"]
    info = tmp_path / "bertft_norms-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bertft-norms\nVersion: 1.0\n")
    lines = ["[bertft.methods]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))

    path = f"{tmp_path}{os.pathsep}{ROOT}"

    def bertft(*lines):
        """Several command lines in one process: each would import torch anew."""
        code = (
            "import json, sys; from bertft.cli.app import main\nfor ws in json.loads(sys.argv[1]):"
        )
        done = subprocess.run(
            [sys.executable, "-c", f"{code} main(ws) == 0 or sys.exit(1)", json.dumps(lines)],
            cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "LN-tuning, the LayerNorms alone" in bertft(["train", "--help", "all"])
    train = [
        "train", "method=norms", "model=tiny", "data.max_train_rows=64", "trainer.max_steps=4",
        "trainer.checkpoint_every=2", "quiet=true", "report=false", "hydra.run.dir=run",
    ]  # fmt: skip
    assert "max |Δlogit|" in bertft(train, ["merge", "run=run", "out=merged"])
    counts = json.loads((tmp_path / "run" / "metrics.json").read_text())["parameters"]
    config = json.loads((tmp_path / "run" / "base" / "config.json").read_text())
    norms = 2 * config["num_hidden_layers"] + 1
    assert counts["method"] == 2 * norms * config["hidden_size"]


def names_table(title: str, answers: dict[str, str]) -> str:
    """A table of names of other libraries, with code in backticks."""
    code = r"hf upload <\w+> <\w+>|(?:\w+[./])+\w+(?:=(?:<[^>]+>|\w+))?|\w+=(?:<[^>]+>|\w+)|^\w+$"
    rows = [
        f"| `{name}` | {re.sub(code, lambda match: f'`{match[0]}`', answer)} |"
        for name, answer in answers.items()
    ]
    return "\n".join([f"## {title}", "", "| name | in bertft |", "|---|---|", *rows, ""])


@pytest.mark.parametrize(
    ("title", "answers"),
    [
        ("TrainingArguments", TRAINING_ARGUMENTS),
        ("peft", PEFT_NAMES),
        ("Scripts of transformers", SCRIPT_NAMES),
        ("Methods", {**FOREIGN_METHODS, **NO_METHOD}),
        ("Names without a setting", NO_SETTING),
    ],
)
def test_the_tables_of_foreign_names_are_those_of_the_messages(title, answers):
    page = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    assert names_table(title, answers) in page


COMMANDS = [
    (name, line)
    for name in ("faq.md", "coming_from.md", "data.md", "settings.md", "commands.md", "trackers.md")
    for line in bertft_commands((ROOT / "docs" / name).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_the_commands_of_the_pages_are_right(name, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()  # config=RUN
    check_command(line, tmp_path)


def test_the_faq_has_the_words_that_people_search():
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8").casefold()
    titles = " ".join(re.findall(r"^## (.*)", page, re.MULTILINE))
    for words in (
        "early stopping", "class weights", "learning rate", "k-fold", "push to the hub",
        "512 tokens", "freeze", "checkpoint", "resum", "cuda out of memory", "imbalanced",
        "reproducible", "seed", "predict on a cpu", "chinese", "multi-label", "onnx",
    ):  # fmt: skip
        assert words in titles, words


def public_api():
    """(heading, name, object) of the public functions, classes, methods and properties."""
    for name in bertft.__all__:
        item = getattr(bertft, name)
        if inspect.isclass(item):
            yield name, name, item
            members = [member for member in vars(item) if not member.startswith("_")]
            yield from ((name, member, getattr(item, member)) for member in members)
        elif callable(item):
            yield name, name, item


@pytest.mark.parametrize(
    ("heading", "name", "item"),
    [pytest.param(*case, id=".".join(case[:2])) for case in public_api()],
)
def test_the_python_page_has_every_name_signature_and_argument(heading, name, item):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## bertft.{heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    if not callable(item):  # a property
        assert f"`{name}`" in section
        return
    if item is bertft.Predictor:  # bertft.load creates it
        return
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(item).parameters.values()
        if parameter.name != "self"
    ]
    assert f"`{name}{inspect.Signature(parameters)}`" in section
    for parameter in parameters:
        assert f"`{parameter.name}`" in section, parameter.name
    docstring = inspect.getdoc(item)
    assert docstring
    for parameter in parameters if inspect.isfunction(item) and heading == name else []:
        assert re.search(rf"^    {parameter.name}: ", docstring, re.MULTILINE), parameter.name
        assert f"| `{parameter.name}` |" in section


def test_the_docstrings_of_the_functions_have_all_sections():
    for function in (bertft.train, bertft.load, bertft.compare):
        docstring = inspect.getdoc(function)
        assert docstring
        for title in ("Args", "Returns", "Raises", "Example"):
            assert f"\n{title}:\n" in docstring, (function.__name__, title)
