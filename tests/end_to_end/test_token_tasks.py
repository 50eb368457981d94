"""Entities and masked tokens: train, eval, merge, predict, and a run that was cut off goes on."""

from __future__ import annotations

import json

import pytest
from small_runs import QUICK, answers, read, run_bertft

from bertft.utils import failpoints

LOOP = (
    *QUICK[:-1], "trainer.max_steps=6", "trainer.evaluate_every=2", "quiet=true", "method=lora",
    "method.low_rank.dropout=0.2",
)  # fmt: skip


@pytest.fixture
def words(work_dir):
    """The words that train on each task."""
    text = "the film was good , the book was dull and unbelievably long\n\n"
    (work_dir / "notes.txt").write_text(
        "".join(f"{number} {text}" for number in range(40)), encoding="utf-8"
    )
    return {
        "token_classification": (
            "data=sample_ner", "data.max_train_rows=40", "data.max_validation_rows=24"
        ),
        "masked_lm": ("data=text", "data.train=notes.txt", "data.whole_words=true"),
    }  # fmt: skip


INPUTS = {
    "token_classification": ['{"text": "Anna Miller lives in Oslo."}', '{"text": "好 film"}'],
    "masked_lm": ['{"text": "the [MASK] was [MASK]"}', '{"text": "no mask"}'],
}


@pytest.mark.parametrize("task", INPUTS)
def test_from_training_to_answers(task, words, work_dir):
    assert run_bertft("train", *LOOP, *words[task], "hydra.run.dir=run").status == 0
    result = run_bertft("eval", "run=run", "hydra.run.dir=again")
    assert result.status == 0, result
    assert (
        read(work_dir / "again/metrics.json")["validation"]
        == (read(work_dir / "run/metrics.json")["validation"])
    )
    result = run_bertft("merge", "run=run", "out=merged")
    assert result.status == 0, result
    stdin = "\n".join(INPUTS[task]) + "\n"
    of_run = answers(run_bertft("predict", "run=run", "precision=fp32", stdin=stdin))
    merged = answers(run_bertft("predict", "run=merged", stdin=stdin))
    assert json.dumps(_rounded(merged)) == json.dumps(_rounded(of_run))
    assert len(of_run) == 2
    if task == "masked_lm":
        assert [len(answer["masks"]) for answer in of_run] == [2, 0]
        result = run_bertft(
            "train", *QUICK[1:-1], "model.path=run", "data=sample_ner", "data.max_train_rows=8",
            "data.max_validation_rows=8", "trainer.max_steps=1", "quiet=true", "hydra.run.dir=next",
        )  # fmt: skip
        assert result.status == 0, result
        assert read(work_dir / "next/manifest.json")["base"]["kind"] == "run"


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize("task", INPUTS)
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(task, words, work_dir):
    assert run_bertft("train", *LOOP, *words[task], "hydra.run.dir=whole").status == 0

    def stop(name):
        if name.startswith("create .step-4"):
            raise KeyboardInterrupt

    with failpoints.install_hook(stop):
        assert run_bertft("train", *LOOP, *words[task], "hydra.run.dir=cut").status == 130
    result = run_bertft("train", "resume=cut")
    assert result.status == 0, result
    for name in ("last", "best"):
        one, other = (work_dir / run / "checkpoints" / name for run in ("whole", "cut"))
        assert one.resolve().name == other.resolve().name
        file = "adapter.safetensors"
        assert (one / file).read_bytes() == (other / file).read_bytes()
    assert (
        read(work_dir / "cut/metrics.json")["best"] == read(work_dir / "whole/metrics.json")["best"]
    )


def test_mistakes_are_reported_at_once(work_dir):
    result = run_bertft("train", "data=sample", "data.scheme=bio", "data.mlm_probability=0.5")
    assert result.status == 2 and result.out == ""
    assert "data.scheme: is not supported by data.task=classification" in result.err
    assert "data.mlm_probability: is not supported by data.task=classification" in result.err
    (work_dir / "a.txt").write_text("a b\n" * 30, encoding="utf-8")
    words = ("data=text", "data.train=a.txt", "trainer.max_steps=1", "report=false")
    result = run_bertft("train", *words, "model=tiny", "hydra.run.dir=run")
    assert (
        result.status == 0 and "has no head for masked_lm: it is initialized randomly" in result.out
    )
    result = run_bertft("train", "data=text", "data.train=a.txt", "data.labels=[a,b]", "model=tiny")
    assert result.refused and "data.labels: is not supported by data.task=masked_lm" in result.err


def test_a_head_for_tags_without_names_is_not_scored(words, work_dir):
    assert (
        run_bertft("train", *LOOP, *words["token_classification"], "hydra.run.dir=run").status == 0
    )
    assert run_bertft("merge", "run=run", "out=merged").status == 0
    config = read(work_dir / "merged/config.json")
    tags = list(config["id2label"].values())
    placeholders = {str(number): f"LABEL_{number}" for number in range(len(tags))}
    config = {**config, "id2label": placeholders, "label2id": None}
    (work_dir / "merged/config.json").write_text(json.dumps(config), encoding="utf-8")
    rows = [{"words": ["Anna", "sings"], "tags": [tags.index("B-person"), 0]}]
    (work_dir / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    command = (
        "eval", "run=merged", "data=files", "data.task=token_classification",
        "data.validation=rows.jsonl", "data.text=words", "data.label=tags",
    )  # fmt: skip
    result = run_bertft(*command)
    assert result.refused and "which of them is outside of entities" in result.err, result
    named = ",".join(tags)
    result = run_bertft(*command, f"data.labels=[{named}]", "hydra.run.dir=scored")
    assert result.status == 0, result

    stdin = '{"text": "Anna"}\n'
    result = run_bertft("predict", "run=merged", stdin=stdin)
    assert result.status == 0 and "Name them in their order: labels=[O," in result.err
    result = run_bertft("predict", "run=merged", f"labels=[{named}]", stdin=stdin)
    assert result.status == 0 and "LABEL_" not in result.out + result.err
