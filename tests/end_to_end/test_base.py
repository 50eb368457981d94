"""What a run rests on: its base is recorded, kept where it cannot be had again, and verified."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import QUICK, answers, read, run_bertft, write_classes, write_task

LINES = '{"text": "the film was good"}\n{"text": "a bad plot, song 3"}\n'


def scores(folder) -> list[float]:
    return [
        answer["score"] for answer in answers(run_bertft("predict", f"run={folder}", stdin=LINES))
    ]


@pytest.fixture
def saved_base(work_dir) -> Path:
    """A pretrained folder: random weights that a run wrote."""
    write_task(work_dir, "classification")
    words = ("data=files", "data.train=train.csv", "model=tiny", "trainer.max_steps=1")
    assert run_bertft("train", *words, "hydra.run.dir=first").status == 0
    return Path(shutil.copytree(work_dir / "first" / "base", work_dir / "pretrained"))


def test_a_moved_run_takes_its_random_base_along(copied, work_dir):
    run = copied("classification", "method=lora")
    expected = scores(run)
    moved = work_dir / "moved" / "deeper"
    moved.parent.mkdir()
    run.rename(moved)
    assert run_bertft("eval", f"run={moved}", "hydra.run.dir=scored").status == 0
    validation = read(work_dir / "scored" / "metrics.json")["validation"]
    assert validation == read(moved / "metrics.json")["validation"]
    assert scores(moved) == expected
    assert run_bertft("merge", f"run={moved}", "out=merged").status == 0


@pytest.mark.parametrize("method", ["lora", "svd_lora", "full"])
def test_a_run_as_base_is_merged_and_kept(copied, work_dir, method):
    first = copied("classification", f"method={method}")
    data = write_task(work_dir, "pair")
    words = ("train", *QUICK[1:], *data, f"model.path={first}")
    assert run_bertft(*words, "hydra.run.dir=second").status == 0
    second = work_dir / "second"
    content = read(second / "manifest.json")["base"]
    assert content["kind"] == "run" and content["load"] == "base" and content["name"] == str(first)

    # What it rests on is the first run with its updates folded in, as merge writes it.
    assert run_bertft("merge", f"run={first}", "out=merged").status == 0
    from safetensors.torch import load_file

    merged = load_file(work_dir / "merged" / "model.safetensors")
    remaining = load_file(second / "base" / "model.safetensors")
    assert {f"bert.{name}" for name in remaining} < set(merged)
    assert all(merged[f"bert.{name}"].equal(tensor) for name, tensor in remaining.items())
    untrained = load_file(first / "base" / "model.safetensors")
    assert any(not untrained[name].equal(tensor) for name, tensor in remaining.items())

    shutil.rmtree(first)  # it needs the first one no more
    assert run_bertft("eval", f"run={second}", "hydra.run.dir=scored").status == 0
    validation = read(work_dir / "scored" / "metrics.json")["validation"]
    assert validation == read(second / "metrics.json")["validation"]
    result = run_bertft("train", "resume=second", "trainer.epochs=3")
    assert result.status == 0 and read(second / "metrics.json")["train"]["steps"] == 24, result


def test_a_run_with_a_prefix_is_no_base(trained, work_dir):
    run = trained("classification", "method=prefix")
    result = run_bertft("train", *QUICK[1:], *write_task(work_dir, "pair"), f"model.path={run}")
    assert result.refused and "has a prefix, which" in result.err
    assert not list(work_dir.glob("outputs/train/*/*"))


def test_another_base_is_refused(saved_base, work_dir):
    data = ("data=files", "data.train=train.csv", "model=minilm", "model.path=pretrained")
    assert run_bertft("train", *data, "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    assert not (work_dir / "run" / "base").exists()
    expected = scores("run")
    weights = saved_base / "model.safetensors"
    before = weights.read_bytes()

    changed = bytearray(before)
    changed[-1] ^= 1
    weights.write_bytes(changed)
    for words in (["eval", "run=run"], ["predict", "run=run"], ["merge", "run=run", "out=out"],
                  ["train", "resume=run", "trainer.max_steps=3"]):  # fmt: skip
        result = run_bertft(*words, stdin=LINES)
        assert result.refused and "have changed since the run was started" in result.err, result

    saved_base.rename(work_dir / "elsewhere")
    result = run_bertft("predict", "run=run", stdin=LINES)
    assert result.refused and "is missing" in result.err and str(saved_base) in result.err
    saved_base.mkdir()
    result = run_bertft("predict", "run=run", stdin=LINES)
    assert result.refused and "sha256 none" in result.err

    shutil.rmtree(saved_base)
    (work_dir / "elsewhere").rename(saved_base)
    weights.write_bytes(before)
    assert scores("run") == expected


def test_a_base_that_was_damaged_in_the_run_is_refused(copied):
    run = copied("classification", "method=lora")
    weights = run / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    result = run_bertft("eval", f"run={run}")
    assert result.refused and "have changed since the run was started" in result.err
    shutil.rmtree(run / "base")
    result = run_bertft("eval", f"run={run}")
    assert result.refused and "is missing" in result.err


@pytest.mark.parametrize("name", ["adapter.safetensors", "bertft.json", "config.json"])
def test_a_damaged_best_is_never_used(copied, name):
    run = copied("classification", "method=lora")
    file = (run / "checkpoints" / "best").resolve() / name
    file.write_bytes(file.read_bytes() + b" ")
    for words in (["eval"], ["predict"], ["merge", "out=out"]):
        result = run_bertft(*words, f"run={run}", stdin=LINES)
        assert result.refused and f"damaged: {name}" in result.err, result


def test_a_manifest_that_was_edited_is_reported(copied):
    import json

    run = copied("classification", "method=lora")
    manifest = read(run / "manifest.json")
    for changed, expected_text in (
        ({**manifest, "labels": ["pos", "neg"]}, "but manifest.json has"),
        ({**manifest, "base": {"name": "x"}}, "has no valid 'base' entry"),
    ):
        (run / "manifest.json").write_text(json.dumps(changed))
        result = run_bertft("predict", f"run={run}", stdin=LINES)
        assert result.refused and expected_text in result.err, result


def test_a_start_that_was_cut_off_can_be_made_again(work_dir):
    """Its base is already in place, its manifest is not."""
    from bertft.utils import failpoints

    write_classes(work_dir / "a.csv", 40, seed=1)
    words = ("train", "data=files", "data.train=a.csv", "model=tiny", "trainer.max_steps=2")

    def stop(name):
        if name == "create config.yaml":
            raise KeyboardInterrupt

    with failpoints.install_hook(stop):
        assert run_bertft(*words, "hydra.run.dir=run").status == 130
    assert (work_dir / "run" / "base" / "model.safetensors").is_file()
    before = (work_dir / "run" / "base" / "model.safetensors").read_bytes()
    assert run_bertft(*words, "hydra.run.dir=run").status == 0
    assert (work_dir / "run" / "base" / "model.safetensors").read_bytes() == before
    assert run_bertft("eval", "run=run", "hydra.run.dir=scored").status == 0


def test_a_head_of_the_base_keeps_its_meaning(trained, work_dir):
    """With its classes in another order a run begins with the base's answers, not their reverse."""
    run = trained("classification", "method=lora")
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    words = (
        *QUICK[1:-1], "data=files", f"data.train={run.parent / 'train.csv'}", "model.path=merged",
        "data.labels=[pos,neg]", "trainer.max_steps=1", "trainer.learning_rate=1e-12",
        "trainer.precision=fp32",
    )  # fmt: skip
    result = run_bertft("train", *words, "hydra.run.dir=second")
    assert result.status == 0
    assert "another order (neg, pos): its outputs are reordered" in " ".join(result.out.split())

    def of_pos(folder):
        return [
            answer["scores"]["pos"]
            for answer in answers(run_bertft("predict", f"run={folder}", stdin=LINES))
        ]

    assert of_pos("second") == pytest.approx(of_pos("merged"), abs=1e-5)
    manifest = read(work_dir / "second" / "manifest.json")
    assert manifest["labels"] == ["pos", "neg"]


@pytest.mark.parametrize("kind", ["merged", "onto its own"])
def test_a_head_of_the_base_for_a_number_is_kept(trained, work_dir, kind):
    """Weights and bias: a run begins with the base's answers, not with the mean of its targets."""
    run = trained("regression", "method=lora")
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    train = run.parent / "train.csv"
    if kind == "merged":  # targets far from the base's
        lines = train.read_text(encoding="utf-8").splitlines()
        moved = [
            lines[0],
            *(f"{line.rpartition(',')[0]},{100 + n}" for n, line in enumerate(lines[1:])),
        ]
        train = work_dir / "moved.csv"
        train.write_text("\n".join(moved) + "\n", encoding="utf-8")
    words = (
        *QUICK[1:-1], "data=files", "data.task=regression", f"data.train={train}",
        "model.path=merged", "trainer.max_steps=1", "trainer.learning_rate=1e-12",
        "trainer.precision=fp32",
    )  # fmt: skip
    result = run_bertft("train", *words, "hydra.run.dir=second")
    assert result.status == 0 and "a regression head: it is kept" in " ".join(result.out.split())
    assert scores("second") == pytest.approx(scores("merged"), abs=1e-5)


def test_a_base_that_contradicts_itself_is_refused_for_its_head_alone(trained, work_dir):
    import json

    run = trained("classification", "method=lora")
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    shutil.copytree(run / "base", work_dir / "encoder")
    words = (
        "train", *QUICK[1:-1], "data=files", f"data.train={run.parent / 'train.csv'}",
        "trainer.max_steps=1",
    )  # fmt: skip
    for name, status in (("merged", 2), ("encoder", 0)):
        file = work_dir / name / "config.json"
        label2id = {"neg": 1, "pos": 0}
        id2label = {"0": "neg", "1": "pos"}
        file.write_text(json.dumps({**read(file), "id2label": id2label, "label2id": label2id}))
        result = run_bertft(*words, f"model.path={name}", f"hydra.run.dir=of_{name}")
        assert result.status == status, result
        assert ("label2id gives this name to output 1" in result.err) is (status == 2)
    for words in (
        ["predict"],
        ["eval", "data=files", f"data.validation={run.parent / 'test.csv'}"],
    ):
        result = run_bertft(*words, "run=merged", stdin=LINES)
        assert result.refused and "merged/config.json: id2label names output 0 'neg'" in result.err
