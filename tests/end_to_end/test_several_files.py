"""Several files as one split, and standard input as the training file, through the commands."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

import pytest
from small_runs import QUICK, answers, opinion, read, read_lines, run_bertft, write_classes

import bertft

SHORT = (*QUICK, "trainer.max_steps=2", "trainer.epochs=null", "quiet=true")


def write_folders(folder: Path) -> None:
    """Texts as IMDB has them: a folder per class, a file per text."""
    rng = random.Random(3)
    for number in range(24):
        path = folder / ("neg", "pos")[number % 2] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(opinion(rng, bool(number % 2)) + "\n")


def test_a_run_of_several_files_is_evaluated_predicted_and_resumed(work_dir, monkeypatch):
    parts = work_dir / "parts"
    parts.mkdir()
    write_classes(parts / "a.csv", 20, 1)
    content = write_classes(work_dir / "b.csv", 20, 2).read_bytes()
    (parts / "b.csv.gz").write_bytes(gzip.compress(content))
    write_classes(work_dir / "dev.csv", 12, 3)
    result = run_bertft(
        "train", *SHORT, "data.train=parts/*.csv*", "data.validation=[dev.csv,parts/a.csv]",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert result.status == 0, result
    split = read(Path("run/manifest.json"))["data"]["splits"]
    assert split["train"]["read"] == 40 and split["validation"]["read"] == 32
    assert split["train"]["source"] == "parts/*.csv*"
    assert [Path(file).name for file in split["train"]["files"]] == ["a.csv", "b.csv.gz"]
    # From another folder, the recorded files are found again.
    (work_dir / "elsewhere").mkdir()
    monkeypatch.chdir(work_dir / "elsewhere")
    for name in ("validation", "train"):
        assert run_bertft("eval", "../run", f"split={name}", "report=false").status == 0
    result = run_bertft("train", "resume=../run", "trainer.max_steps=3", "quiet=true")
    assert result.status == 0, result
    # A file more, and the rows are others.
    shutil.copy(parts / "a.csv", parts / "c.csv")
    result = run_bertft("eval", "../run", "split=train", "report=false")
    assert result.refused and "not those that the run was trained with" in result.err
    (parts / "c.csv").write_text("text,label\ngood,pos\n ,neg\n")
    rows = answers(run_bertft(
        "predict", "../run", "input=[../parts/c.csv,../parts/b.csv.gz]", "on_bad_row=skip",
        "keep=[@file,label]",
    ))  # fmt: skip
    assert [(row["file"], row["line"]) for row in rows[:3]] == [
        ("../parts/c.csv", 2), ("../parts/c.csv", 3), ("../parts/b.csv.gz", 2),
    ]  # fmt: skip
    assert rows[1]["error"] == "empty text" and rows[2]["@file"] == "b" and len(rows) == 22
    result = run_bertft("predict", "../run", "../parts/*", "output=p.csv")
    assert result.refused and "../parts/c.csv:3: empty text" in result.err


def test_labels_from_folders(work_dir):
    write_folders(work_dir / "imdb" / "train")
    result = run_bertft(
        "train", *SHORT, "data.train=imdb/train", "data.label=@folder", "hydra.run.dir=run"
    )
    assert result.status == 0, result
    assert read(Path("run/manifest.json"))["labels"] == ["neg", "pos"]
    result = run_bertft("eval", "run", "imdb/train", "report=false", "hydra.run.dir=scores")
    assert result.status == 0 and read(Path("scores/rows.json"))["validation"]["read"] == 24
    result = run_bertft("predict", "run", "imdb", "keep=[@folder,@file]", "output=p.jsonl")
    assert result.status == 0, result
    rows = read_lines(Path("p.jsonl"))
    assert [row["@folder"] for row in rows] == ["neg"] * 12 + ["pos"] * 12
    assert rows[0]["@file"] == "0"


def test_standard_input_in_the_place_of_a_training_file(work_dir):
    """Its rows are kept in the run folder; a run that does not begin leaves nothing."""
    content = write_classes(work_dir / "a.csv", 40, 1).read_text()
    result = run_bertft("train", "-", *SHORT, "hydra.run.dir=run", stdin=content)
    assert result.status == 0, result
    assert Path("run/rows/stdin.csv").read_text() == content
    Path("run").rename("moved")
    lines = "".join(json.dumps({"text": f"text {n}", "label": n % 2}) + "\n" for n in range(40))
    result = run_bertft("train", "-", *SHORT, "hydra.run.dir=run", stdin=lines)
    assert result.status == 0 and Path("run/rows/stdin.json").read_text() == lines
    assert run_bertft("eval", "run", "report=false").status == 0
    bad = run_bertft("train", "-", *SHORT, "hydra.run.dir=bad", stdin="text,label\na,x\n ,y\n")
    assert bad.status == 2 and "stdin.csv:3: empty text" in bad.err
    assert not Path("bad/rows").exists()
    sweep = run_bertft("train", "-m", "data.train=-", "seed=0,1", *SHORT, stdin=content)
    assert sweep.refused and "standard input is not supported in a sweep" in sweep.err
    check = run_bertft("train", "-", *SHORT, "check=true", "hydra.run.dir=dry", stdin=content)
    assert check.status == 0 and not Path("dry").exists()


def test_lists_of_files_in_python(work_dir):
    for number, name in enumerate("ab"):
        write_classes(work_dir / f"{name}, {number}.csv", 20, number)
    files = [Path("a, 0.csv"), "b, 1.csv"]
    run = bertft.train(files, model="tiny", overrides=["trainer.max_steps=1"], quiet=True)
    model = bertft.load(run.path)
    assert (
        model.evaluate(files).keys()
        == model.evaluate(files, overrides=["data.max_validation_rows=5"]).keys()
    )
    with pytest.raises(bertft.errors.DataError, match="listed twice"):
        model.evaluate([files[0], files[0]])
