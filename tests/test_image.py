"""The image without an engine: its Dockerfile linted and read, its commands run outside of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bertft

ROOT = Path(bertft.__file__).parents[1]
if not (ROOT / "Dockerfile").is_file():
    pytest.skip("the project's files lie only in a checkout", allow_module_level=True)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXT = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:[^\\\n]|\\\n)+)$", TEXT, re.MULTILINE)


def of(name: str) -> list[str]:
    """What the instructions of this name say, in order."""
    return [result.replace("\\\n", " ") for kind, result in INSTRUCTIONS if kind == name]


def copied() -> dict[str, str]:
    """Source → folder in the image."""
    return {source: words[-1] for words in map(str.split, of("COPY")) for source in words[:-1]}


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for result in of("ENV") for word in shlex.split(result))


def test_a_linter_has_nothing_to_say():
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        pytest.skip("needs hadolint, which the extra test brings where there is a wheel of it")
    done = subprocess.run(
        [linter, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=900
    )
    assert (done.returncode, done.stdout) == (0, "")
    wrong = subprocess.run(
        [linter, "-"], input="FROM python\nRUN pip install x\n", capture_output=True, text=True
    )
    assert wrong.returncode == 1 and "DL3006" in wrong.stdout, "it looks"


def test_all_that_is_copied_is_there_and_let_through():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert set(copied()) == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied())
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"} <= set(copied())


def test_it_runs_as_a_plain_user_who_may_write_where_it_writes():
    (user,) = of("USER")
    made = next(result for result in of("RUN") if "useradd" in result)
    assert user == "1000" and f"--uid {user} " in made and "install -d -m 1777" in made
    writable = made.partition("-m 1777")[2].split()
    for folder in (*json.loads(of("VOLUME")[0]), *of("WORKDIR")):
        assert folder in writable
    assert all(
        Path(environment()[name]).parents[0].as_posix() in writable
        for name in ("HF_HOME", "BERTFT_CACHE")
    )


def test_another_base_and_cpu_wheels_are_build_arguments():
    arguments = dict(line.split("=", 1) for line in of("ARG"))
    assert arguments["BASE"].startswith("python:3.11") and of("FROM") == ["${BASE}"]
    (torch,) = (result for result in of("RUN") if " torch==" in result)
    assert arguments["TORCH_INDEX"] == "" and torch.startswith('PIP_INDEX_URL="${TORCH_INDEX}" pip')


def test_it_pins_what_the_package_needs():
    extras = PROJECT["optional-dependencies"]
    needed = {
        canonicalize_name(requirement.name)
        for requirement in map(Requirement, PROJECT["dependencies"])
    }
    texts = (*extras["sweep"], *extras["demo"], *PROJECT["dependencies"])
    declared = {
        canonicalize_name(requirement.name): requirement for requirement in map(Requirement, texts)
    }
    pins = dict(re.findall(r"([\w-]+)==([\d.]+)", TEXT))
    assert needed <= set(pins)
    for name, pin in pins.items():
        assert declared[name].specifier.contains(pin), f"{name}=={pin} is not {declared[name]}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Where the package lies that the image installs, from what is copied into it alone."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("image")
    for source, work_folder in copied().items():
        file, target = ROOT / source, folder / work_folder.strip("/")
        if file.is_dir():
            shutil.copytree(file, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(exist_ok=True)
            shutil.copy(file, target)
    (command,) = (result for result in of("RUN") if "/src" in result)
    assert command.startswith("pip install --no-deps /src")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--target", folder / "site", folder / "src"],
        check=True, timeout=900, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    return folder / "site"


@pytest.fixture
def container(installed, tmp_path):
    """Run the entry point with the image's environment, its folders below ``tmp_path``."""
    (tmp_path / "work").mkdir()
    variables = {
        name: f"{tmp_path}{value}" if value.startswith("/") else value
        for name, value in environment().items()
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        (entry,) = map(json.loads, of("ENTRYPOINT"))
        return subprocess.run(
            [sys.executable, installed / "bin" / entry[0], *entry[1:], *words],
            cwd=tmp_path / "work", capture_output=True, text=True, timeout=900,
            env={**os.environ, **variables, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip

    return run


def test_without_a_word_it_shows_help(container):
    (words,) = map(json.loads, of("CMD"))
    done = container(*words)
    assert done.returncode == 0, done.stderr
    assert f"bertft {bertft.__version__}" in done.stdout and "bertft train" in done.stdout


@pytest.mark.slow
def test_the_command_of_the_docs_trains_in_its_folders(container, tmp_path):
    page = (ROOT / "docs" / "gpus.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^docker run .*$", page, re.MULTILINE)
    words = shlex.split(line)
    words = words[words.index("bertft") + 1 :]
    rows = "".join(f"a {word} film {n},{word}\n" for n in range(20) for word in ("good", "bad"))
    (tmp_path / "work" / "reviews.csv").write_text(f"text,label\n{rows}")
    small = ("model=tiny", "trainer.max_steps=4", "report=false", "trainer.threads=1", "quiet=true")
    done = container(*words, *small)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("work/outputs/train/*/*/metrics.json"))) == 1
    assert (tmp_path / "cache" / "rows").is_dir(), "tokenised rows lie in the volume"
