"""Training in a notebook: HTML tables and one progress output, not thousands of lines."""

from __future__ import annotations

from pathlib import Path

import pytest

import bertft

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(bertft.__file__).parents[1]
TRAIN = """
import sys
sys.path.insert(0, {root!r})
import bertft
texts = [("so good", "pos"), ("so dull", "neg")] * 40
rows = [{{"text": f"{{text}} {{n}}", "label": label}} for n, (text, label) in enumerate(texts)]
overrides = ["trainer.max_steps=60", "trainer.evaluate_every=20", "report=false"]
run = bertft.train(rows, model="tiny", output_dir="run", overrides=overrides)
"""
PREDICT = """
import pandas
new = pandas.DataFrame({"text": ["so good 1", "so dull 2"]})
pandas.DataFrame(bertft.load("run").predict(new))["label"].isin(["pos", "neg"]).tolist()
"""


@pytest.mark.slow
def test_training_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # without ipywidgets
    codes = (TRAIN.format(root=str(ROOT)), "run", PREDICT)
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = notebook.cells[0].outputs
    assert len(outputs) < 15
    assert sum(str(output.get("text", "")).count("\n") for output in outputs) < 40
    pages = [output.data["text/html"] for output in outputs if "data" in output]
    (progress,) = [page for page in pages if page.startswith("<progress")]
    assert 'value="60" max="60"' in progress and progress.count("<tr") == 4
    for title in ("Data", "Parameters", "Metrics at step"):
        assert any(page.startswith("<table>") and title in page for page in pages)
    (result,) = notebook.cells[1].outputs
    assert "<th>metric</th><th>validation</th>" in result.data["text/html"]
    (predictions,) = notebook.cells[2].outputs
    assert predictions.data["text/plain"] == "[True, True]"
    assert not [
        output for cell in cells for output in cell.outputs if output.get("name") == "stderr"
    ]
