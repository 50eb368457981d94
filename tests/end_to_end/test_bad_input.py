"""What cannot be trained on: one message, status 2, no traceback, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import read, run_bertft, write_classes, write_csv


@pytest.fixture
def files(work_dir) -> Path:
    """Good and bad files in the folder of the test."""
    write_classes(work_dir / "train.csv", 40, seed=1)
    write_csv(
        work_dir / "one class.csv", ("text", "label"), [(f"good {n}", "pos") for n in range(9)]
    )
    write_csv(work_dir / "numbers.csv", ("text", "label"), [(f"t {n}", n / 7) for n in range(30)])
    write_csv(
        work_dir / "names.csv", ("text", "label"), [(f"t {n}", "ab"[n % 2]) for n in range(30)]
    )
    write_csv(work_dir / "other.csv", ("text", "label"), [("good", "great"), ("bad", "neg")])
    write_csv(
        work_dir / "bad rows.csv", ("text", "label"), [("good", "pos"), ("", "neg"), ("b", "n")]
    )
    (work_dir / "empty.csv").write_text("")
    (work_dir / "header.csv").write_text("text,label\n")
    (work_dir / "latin.csv").write_bytes("text,label\ncaf\xe9,pos\nbad,neg\n".encode("latin-1"))
    (work_dir / "nul.csv").write_bytes(b"text,label\na\0b,pos\nbad,neg\n")
    (work_dir / "broken.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": \n')
    (work_dir / "notes.docx").write_text("text")
    return work_dir


DATA = "data.train=train.csv"
CASES = {
    "the column of the text": ([DATA, "data.text=txt"],
                               ["column 'txt' not found", "Did you mean 'text'"]),
    "the column of the label": ([DATA, "data.label=lable"], ["data.label", "Did you mean 'label'"]),
    "the position": ([DATA, "data.text=7", "data.label=1"], ["numbered from 0 to 1"]),
    "the file": (["data.train=trian.csv"], ["no such file", "Did you mean 'train.csv'"]),
    "the folder": (["data.train=no/where.csv"], ["there is no folder no"]),
    "the ending": (["data.train=notes.docx"], ["unknown file extension .docx"]),
    "an empty file": (["data.train=empty.csv"], ["empty.csv"]),
    "a file of one line": (["data.train=header.csv"], ["header.csv", "there are no rows"]),
    "one class": (["data.train=one class.csv"], ["all rows have the label pos"]),
    "an empty validation file": ([DATA, "data.validation=empty.csv"], ["empty.csv"]),
    "an unknown label": ([DATA, "data.validation=other.csv"], ["other.csv:2", "'great'"]),
    "a task for numbers": (["data.train=names.csv", "data.task=regression"], ["not numbers"]),
    "a task for classes": (["data.train=numbers.csv"], ["not classes", "data.task=regression"]),
    "an encoding": (["data.train=latin.csv"], ["latin.csv:2", "data.encoding"]),
    "an unknown encoding": ([DATA, "data.encoding=utf8x"], ["unknown encoding 'utf8x'"]),
    "a NUL byte": (["data.train=nul.csv"], ["nul.csv:2", "NUL byte"]),
    "bad rows": (["data.train=bad rows.csv"], ["bad rows.csv:3: empty text", "on_bad_row=skip"]),
    "no JSON": (["data.train=broken.jsonl"], ["broken.jsonl:2", "not JSON"]),
    "too long": ([DATA, "data.max_length=513"], ["513 tokens are more", "data.max_length=512"]),
    "too short": (
        [DATA, "data.max_length=4", "data.text=[text,label]", "data.label=1"],
        ["4 tokens are too few: the special tokens leave 1 for text"],
    ),
    "a metric": ([DATA, "data.metric=acuracy"], ["Did you mean 'accuracy'"]),
    "layers": ([DATA, "method=lora", "method.low_rank.targets=[qeury]"], ["qeury"]),
    "too many layers": ([DATA, "method=last_k", "method.base.last_k=3"], ["has 2 layers"]),
    "too high a rank": (
        [DATA, "method=svd_lora", "method.rank=64", "method.low_rank.start=orthonormal"],
        ["initial rank 96"],
    ),
    "no such model": ([DATA, "model.path=./nothing", "model.weights=pretrained"], ["./nothing"]),
    "no model in it": ([DATA, "model=minilm", "model.path=."], ["has no config.json"]),
    "a run for a base": (
        [DATA, "model=minilm", "model.path=./nothing"], ["there is no folder ./nothing"]
    ),
    "a device": ([DATA, "trainer.device=tpu"], ["'tpu' is not a device"]),
    "fp16": ([DATA, "trainer.precision=fp16", "trainer.device=cpu"], ["fp16 is not supported"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(files, case):
    words, fragments = CASES[case]
    model = () if any(word.startswith("model") for word in words) else ("model=tiny",)
    before = {path.name for path in files.iterdir()}
    result = run_bertft("train", "data=files", *model, "trainer.max_steps=2", *words)
    assert result.refused, result
    for fragment in fragments:
        assert fragment in result.err, result.err
    assert {path.name for path in files.iterdir()} - {"outputs"} == before
    assert [path for path in files.glob("outputs/train/**/*") if path.name != "train"] == []


def test_a_folder_that_was_chosen_is_left_as_it_was(files):
    (files / "base").mkdir()
    (files / "base" / "mine.txt").write_text("mine")
    before = {path.name for path in files.iterdir()}
    words = ("data=files", "model=tiny", "hydra.run.dir=.")
    for more in (["data.train=gone.csv"], [DATA, "data.max_length=513"], [DATA]):
        result = run_bertft("train", *words, *more)
        assert result.refused, result
    assert "the base of the run would replace it" in result.err
    assert {path.name for path in files.iterdir()} == before
    assert (files / "base" / "mine.txt").read_text() == "mine"


def test_bad_rows_can_be_left_out_and_are_counted(files):
    write_csv(files / "more.csv", ("text", "label"), [("good", "pos"), ("", "neg"), ("bad", "neg")])
    words = ("data=files", "data.train=more.csv", "data.validation=more.csv", "model=tiny")
    words = ("train", *words, "data.on_bad_row=skip", "trainer.max_steps=1", "hydra.run.dir=run")
    result = run_bertft(*words)
    assert result.refused and "1 of 3 rows cannot be used (1 × empty text)" in result.err, result
    assert "data.max_skipped=0.34" in result.err and "more.csv:3: empty text" in result.err
    result = run_bertft(*words, "data.max_skipped=0.34")
    line = "(more.csv): 3 rows read = 2 used + 1 skipped (1 × empty text)\n"
    assert result.status == 0 and f"train {line}validation {line}" in result.out, result
    for split in read(files / "run/manifest.json")["data"]["splits"].values():
        assert (split["read"], split["rows"], split["skipped"]) == (3, 2, {"empty text": 1})


def test_a_prefix_takes_no_room_but_a_prompt_does(files):
    words = ("data=files", DATA, "model=tiny", "trainer.max_steps=1", "method=prefix")
    assert run_bertft("train", *words, "data.max_length=512", "hydra.run.dir=run").status == 0
    more = ("method.prefix.kind=prompt", "method.prefix.length=10")
    result = run_bertft("train", *words, *more, "data.max_length=503")
    assert result.refused and "data.max_length=502" in result.err
    assert (
        run_bertft("train", *words, *more, "data.max_length=502", "hydra.run.dir=two").status == 0
    )
