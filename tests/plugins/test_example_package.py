"""A package of its own adds one component of each kind, and a broken one is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from bertft.config import registry
from bertft.config.method import _MethodSettings
from bertft.config.registry import METHODS, READERS, RESERVED_METHOD_SETTINGS, TASKS, check_plugins
from bertft.errors import UsageError

HERE = Path(__file__).parent
EXAMPLE = HERE / "example"
QUICK = (
    "model=tiny", "trainer.threads=1", "trainer.precision=fp32", "trainer.batch_size=8",
    "trainer.evaluate_every=2", "trainer.log_every=1", "quiet=true",
)  # fmt: skip


def install(folder: Path, package: Path, name: str | None = None) -> None:
    """What ``pip install --target`` leaves of a package's metadata."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = name or project["name"]
    info = folder / f"{name.replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


def write_reviews(file: Path, rows: int) -> Path:
    words = ("awful", "poor", "fair", "good", "superb")
    lines = [f"{1 + n % 5} :: the film was {words[n % 5]}, take {n}" for n in range(rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("example")


@pytest.fixture(scope="module")
def results(work_dir):
    """Every command of the story, in one process that has the package on its path."""
    install(work_dir / "site", EXAMPLE)
    train, check = (
        write_reviews(work_dir / "a.reviews", 40),
        write_reviews(work_dir / "b.reviews", 16),
    )
    data = [
        "data=files", "data.task=stars", f"data.train={train}", f"data.validation={check}",
        "data.metric=max_error", "trainer.optimizer=sign_momentum",
        "trainer.optimizer_settings.momentum=0.8", *QUICK,
    ]  # fmt: skip
    both = [*data, "method=lora", "method.scaling.targets=[query,value]"]
    run, alone = work_dir / "run", work_dir / "alone"
    commands = {
        "train": ["train", *both, "trainer.max_steps=4", f"hydra.run.dir={run}"],
        "resume": ["train", f"resume={run}", "trainer.max_steps=6"],
        "resume changed": [
            "train", *both, "trainer.optimizer_settings.momentum=0.7", f"resume={run}",
        ],
        "eval": ["eval", f"run={run}", f"hydra.run.dir={work_dir / 'eval'}"],
        "merge": ["merge", f"run={run}", f"out={work_dir / 'merged'}"],
        "predict": ["predict", f"run={run}", f"input={check}"],
        "merged": ["predict", f"run={work_dir / 'merged'}", f"input={check}"],
        "export": ["export", f"run={run}", f"out={work_dir / 'adapter'}"],
        "alone": [
            "train", *data, "method=scaling", "trainer.max_steps=2", f"hydra.run.dir={alone}",
            "report=false",
        ],
        "adapter": ["export", f"run={alone}", f"out={work_dir / 'scales'}"],
        "help": ["train", "--help", "all"],
        "task": ["train", *data, "data.task=starz"],
        "optimizer": ["train", *data, "trainer.optimizer=sign_momentun"],
        "setting": ["train", *data, "trainer.optimizer_settings.momentun=0.5"],
        "beta": ["train", *data, "trainer.beta1=0.5"],
        "rule": ["train", *data, "method=scaling", "method.scaling.targets=[]"],
        "ending": ["train", *data, f"data.train={write_reviews(work_dir / 'c.reviewz', 8)}"],
    }  # fmt: skip
    path = os.pathsep.join([str(work_dir / "site"), str(EXAMPLE)])
    environment = {**os.environ, "PYTHONPATH": path, "BERTFT_CACHE": str(work_dir / "cache")}
    done = subprocess.run(
        [sys.executable, HERE / "drive.py"], input=json.dumps(list(commands.values())),
        capture_output=True, text=True, env=environment, cwd=work_dir, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


def test_it_trains(results, work_dir):
    assert results["train"]["status"] == 0, results["train"]
    lines = [json.loads(line) for line in (work_dir / "run/metrics.jsonl").open(encoding="utf-8")]
    first = next(line for line in lines if line["event"] == "step")
    assert first["learning_rates"]["scaling"] == 0.01
    assert first["measures"] == {"scaling_steps": 1.0}
    manifest = json.loads((work_dir / "run/manifest.json").read_text(encoding="utf-8"))
    assert manifest["packages"]["bertft-example"] == "1.0"
    assert manifest["task"] == "stars" and manifest["metric"] == "max_error"
    components = manifest["parameters"]["parts"]
    assert components["scaling"]["trainable"] > 0 and components["low_rank"]["trainable"] > 0
    assert "Factors" in (work_dir / "run/report.html").read_text(encoding="utf-8")


def test_the_lower_is_the_better(results, work_dir):
    result = json.loads((work_dir / "run/metrics.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (work_dir / "run/metrics.jsonl").open(encoding="utf-8")]
    values = [line["metrics"]["max_error"] for line in lines if line["event"] == "evaluated"]
    assert result["best"]["metric"] == "max_error" and len(values) >= 3
    assert result["best"]["value"] == min(values)


def test_it_resumes(results, work_dir):
    assert results["resume"]["status"] == 0, results["resume"]
    state = json.loads((work_dir / "run/checkpoints/last/state.json").read_text(encoding="utf-8"))
    assert '"steps": 6' in json.dumps(state), "the method's own state went on"


def test_it_resumes_under_its_own_settings_of_the_optimizer(results):
    assert results["resume changed"]["status"] == 2, results["resume changed"]
    content = "trainer.optimizer_settings.momentum: the run has 0.8, not 0.7"
    assert content in results["resume changed"]["err"]


def test_it_is_evaluated(results, work_dir):
    assert results["eval"]["status"] == 0, results["eval"]
    result = json.loads((work_dir / "eval/metrics.json").read_text(encoding="utf-8"))
    trained = json.loads((work_dir / "run/metrics.json").read_text(encoding="utf-8"))
    assert result["validation"]["max_error"] == trained["best"]["value"]
    assert "exact_stars" in result["validation"]


@pytest.mark.parametrize("first", ["low_rank", "scaling"])
def test_two_methods_on_one_layer_fold_exactly(monkeypatch, first):
    """Whichever wraps the layer first: ΔW and then l, or l and then ΔW."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import torch
    from bertft_example.components import ScalingSettings
    from bertft_example.scaling import build as build_scaling

    from bertft.config.method_components.low_rank import LowRankConfig
    from bertft.methods.low_rank import build as build_low_rank

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4)).double()
    weights = [layer.weight.detach().clone() for layer in model]
    low_rank = build_low_rank(
        LowRankConfig(targets="all_linear", dropout=0.0, alpha=4.0), SimpleNamespace(rank=2), None
    )
    scaling = build_scaling(ScalingSettings(targets=["all_linear"]), None, None)
    components = [low_rank, scaling] if first == "low_rank" else [scaling, low_rank]
    for component in components:
        component.attach(model)
    values = dict(model.named_parameters())
    with torch.no_grad():
        for component in components:
            for group in component.param_groups(model):
                for name, parameter in group.parameters:
                    assert values[name] is parameter
                    parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(3, 6, dtype=torch.float64)
    expected = model(x)
    factors = {
        name: tensor.detach().clone()
        for name, tensor in model.named_parameters()
        if ".adapter." in name
    }
    for number, component in enumerate(components):
        assert component.fold(model) == 2, number
    assert [type(layer) for layer in model] == [torch.nn.Linear, torch.nn.Linear]
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    # The first layer's weight, by hand: s = alpha / rank = 2.
    one = {name.split(".")[-1]: factor for name, factor in factors.items() if name.startswith("0.")}
    update, scale = 2 * one["B"] @ one["A"], one["scale"][:, None]
    by_hand = scale * (weights[0] + update) if first == "low_rank" else scale * weights[0] + update
    torch.testing.assert_close(model[0].weight.detach(), by_hand, rtol=1e-12, atol=1e-12)


def test_it_merges_with_lora_on_the_same_layers(results, work_dir):
    assert results["merge"]["status"] == 0, results["merge"]
    answers = [[json.loads(line) for line in results[name]["out"].splitlines()]
               for name in ("predict", "merged")]  # fmt: skip
    assert [len(answer) for answer in answers] == [16, 16], results
    for run, merged in zip(*answers, strict=True):
        assert run["stars"] in range(1, 6)
        assert merged["score"] == pytest.approx(run["score"], abs=1e-4)
    card = (work_dir / "merged/README.md").read_text(encoding="utf-8")
    assert 'rate("A text to rate.")' in card


def test_it_exports(results, work_dir):
    assert results["export"]["status"] == 2
    assert "one kind of adapter, and the run has low_rank and scaling" in results["export"]["err"]
    assert results["adapter"]["status"] == 0, results["adapter"]
    config = json.loads((work_dir / "scales/adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "SCALING" and len(config["target_modules"]) > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("task", "data.task"), ("task", "did you mean 'stars'?"),
        ("optimizer", "did you mean 'sign_momentum'?"), ("setting", "momentun: unknown setting"),
        ("setting", "Did you mean 'momentum'?"), ("beta", "trainer.beta1"),
        ("rule", "method.scaling.targets: is empty"), ("ending", "Did you mean .reviews?"),
    ],
)  # fmt: skip
def test_mistakes_name_what_is_close(results, name, message):
    assert results[name]["status"] == 2, results[name]
    assert message.lower() in results[name]["err"].lower(), results[name]["err"]


def test_help_lists_it(results):
    page = results["help"]["out"]
    assert "method.scaling.targets" in page and "Factors of keys, values" in page
    assert "adamw | sign_momentum" in page and "stars" in page


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """``installed(name, group, target)``: a package with one entry point, found by this process."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install_one(name: str, point: str, group: str, target: str) -> None:
        info = tmp_path / f"{name}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[bertft.{group}]\n{point} = {target}\n")
        registry._discover_plugins.cache_clear()

    yield install_one
    monkeypatch.undo()
    registry._discover_plugins.cache_clear()


HOLDER = """
import dataclasses
from bertft.config.component_specs import MethodSpec, MetricSpec, ReaderSpec, TaskSpec
TASK = TaskSpec(task_class="no_such_module:Task")
READER = ReaderSpec(extensions=(".csv",), read="m:f")
PLAIN = dataclasses.make_dataclass("Plain", [("a", int, 1)])
METHOD = MethodSpec(settings=PLAIN, build="m:f")
METRIC = MetricSpec()
"""


@pytest.mark.parametrize(
    ("point", "group", "target", "message"),
    [
        ("odd", "tasks", "not_there:X", "ModuleNotFoundError: No module named 'not_there'"),
        ("odd", "tasks", "holder_of_all:NONE", "AttributeError"),
        (
            "odd",
            "methods",
            "holder_of_all:TASK",
            "it is a TaskSpec, not a bertft.config.component_specs.M",
        ),
        (
            "regression",
            "tasks",
            "holder_of_all:TASK",
            "'regression' has the same name as one",
        ),
        (
            "odd",
            "readers",
            "holder_of_all:READER",
            "the extension .csv is already registered by bertft",
        ),
        ("odd", "methods", "holder_of_all:METHOD", "its setting a must be defined with"),
        ("rank", "methods", "holder_of_all:METHOD", "method.rank is a setting of every method"),
        ("odd", "metrics", "holder_of_all:METRIC", "compute is missing"),
        ("a-b", "tasks", "holder_of_all:TASK", "a name can contain only letters"),
    ],
)
def test_a_package_that_cannot_be_used(installed, tmp_path, point, group, target, message):
    (tmp_path / "holder_of_all.py").write_text(HOLDER, encoding="utf-8")
    sys.modules.pop("holder_of_all", None)
    installed("strange", point, group, target)
    with pytest.raises(UsageError) as caught:
        check_plugins()
    content = str(caught.value)
    assert caught.value.status == 2 and "\n" not in content
    assert content.startswith("strange 2.0: ") and message in content, content
    assert "pip uninstall strange" in content


def test_two_packages_of_one_name(installed, tmp_path):
    (tmp_path / "holder_of_all.py").write_text(HOLDER, encoding="utf-8")
    sys.modules.pop("holder_of_all", None)
    installed("one", "odd", "tasks", "holder_of_all:TASK")
    installed("two", "odd", "tasks", "holder_of_all:TASK")
    with pytest.raises(UsageError, match=r"two 2\.0: its task 'odd' has the same name as one"):
        check_plugins()


def test_what_computes_is_broken(installed, tmp_path):
    (tmp_path / "holder_of_all.py").write_text(HOLDER, encoding="utf-8")
    sys.modules.pop("holder_of_all", None)
    installed("late", "odd", "tasks", "holder_of_all:TASK")
    check_plugins()
    with pytest.raises(UsageError, match=r"late 2\.0: tasks 'odd' cannot be loaded from no_such"):
        TASKS.implementation("odd", "task_class")


def test_the_command_line_reports_it(tmp_path):
    info = tmp_path / "strange-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[bertft.methods]\nodd = not_there:X\n")
    done = subprocess.run(
        [sys.executable, "-m", "bertft", "train"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: strange 2.0: methods 'odd' cannot be loaded")


def test_names_that_no_method_may_have():
    assert frozenset(_MethodSettings.__dataclass_fields__) == RESERVED_METHOD_SETTINGS


def test_every_ending_has_one_reader_per_task():
    """Others with the same ending detect their files by content, or are for other tasks."""
    for tasks in [(), *((task,) for task in TASKS.names())]:
        endings = [
            ending
            for spec in READERS.specs().values()
            for ending in spec.extensions
            if spec.matches is None and spec.tasks == tasks
        ]
        assert len(set(endings)) == len(endings)


@pytest.mark.parametrize("kind", [METHODS, TASKS, READERS])
def test_an_unknown_name(kind):
    near = kind.names()[0]
    with pytest.raises(UsageError, match=f"unknown .*Did you mean '{near}'"):
        kind[f"{near}x"]
