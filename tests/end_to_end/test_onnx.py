"""``bertft export format=onnx``: a graph that answers as the run does, without torch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from small_runs import answers, read, run_bertft

import bertft
from bertft.errors import UsageError
from bertft.pipeline.merged_folder import THRESHOLD_KEY

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TOLERANCE = 1e-5
RATE = "trainer.learning_rate=3e-2"  # so that a graph without the updates is off by much
RUNS = {
    "classification": ("method=lora", RATE, "tune_threshold=true"),
    "token_classification": ("method=svd_lora", RATE),
    "question_answering": ("method=lora", RATE),
}
TEXTS = {
    "classification": [("the film was superb, book 12",), ("the meal was horrid, room 3",)],
    "token_classification": [("Ada went to London",), ("Nobody",)],
    "question_answering": [("Who wrote it?", "It was Ada who wrote it, in London."), ("Who?", "I")],
}
ALONE = """
import sys
code = open(sys.argv[1], encoding="utf-8").read()
sys.modules["torch"] = None
exec(code)
assert not [name for name in sys.modules if name.startswith("bertft")]
"""


# What the graph is made of: the run itself, the merged folder, the exported adapter.
FROM = {"classification": "run", "token_classification": "merged", "question_answering": "adapter"}


@pytest.fixture(scope="module")
def graphs(trained, tmp_path_factory):
    """``graphs(task)``: run, the graph's folder, the merged one, the output of the export."""
    made = {}

    def get(task):
        if task not in made:
            run, folder = trained(task, *RUNS[task]), tmp_path_factory.mktemp("onnx")
            words = {"run": f"run={run}", "merged": f"run={folder / 'merged'}"}
            words["adapter"] = f"adapter={folder / 'adapter'}"
            assert run_bertft("merge", f"run={run}", f"out={folder / 'merged'}").status == 0
            if FROM[task] == "adapter":
                assert run_bertft("export", f"run={run}", f"out={folder / 'adapter'}").status == 0
            result = run_bertft(
                "export", words[FROM[task]], "format=onnx", f"out={folder / 'graph'}"
            )
            made[task] = (run, folder / "graph", folder / "merged", result)
        return made[task]

    return get


@pytest.fixture(params=RUNS)
def graph(request, graphs):
    """The task, and what ``graphs`` has of it."""
    return request.param, *graphs(request.param)


def test_it_states_what_it_wrote_and_how_far_off_it_is(graph):
    task, _, folder, _, result = graph
    assert result.status == 0 and result.err == "", result
    form = r"wrote an ONNX graph of (\S+) MB into \S+\nmax \|Δlogit\| (\S+) on (\d+) (\w+) rows"
    size, change, rows, kind = re.match(form, result.out).groups()
    assert float(size) == pytest.approx((folder / "model.onnx").stat().st_size / 1e6, abs=0.06)
    assert float(change) <= TOLERANCE and int(rows) >= 24
    assert kind == ("validation" if FROM[task] == "run" else "sample")
    assert {"README.md", "config.json", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    heads = {"classification": "SequenceClassification"}
    head = heads.get(task, task.title().replace("_", ""))
    assert read(folder / "config.json")["architectures"] == [f"BertFor{head}"]


def test_the_threshold_is_in_its_configuration_and_in_its_card(graphs):
    run, folder, merged, _ = graphs("classification")
    tuned = read(run / "metrics.json")["calibration"]["threshold"]
    for path in (folder, merged):
        assert read(path / "config.json")[THRESHOLD_KEY] == tuned
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"probabilities[1] >= {tuned!r}" in card


def test_onnxruntime_gives_the_merged_model_s_logits(graph):
    """All texts at once, padded, and each alone."""
    task, _, folder, merged, _ = graph
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    names = [model_input.name for model_input in session.get_inputs()]
    architecture = read(folder / "config.json")["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(merged).eval()
    texts = TEXTS[task]
    for rows in (texts, *([text] for text in texts)):
        encoded = tokenizer(*map(list, zip(*rows, strict=True)), padding=True, return_tensors="np")
        actual = session.run(None, {name: encoded[name] for name in names})
        with torch.no_grad():
            out = model(**{name: torch.from_numpy(encoded[name]) for name in encoded})
        real = encoded["attention_mask"].astype(bool)
        for output, logits in zip(session.get_outputs(), actual, strict=True):
            remaining = slice(None) if task == "classification" else real
            expected = out[output.name].numpy()[remaining]
            np.testing.assert_allclose(logits[remaining], expected, atol=TOLERANCE)
            assert np.ptp(expected) > 0.05, "a model that learnt nothing proves nothing"


def test_the_card_s_lines_run_without_torch(graph):
    _, _, folder, _, _ = graph
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: onnx" in card and "before and after exporting" in card
    (folder.parent / "code.py").write_text(
        re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "code.py"], cwd=folder.parent, capture_output=True,
        text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def _numbers(value):
    """All numbers of nested predictions, in order, and the rest of it."""
    if isinstance(value, dict):
        value = [item for pair in value.items() for item in pair]
    if isinstance(value, list):
        pairs = [_numbers(item) for item in value]
        return [n for numbers, _ in pairs for n in numbers], [rest for _, rest in pairs]
    return ([value], None) if isinstance(value, float) else ([], value)


def test_it_predicts_as_the_merged_folder_does(graph, monkeypatch, work_dir):
    task, _, folder, merged, _ = graph
    names = ("question", "context") if task == "question_answering" else ("text",)
    rows = [dict(zip(names, texts, strict=True)) for texts in TEXTS[task]]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    actual = answers(run_bertft("predict", f"run={folder}", stdin=content))
    expected = answers(run_bertft("predict", f"run={merged}", stdin=content))
    (numbers, rest), (expected_numbers, expected_rest) = _numbers(actual), _numbers(expected)
    assert rest == expected_rest and numbers == pytest.approx(expected_numbers, abs=1e-4)
    model = bertft.load(folder)
    assert model.predict(rows) == actual and "kind='ONNX graph'" in repr(model)
    for words, expected_text in (
        (("predict", folder, "device=cuda"), "device: cuda is not supported by an ONNX graph"),
        (("predict", folder, "precision=bf16"), "precision: bf16 is not supported by an ONNX"),
        (("export", f"run={folder}", "format=onnx", "out=x"), "only eval and predict support"),
    ):
        result = run_bertft(*words, stdin=content)
        assert result.refused and expected_text in result.err, result
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"needs the package onnxruntime.*bertft\[export\]"):
        bertft.load(folder)


def test_a_prefix_is_refused_and_nothing_written(trained, work_dir):
    run = trained("classification", "method=prefix")
    result = run_bertft("export", f"run={run}", "format=onnx", "out=graph")
    assert result.refused and "the run has a prefix, which an ONNX graph" in result.err
    assert list(work_dir.iterdir()) == []
    assert run_bertft("merge", f"run={run}", "prefix=separate", "out=merged").status == 0
    again = run_bertft("export", "run=merged", "format=onnx", "out=graph")
    assert again.refused and "has a prefix" in again.err
    assert not (work_dir / "graph").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_one_line_that_names_the_extra(
    trained, work_dir, monkeypatch, package
):
    monkeypatch.setattr("bertft.export.onnx_graph.open_from_settings", None)  # reported before
    monkeypatch.setitem(sys.modules, package, None)
    run = trained("classification", *RUNS["classification"])
    result = run_bertft("export", f"run={run}", "format=onnx", "out=graph")
    assert result.refused and len(result.err.strip().splitlines()) == 1, result
    assert f"needs the package {package}" in result.err and "bertft[export]" in result.err
    assert list(work_dir.iterdir()) == []


def test_a_graph_that_would_answer_otherwise_is_not_written(graphs, trained, work_dir, monkeypatch):
    """That of a run with another seed."""
    _, folder, _, _ = graphs("classification")
    monkeypatch.setattr(
        "bertft.export.onnx_graph.write_onnx_graph",
        lambda out, *_: shutil.copy(folder / "model.onnx", out),
    )
    run = trained("classification", "method=lora", "seed=1")
    result = run_bertft("export", f"run={run}", "format=onnx", "out=graph")
    assert result.status == 3 and "the ONNX graph would give different logits" in result.err, result
    assert list(work_dir.iterdir()) == []
