"""Every choice of every setting is trained with, and what the run records is read by all commands.

A run of two steps for each case: train, resume to a third step, eval, merge, export, predict,
verify, report. A choice that no case names fails the test, so that a new one needs a case here or
in test_random_combinations.py. Precision is forced: together they run every method and every task
in bf16 and in fp32, whatever the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_runs import answers, read, run_bertft, write_task
from test_random_combinations import METHODS, NORMAL, TASKS, combination

from bertft.config import registry
from bertft.config.choices import QA_SCORERS, SOUPS, TAGGING_SCHEMES
from bertft.config.command_configs import COMMAND_CONFIGS, TRAINING_COMMANDS
from bertft.config.schema import iter_leaves, settings_tree
from bertft.tasks.question_answering import metrics
from bertft.tasks.token_classification.tag_schemes import PREFIXES

FEW = (
    "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=2", "quiet=true", "seed=3",
    "report=false",
)  # fmt: skip
TAGS = {
    "io": ("person", "person", "O", "place"),
    "iob1": ("I-person", "I-person", "O", "I-place"),
    "bio": ("B-person", "I-person", "O", "B-place"),
    "bios": ("B-person", "I-person", "O", "S-place"),
    "bioes": ("B-person", "E-person", "O", "S-place"),
    "biluo": ("B-person", "L-person", "O", "U-place"),
    "bmes": ("B-person", "E-person", "O", "S-place"),
}
CASES: dict[str, tuple[str, ...]] = {
    "distill": (
        "classification", "method=distill", "method.base.train=everything",
        "method.distill.cache=off", "method.distill.hidden_weight=0.5",
        "method.distill.layer_map=last", "trainer.precision=bf16", "trainer.layout=packed",
        "trainer.schedule=linear", "calibrate=temperature", "tune_threshold=true",
    ),
    "full": (
        "masked_lm", "method=full", "trainer.precision=bf16", "trainer.layout=padded",
        "data.whole_words=true", "trainer.gradient_checkpointing=true",
    ),
    "svd_lora": (
        "regression", "method=svd_lora", "method.low_rank.start=orthonormal", "pretrained",
        "trainer.precision=bf16", "trainer.layout=unpadded", "data.on_bad_row=skip",
    ),
    "lora": (
        "question_answering", "data.scorer=cmrc2018", "method=lora",
        "method.low_rank.start=principal", "method.low_rank.use_rslora=true",
        "trainer.precision=fp32", "trainer.layout=auto", "trainer.schedule=cosine",
    ),
    "bitfit": (
        "question_answering", "data.scorer=squad", "method=bitfit", "method.base.train=biases",
        "trainer.precision=fp32", "trainer.layout=packed", "trainer.schedule=constant",
        "trainer.cache_frozen=false",
    ),
    "lora_prefix": (
        "multi_label", "method=lora_prefix", "method.low_rank.start=activations", "trainer.ema=0.5",
        "method.low_rank.use_dora=true", "method.prefix.kind=key_value", "method.prefix.mlp=true",
        "method.prefix.shift_positions=true", "trainer.precision=bf16", "data.on_bad_row=error",
    ),
    "ia3": (
        "multi_label", "method=ia3", "trainer.precision=fp32", "trainer.layout=packed",
        "trainer.on_collapse=retry",
    ),
    "vera": (
        "token_classification", "method=vera", "method.rank=16", "trainer.precision=bf16",
        "trainer.on_collapse=stop",
    ),
    "svd_lora_prefix": (
        "regression", "method=svd_lora_prefix", "trainer.precision=fp32",
        "method.low_rank.start=gradient", "method.low_rank.start_batches=1",
        "trainer.layout=unpadded", "trainer.on_collapse=warn", "calibrate=conformal",
        "coverage=0.5",
    ),
    "head": (
        "token_classification", "data.scheme=auto", "data.source=sample", "method=head",
        "method.base.train=nothing", "trainer.precision=fp32", "trainer.layout=packed",
        "trainer.cache_frozen=true",
    ),
    "last_k": (
        "hub", "data.source=hub", "method=last_k", "method.base.train=last_k",
        "method.base.last_k=1", "trainer.cache_frozen=true",
        "trainer.precision=bf16", "trainer.layout=padded",
    ),
    "prefix": (
        "classification", "method=prefix", "method.prefix.kind=prompt",
        "method.distill.cache=disk", "teacher",
        "trainer.precision=fp32",
    ),
    "auto": ("pair", "method=head", "trainer.precision=auto", "trainer.cache_frozen=auto"),
}  # fmt: skip
# Given by the task and the data of a case rather than in its words.
SAID = {
    "data.task": {*registry.TASKS.names()},
    "trainer.optimizer": {"adamw"},
    "data.source": {"files"},
    # Each reader has a file of tests in tests/data, with data.format and without.
    "data.format": {*registry.READERS.names()},
    "data.scheme": {*TAGS},
    "method.low_rank.kind": {"lora", "svd_lora", "vera"},
    "model.weights": {"random", "pretrained"},
    # A function is named again for every command: test_metric_function.py uses both directions.
    "data.metric_direction": {"higher", "lower"},
}
CUDA = {("trainer.precision", "fp16")}


def given(path: str) -> set[str]:
    words = [word for case in (*CASES.values(), *METHODS.values()) for word in case]
    return {word.partition("=")[2] for word in words if word.startswith(f"{path}=")}


def test_every_choice_has_a_case():
    for leaf in iter_leaves(settings_tree("train")):
        for choice in leaf.choices or ():
            content = given(leaf.path) | SAID.get(leaf.path, set())
            assert choice in content or (leaf.path, choice) in CUDA, (
                f"{leaf.path}={choice} is in no case: add it to one"
            )
    tasks = {"classification" if case[0] in ("pair", "hub") else case[0] for case in CASES.values()}
    assert tasks == SAID["data.task"]
    assert set(TAGS) == {"io", *PREFIXES} == set(TAGGING_SCHEMES)
    assert set(metrics.SCORERS) == set(QA_SCORERS)


def test_each_method_and_each_task_runs_in_both_precisions():
    """In a case here, or in a combination of the normal run."""
    ran = {(choice, chosen[4]) for chosen in map(combination, NORMAL) for choice in chosen[1:3]}
    for task, *words in CASES.values():
        named = dict(word.partition("=")[::2] for word in words)
        ran |= {(choice, named["trainer.precision"]) for choice in (task, named["method"])}
    missing = {
        (choice, precision) for choice in (*METHODS, *TASKS) for precision in ("bf16", "fp32")
    } - ran  # fmt: skip
    assert not missing


@pytest.fixture(scope="session")
def teacher(trained):
    return trained("classification", "method=full", "model.architecture.hidden_size=32")


def write_tags(folder: Path, scheme: str) -> list[str]:
    for name in ("train", "validation"):
        sentence = zip(("Anna", "Miller", "likes", "Oslo"), TAGS[scheme], strict=True)
        lines = "".join(f"{word} {tag}\n" for word, tag in sentence)
        (folder / f"{name}.conll").write_text(f"{lines}\n" * 8, encoding="utf-8")
    return [
        "data=files", "data.task=token_classification", "data.train=train.conll",
        "data.validation=validation.conll", f"data.scheme={scheme}",
    ]  # fmt: skip


def data_of(folder: Path, task: str) -> list[str]:
    """The words that name rows of ``task``."""
    if task == "masked_lm":
        lines = (f"{n} the film was good , the book dull" for n in range(24))
        (folder / "notes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return ["data=text", "data.train=notes.txt"]
    if task == "hub":
        (folder / "hub").mkdir()
        rows = {
            "text": [f"{word} film" for word in ("good", "bad")] * 8,
            "label": ["pos", "neg"] * 8,
        }
        for name in ("train", "validation"):
            pq.write_table(pa.table(rows), folder / "hub" / f"{name}-00000-of-00001.parquet")
        return [
            "data.name=hub", "data.sample=null", "data.hub=hub", "data.train=train",
            "data.validation=validation", "data.text=text", "data.label=label",
        ]  # fmt: skip
    short = ["data.max_length=72", "data.stride=16"] if task == "question_answering" else []
    return [*write_task(folder, task), *short]


@pytest.mark.parametrize("case", CASES)
def test_what_a_run_records_is_read_by_every_command(case, work_dir, trained, teacher, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(work_dir / "datasets"))
    task, *words = CASES[case]
    data = data_of(work_dir, task)
    model = "model=tiny"
    if "pretrained" in words:
        words.remove("pretrained")
        result = run_bertft("merge", f"run={trained('classification', 'method=lora')}", "out=base")
        assert result.status == 0, result
        model = "model.path=base"
    if "teacher" in words:
        words.remove("teacher")
        words.append(f"method.distill.teacher={teacher}")
    if "method=distill" in words:
        words.append(f"method.distill.teacher={teacher}")
    run = work_dir / "run"

    def done(*line, stdin=""):
        result = run_bertft(*line, stdin=stdin)
        assert result.status == 0, (line, result)
        return result

    done("train", model, *FEW, *data, *words, f"hydra.run.dir={run}")
    done("train", f"resume={run}", "trainer.max_steps=3")
    done("eval", f"run={run}", "hydra.run.dir=scores")
    metrics = read(run / "metrics.json")
    assert read(work_dir / "scores/metrics.json")["validation"] == metrics["validation"], (
        "eval of a run computes as its training did"
    )
    done("verify", f"run={run}")
    done("report", f"run={run}")
    assert (run / "report.html").is_file()
    prefix = read_method(run).get("prefix")
    done("merge", f"run={run}", "out=merged", *(["prefix=separate"] if prefix else []))
    text = {"text": "a good film", "one": "a good film", "two": "a bad one"}
    text |= {"question": "who came?", "context": "Anna came at noon."}
    stdin = json.dumps(text) + "\n"
    columns = ["text=[one,two]"] if task == "pair" else []
    of_run = answers(done("predict", f"run={run}", "precision=fp32", *columns, stdin=stdin))
    merged = answers(done("predict", "run=merged", *columns, stdin=stdin))
    assert rounded(merged) == rounded(of_run)
    answers(done("predict", "run=merged", "precision=bf16", *columns, stdin=stdin))
    if (read_method(run).get("low_rank") or case == "ia3") and not prefix:
        result = run_bertft("export", f"run={run}", "out=adapter")
        assert result.status == 0, result
        named = ("adapter=adapter", f"precision={'bf16' if 'lora' in case else 'fp32'}")
        answers(done("predict", *named, stdin=stdin))


@pytest.mark.parametrize("scheme", TAGS)
def test_every_scheme_of_tags(scheme, work_dir):
    words = ["train", "model=tiny", *FEW, "method=head", *write_tags(work_dir, scheme)]
    for line in ([*words, "hydra.run.dir=run"], ["eval", "run=run", "hydra.run.dir=scores"]):
        result = run_bertft(*line)
        assert result.status == 0, (line, result)
    expected = read(work_dir / "run/metrics.json")["validation"]
    assert read(work_dir / "scores/metrics.json")["validation"] == expected
    assert yaml.safe_load((work_dir / "run/config.yaml").read_text())["data"]["scheme"] == scheme


# What the commands that read a folder are called with, for a run and an adapter of each task.
READING: dict[str, tuple[tuple[str, ...], ...]] = {
    "classification": (
        ("merge", "run=run", "out=merged", "prefix=error"),
        ("export", "run=run", "out=adapter", "format=peft"),
        ("eval", "run=run", "split=train", "precision=auto", "hydra.run.dir=scores"),
        ("predict", "run=merged", "on_bad_row=skip", "precision=auto"),
        ("predict", "adapter=adapter", "task=classification"),
        ("merge", "adapter=adapter", "task=classification", "out=again"),
    ),
    "multi_label": (
        ("export", "run=run", "out=adapter"),
        ("eval", "run=run", "split=validation", "precision=fp32", "hydra.run.dir=scores"),
        ("predict", "adapter=adapter", "task=multi_label", "precision=bf16", "on_bad_row=error"),
        ("merge", "adapter=adapter", "task=multi_label", "out=again"),
    ),
    "regression": (
        ("export", "run=run", "out=adapter"),
        ("eval", "run=run", "split=test", "precision=bf16", "hydra.run.dir=scores"),
        ("predict", "adapter=adapter", "task=regression", "precision=fp32"),
        ("merge", "adapter=adapter", "task=regression", "out=again"),
    ),
}
ELSEWHERE = {
    ("eval", "precision=fp16"), ("predict", "precision=fp16"),  # CUDA
    ("merge", "prefix=separate"),  # the cases above
    ("export", "format=onnx"),  # test_onnx.py
    *((command, f"how={how}") for command in ("merge", "export") for how in SOUPS),  # test_soup.py
    *(("init", f"task={name}") for name in registry.TASKS.names()),  # tests/cli/test_init.py
    *(("inspect", f"output={name}") for name in ("text", "json")),  # tests/cli/test_inspect.py
    *(("inspect", f"model.weights={name}") for name in ("pretrained", "random")),
    *(("predict", f"format={name}") for name in registry.READERS.names()),  # tests/data
    *(("export", f"task={task}") for task in READING),  # read as merge reads it
}  # fmt: skip


def test_every_choice_of_other_commands_is_tried():
    requested = {(line[0], word) for lines in READING.values() for line in lines for word in line}
    for command in set(COMMAND_CONFIGS) - {*TRAINING_COMMANDS}:
        for leaf in iter_leaves(settings_tree(command)):
            if leaf.path.startswith("data."):  # the same as in train
                continue
            for choice in leaf.choices or ():
                assert (command, f"{leaf.path}={choice}") in requested | ELSEWHERE


@pytest.mark.parametrize("task", READING)
def test_every_choice_of_other_commands(task, copied):
    copied(task, "method=lora").rename("run")
    for line in READING[task]:
        result = run_bertft(*line, stdin='{"text": "a good film"}\n' * (line[0] == "predict"))
        assert result.status == 0, (line, result)


def read_method(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["method"]


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
