"""The notebooks run from end to end, draw what they promise, and are stored with their outputs.

Each is executed once, in an empty folder, with a cell of smaller settings after the settings cell.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import bertft
from bertft.config.compose import ComposeRequest, compose_config
from bertft.config.overrides import rewrite_overrides
from bertft.config.presets import find_presets
from bertft.report.plots.theme import fonts_for, missing_characters
from bertft.utils.numbers import format_score
from tools.run_notebooks import normalize_output, stored_problems

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(bertft.__file__).parents[1]
FILES = {file.stem: file for file in sorted((ROOT / "notebooks").glob("*.ipynb"))}
SMALL: dict[str, dict[str, object]] = {
    "bert": {"model": "tiny", "rows": 48, "epochs": 2},
    "distill": {"model": "tiny", "rows": 64, "epochs": 8, "layers": 1, "every": 8},
    "sentiment": {"epochs": 1, "chinese_epochs": 6},
}
FIGURES = {
    "bert": ["curves", "spans"],
    "distill": ["compare", "heat-maps", "spectrum", "distillation"],
    "sentiment": ["english-curves", "chinese-figure"],
}


def opened(name: str) -> Any:
    return nbformat.read(FILES[name], as_version=4)


class Executed:
    """A notebook with its outputs, and the folder that it ran in."""

    def __init__(self, notebook: Any, folder: Path) -> None:
        self.cells = {cell.id: cell for cell in notebook.cells}
        (self.out,) = (folder / "outputs").iterdir()

    def printed(self, cell: str, stream: str = "stdout") -> str:
        """What a cell printed."""
        outputs = self.cells[cell].outputs
        return "".join(output.text for output in outputs if output.get("name") == stream)

    def html(self, cell: str) -> str:
        """The tables and progress bars of a cell."""
        outputs = self.cells[cell].outputs
        return "".join(output.get("data", {}).get("text/html", "") for output in outputs)

    def pictures(self, cell: str) -> list[np.ndarray]:
        """Its figures [height, width, channels]."""
        from matplotlib.image import imread

        actual = (output.get("data", {}).get("image/png") for output in self.cells[cell].outputs)
        return [imread(io.BytesIO(base64.b64decode(picture))) for picture in actual if picture]


@pytest.fixture(scope="session")
def executed(tmp_path_factory) -> Iterator[Callable[[str], Executed]]:
    """``executed(name)``, made once; a cell that fails raises its error."""
    done: dict[str, Executed] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # ipywidgets is not installed
        patch.setenv("BERTFT_CACHE", str(tmp_path_factory.getbasetemp() / "rows"))
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.delenv("MPLBACKEND", raising=False)  # the kernel's own shows figures

        def get(name: str) -> Executed:
            if name not in done:
                notebook, folder = opened(name), tmp_path_factory.mktemp(name)
                (work_folder,) = (
                    n for n, cell in enumerate(notebook.cells) if cell.id == "settings"
                )
                smaller = "\n".join(f"{key} = {value!r}" for key, value in SMALL[name].items())
                notebook.cells.insert(work_folder + 1, nbformat.v4.new_code_cell(smaller))
                place_of = {"metadata": {"path": str(folder)}}
                nbclient.NotebookClient(notebook, timeout=900, resources=place_of).execute()
                done[name] = Executed(notebook, folder)
            return done[name]

        yield get


def test_there_are_three():
    assert set(FILES) == set(SMALL) == set(FIGURES)


@pytest.mark.parametrize("name", FILES)
def test_it_is_stored_with_outputs_and_without_names_of_a_machine(name):
    """No error, no warning, no absolute path, no time, no large image."""
    notebook = opened(name)
    nbformat.validate(notebook)
    assert any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, cell.id
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert stored_problems(notebook) == []
    cells = {cell.id: cell for cell in notebook.cells}
    for figure in FIGURES[name]:
        assert any("image/png" in output.get("data", {}) for output in cells[figure].outputs), (
            figure
        )
    pages = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert any(page.startswith("<progress") for page in pages)
    assert any(page.startswith("<table><caption") for page in pages)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    text = FILES[name].read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"


def test_problems_of_outputs_are_found():
    """Each kind of output that should not be stored, and what ``normalize_output`` removes."""

    def problems(**output):
        return stored_problems({"cells": [{"id": "a", "outputs": [output]}]})

    stream = {"output_type": "stream", "name": "stdout"}
    assert problems(**stream, text="outputs/run") == []
    for text in ("saved in /home/me/run", "FutureWarning: old", "1:30 left", "35 rows/s"):
        assert problems(**stream, text=text), text
    assert problems(output_type="stream", name="stderr", text="note")
    assert problems(output_type="error", ename="ValueError", evalue="", traceback=[])
    image = {"image/png": "A" * 200_000}
    assert problems(output_type="display_data", data=image, metadata={})
    status = "<div><small>loss 0.2 · 35 rows/s</small></div>"
    page = f"<progress></progress> 9/9 steps, 0:12 elapsed{status}<table></table>"
    data = {"text/html": page, "text/plain": "Run('/tmp/x/outputs/run')"}
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    normalize_output(output, "/tmp/x")
    assert output["data"] == {
        "text/html": "<progress></progress> 9/9 steps<table></table>",
        "text/plain": "Run('outputs/run')",
    }


@pytest.mark.parametrize("name", FILES)
def test_it_explains_itself(name):
    """A text before each step; what a figure shows stands under it; links lead somewhere."""
    cells = opened(name).cells
    kinds = [cell.cell_type for cell in cells]
    assert kinds[0] == "markdown" and kinds.count("markdown") >= 0.35 * len(cells)
    for cell, after in pairwise(cells):
        if cell.id in FIGURES[name]:
            assert after.id == f"{cell.id}-caption" and after.source.startswith("*")
        assert ("plt.show()" in cell.source) == (cell.id in FIGURES[name])
        assert cell.source.count("\n") < 40, cell.id
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (FILES[name].parent / target).is_file(), target


@pytest.mark.parametrize("name", FILES)
def test_the_line_for_real_data_is_right(name, tmp_path, monkeypatch):
    """The comments in the settings are assignments whose words compose."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").touch()
    (cell,) = (cell for cell in opened(name).cells if cell.id == "settings")
    assert cell.metadata.tags == ["parameters"]
    assigned = {path.id for path in ast.walk(ast.parse(cell.source)) if isinstance(path, ast.Name)}
    assert assigned >= set(SMALL[name])
    lines = re.findall(r"^# [^:]+: (\w+(?:, \w+)* = .+)$", cell.source, re.MULTILINE)
    assert lines
    for line in lines:
        values: dict[str, Any] = {}
        exec(line, {}, values)
        assert set(values) <= assigned
        data, model = list(values.values())[:2]
        assert model in find_presets("model")
        is_preset = data in find_presets("data")
        words = [f"data={data}"] if is_preset else ["data=files", f"data.train={data}"]
        words = rewrite_overrides("train", [*words, f"model={model}"], False)
        compose_config(ComposeRequest("train", tuple(words)))


# The others take half a minute each.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "bert" else pytest.mark.long) for name in FILES]
)
def test_every_figure_is_drawn(name, executed):
    for cell in FIGURES[name]:
        (picture,) = executed(name).pictures(cell)
        height, width, _ = picture.shape
        colours = np.unique(picture.reshape(height * width, -1), axis=0)
        assert width > 600 and height > 200 and len(colours) > 30, cell
    notebook = executed(name)
    drawn = {cell for cell in notebook.cells if notebook.cells[cell].get("outputs")}
    assert {cell for cell in drawn if notebook.pictures(cell)} == set(FIGURES[name])
    for cell in notebook.cells:
        if "outputs" in notebook.cells[cell]:
            errors = notebook.printed(cell, "stderr").splitlines()
            if not missing_characters("好差评", fonts_for("好差评")):  # else a warning is right
                assert not errors, cell
            assert all("no installed font" in line for line in errors), cell


def test_bert_prints_the_run_s_scores_and_answers_with_words_of_the_passage(executed):
    notebook = executed("bert")
    metrics = json.loads((notebook.out / "run/metrics.json").read_text())["validation"]
    for key, value in metrics.items():
        if key != "loss":
            assert f"<td>{key}</td>" in notebook.html("result")
            assert format_score(value) in notebook.html("result"), key
    assert "<progress" in notebook.html("train")
    (passage,) = re.findall(
        r"passage = \((.*?)\n\)", notebook.cells["own-questions"].source, re.DOTALL
    )
    passage = ast.literal_eval(f"({passage})")
    lines = notebook.printed("own-answers").splitlines()
    assert len(lines) == 5
    for line in lines:
        answer = re.split(r" {2,}", line[45:].strip())[0]
        assert answer == "(no answer)" or re.sub(r" [01]\.\d\d$", "", answer) in passage
    assert (notebook.out / "run/report.html").is_file()


@pytest.mark.long
def test_distill_shows_what_the_checkpoint_keeps_and_the_teacher_next_to_the_student(executed):
    notebook = executed("distill")
    adapter = load_file(notebook.out / "svd_lora/checkpoints/best/adapter.safetensors")
    left = [np.count_nonzero(values) for name, values in adapter.items() if name.endswith(".E")]
    assert sum(left) == 4 * len(left) and min(left) < max(left), "4 on average, shared out"
    assert f"{sum(left)} triplets in {len(left)} modules" in notebook.printed("heat-maps")
    table = notebook.html("read")
    for method in ("full", "lora", "prefix", "svd_lora"):
        metrics = json.loads((notebook.out / method / "metrics.json").read_text())
        (row,) = (row for row in table.split("<tr>") if re.search(rf"<td>{method}[ <]", row))
        assert f"{metrics['parameters']['kept']:,}" in row
    taught, alone = (
        json.loads((notebook.out / name / "metrics.json").read_text())
        for name in ("taught", "alone")
    )
    sides = taught["distillation"]
    assert not alone.get("distillation")
    assert sides["student"]["parameters"] < sides["teacher"]["parameters"]
    assert f"{sides['agreement']:.1%} of validation" in notebook.printed("distillation")


@pytest.mark.long
def test_sentiment_s_merged_models_answer_as_the_runs_do(executed):
    notebook = executed("sentiment")
    rows = re.findall(r"<td>([\d.]+)</td>\s*<td>([\d.]+)</td>", notebook.html("english-eval"))
    assert len(rows) >= 3 and all(again == trained for again, trained in rows)
    result = notebook.printed("english-pipeline")
    pairs = re.findall(r"^(\w+) +0\.\d+ +(\w+) +0\.\d+$", result, re.MULTILINE)
    assert len(pairs) == 4 and all(one == other for one, other in pairs)
    assert float(re.search(r"at most (\S+) apart", result)[1]) < 1e-5
    chinese = notebook.printed("chinese-ask")
    labels = [line.split()[1] for line in chinese.splitlines() if "。" in line]
    assert labels[:4] == ["好评", "差评", "好评", "差评"]
    manifest = json.loads((notebook.out / "chinese/manifest.json").read_text())
    assert sorted(manifest["labels"]) == ["好评", "差评"]
    assert notebook.html("report").startswith("<iframe")
