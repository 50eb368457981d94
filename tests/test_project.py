"""The project's statements about itself hold: package, README, checks, structure of the code."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
import yaml
from doc_commands import bertft_commands, check_command, command_lines
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bertft
from bertft.config.choices import TRACKERS
from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.presets import find_presets

ROOT = Path(bertft.__file__).parents[1]
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("the project's files lie only in a checkout", allow_module_level=True)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "bertft").rglob("*.py"))
COMMAND_LINES = command_lines(README)


def requirements(*extras: str) -> dict[str, Requirement]:
    """Name → requirement, of the package and of ``extras``."""
    texts = [*PROJECT["dependencies"]]
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return {
        canonicalize_name(requirement.name): requirement for requirement in map(Requirement, texts)
    }


def stages() -> list[str]:
    """The commands of .ci/run, in order."""
    return re.findall(r"^stage \w+ (.+)$", CI, re.MULTILINE)


def test_one_version():
    assert PROJECT["version"] == bertft.__version__
    assert f"## [{bertft.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def imported(file: Path) -> set[str]:
    """The top-level names that ``file`` imports, wherever in it."""
    actual = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            actual |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            actual.add((node.module or "").partition(".")[0])
    return actual


def test_what_is_imported_is_declared():
    # type checkers bring _typeshed; no module of this name exists
    not_packages = sys.stdlib_module_names | {"bertft", "_typeshed"}
    foreign = set().union(*map(imported, SOURCES)) - not_packages
    of = packages_distributions()
    extras = set(requirements("tracking", "export", "tune", "clean", "cross-validation")) - set(
        requirements()
    )
    names = set()
    for name in foreign:  # mlflow comes in two packages that both bring the module
        givers = {canonicalize_name(name) for name in of.get(name, [name])}
        names.add(min(givers & {*requirements(), *extras} or givers))
    assert names - extras == set(requirements())


def test_trackers_are_extras_and_tensorboard_is_tested():
    assert set(requirements("tracking")) >= {*TRACKERS}
    assert "tensorboard" in requirements("test")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    code = (
        "import sys; from hatchling.build import build_sdist, build_wheel;"
        "build_wheel(sys.argv[1]); build_sdist(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, check=True, timeout=900)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_ships_the_package_and_its_configuration(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (entry,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "bertft = bertft.cli:main" in wheel.read(entry).decode()
    package = (file for file in (ROOT / "bertft").rglob("*") if "__pycache__" not in file.parts)
    conf = {f"bertft/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "conf").rglob("*.*")}
    code = {file.relative_to(ROOT).as_posix() for file in package if file.is_file()}
    plugin = {f"hydra_plugins/bertft_halving/{name}.py" for name in ("__init__", "halving_sweeper")}
    assert "bertft/conf/train.yaml" in conf
    assert names == conf | code | plugin


def test_a_wheel_can_be_made_from_the_sdist(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names >= {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "bertft/cli/app.py",
        "conf/train.yaml",
    }
    assert names >= {"bertft/samples/ner/train.jsonl", "tools/make_samples/__init__.py"}


def test_the_installed_package_finds_its_own_configuration(built, tmp_path):
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(tmp_path)
    code = f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        from bertft.config.registry import conf_dir; print(conf_dir())
        from hydra_plugins.bertft_halving import halving_sweeper; print(halving_sweeper.__file__)
        from bertft.cli.app import main; sys.exit(main(["train", "method=prefix", "--cfg", "job"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(map(str.strip, code.splitlines()))],
        cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder, sweeper, config = done.stdout.split("\n", 2)
    assert Path(folder) == tmp_path / "bertft" / "conf"
    assert Path(sweeper).is_relative_to(tmp_path / "hydra_plugins")
    assert "name: prefix" in config


@pytest.mark.slow
def test_the_wheel_runs_in_a_new_environment_outside_the_checkout(built, tmp_path):
    """pip installs the wheel alone; the dependencies are those of the running environment."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=900)
    (packages,) = (tmp_path / "venv").glob("[Ll]ib/**/site-packages")
    folders = [folder for folder in map(Path, sys.path) if folder.name.endswith("-packages")]
    (packages / "dependencies.pth").write_text("\n".join(map(str, folders)), encoding="utf-8")
    (scripts,) = {file.parent for file in (tmp_path / "venv").glob("*/activate")}
    (tmp_path / "empty").mkdir()
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME")
    } | {"BERTFT_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [scripts / words[0], *words[1:]], cwd=tmp_path / "empty", env=env,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built[0])
    installed = Path(run("python", "-c", "import bertft; print(bertft.__file__)").strip())
    assert packages in installed.parents
    assert (installed.parent / "conf" / "train.yaml").is_file()
    assert (installed.parent / "samples" / "sentiment" / "train.jsonl").is_file()
    assert run("bertft", "--version").strip() == f"bertft {bertft.__version__}"
    assert "doctor" in run("bertft", "--help")
    run("bertft", "train", "model=tiny", "data=sample", "trainer.max_steps=2", "hydra.run.dir=run")
    assert (tmp_path / "empty" / "run" / "report.html").is_file()
    run("bertft", "init")
    assert "name: lora" in run("bertft", "train", "config=bertft.yaml", "--cfg", "job")
    run("bertft", "merge", "run", "merged")
    assert (tmp_path / "empty" / "merged" / "model.safetensors").is_file()


def test_readme_opens_with_the_two_commands():
    assert COMMAND_LINES[:2] == [
        'pip install -e ".[demo]" && bertft train',
        'pip install -e ".[test]" && pytest',
    ]
    assert {"demo", "test"} <= set(PROJECT["optional-dependencies"])
    assert PROJECT["scripts"]["bertft"] == "bertft.cli:main"


def test_ci_runs_the_linters_and_then_the_command_of_readme():
    install, tests = COMMAND_LINES[1].split(" && ")
    commands = stages()
    assert commands[1] == install, "right after the environment is made"
    assert commands[-1] == tests
    assert {command.split()[0] for command in commands[2:-1]} == {"ruff", "mypy", "lint-imports"}
    assert {"ruff", "mypy", "import-linter", "pytest"} <= set(requirements("test"))
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_pre_commit_pins_linters_that_the_test_extra_allows():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} == {"ruff", "mypy", "lint-imports"}
    extra = requirements("test")
    pinned = [text for hook in hooks for text in hook.get("additional_dependencies", ())]
    assert pinned
    for requirement in map(Requirement, pinned):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert extra[requirement.name].specifier.contains(pin.version)


def test_ci_ends_with_the_status_of_the_first_stage_that_fails():
    function = re.search(r"^stage\(\).*?^}$", CI, re.MULTILINE | re.DOTALL)
    assert function is not None
    script = (
        f"set -euo pipefail\n{function[0]}\nstage a true\nstage b bash -c 'exit 5'\nstage c true"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=900)
    assert done.returncode == 5
    assert "a: status 0" in done.stdout
    assert "b: status 5" in done.stdout
    assert "c:" not in done.stdout


TABLE = re.findall(r"^\| `(bertft [^`]+)` \|", README, re.MULTILINE)
OURS = [*bertft_commands(README), *TABLE]


@pytest.mark.parametrize("line", OURS)
def test_readme_s_commands_are_right(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_command(line, tmp_path)


def test_readme_shows_every_command_and_every_method():
    assert {line.split("bertft ")[1].split()[0] for line in TABLE} == set(COMMAND_CONFIGS)
    table = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert table == set(find_presets("method"))
    for group, file in (("model", "settings.md"), ("data", "data.md")):
        page = (ROOT / "docs" / file).read_text(encoding="utf-8")
        missing = [
            name for name in find_presets(group) if name != "tiny" and f"{name}`" not in page
        ]
        assert missing == ["files"] * (group == "data")


# Short files with at most one importer that are files of their own nevertheless.
_SHORT_FILES = (
    "bertft.__main__",  # python -m bertft
    "bertft.cli.commands.",  # one file per command, imported by the name of the command
)


@pytest.fixture(scope="module")
def import_graph() -> grimp.ImportGraph:
    """All imports of bertft, also those inside functions and below TYPE_CHECKING."""
    return grimp.build_graph("bertft", cache_dir=None)


def test_type_checkers_find_the_types_of_the_package():
    assert (ROOT / "bertft" / "py.typed").is_file()


def test_a_file_is_neither_long_nor_a_fragment(import_graph):
    """A long file holds several ideas; a short one with a single importer is a part of that one."""
    lengths = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): len(
            file.read_text(encoding="utf-8").splitlines()
        )
        for file in SOURCES
        if file.name != "__init__.py"
    }
    assert len(lengths) > 50
    assert not {name for name, lines in lengths.items() if lines > 500}
    fragments = {
        name
        for name, lines in lengths.items()
        if lines < 40 and len(import_graph.find_modules_that_directly_import(name)) < 2
    }
    assert not {name for name in fragments if not name.startswith(_SHORT_FILES)}


def test_no_module_imports_itself_through_others(import_graph):
    imports = {
        # The root package has the version, which many modules read; it imports the API on demand.
        module: import_graph.find_modules_directly_imported_by(module) - {"bertft"}
        for module in import_graph.modules
    }
    graphlib.TopologicalSorter(imports).prepare()  # CycleError names the modules of a cycle
