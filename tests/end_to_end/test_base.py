"""What a run rests on: its base is recorded, kept where it cannot be had again, and verified."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import QUICK, answers, read, say, write_classes, write_task

LINES = '{"text": "the film was good"}\n{"text": "a bad plot, song 3"}\n'


def scores(folder) -> list[float]:
    return [each["score"] for each in answers(say("predict", f"run={folder}", stdin=LINES))]


@pytest.fixture
def saved_base(place) -> Path:
    """A pretrained folder: random weights that a run wrote."""
    write_task(place, "classification")
    words = ("data=files", "data.train=train.csv", "model=tiny", "trainer.max_steps=1")
    assert say("train", *words, "hydra.run.dir=first").status == 0
    return Path(shutil.copytree(place / "first" / "base", place / "pretrained"))


def test_a_moved_run_takes_its_random_base_along(copied, place):
    run = copied("classification", "method=lora")
    expected = scores(run)
    moved = place / "moved" / "deeper"
    moved.parent.mkdir()
    run.rename(moved)
    assert say("eval", f"run={moved}", "hydra.run.dir=scored").status == 0
    validation = read(place / "scored" / "metrics.json")["validation"]
    assert validation == read(moved / "metrics.json")["validation"]
    assert scores(moved) == expected
    assert say("merge", f"run={moved}", "out=merged").status == 0


@pytest.mark.parametrize("method", ["lora", "svd_lora", "full"])
def test_a_run_as_base_is_merged_and_kept(copied, place, method):
    first = copied("classification", f"method={method}")
    data = write_task(place, "pair")
    words = ("train", *QUICK[1:], *data, f"model.path={first}")
    assert say(*words, "hydra.run.dir=second").status == 0
    second = place / "second"
    told = read(second / "manifest.json")["base"]
    assert told["kind"] == "run" and told["load"] == "base" and told["name"] == str(first)

    # What it rests on is the first run with its updates folded in, as merge writes it.
    assert say("merge", f"run={first}", "out=merged").status == 0
    from safetensors.torch import load_file

    merged = load_file(place / "merged" / "model.safetensors")
    kept = load_file(second / "base" / "model.safetensors")
    assert {f"bert.{name}" for name in kept} < set(merged)
    assert all(merged[f"bert.{name}"].equal(tensor) for name, tensor in kept.items())
    untrained = load_file(first / "base" / "model.safetensors")
    assert any(not untrained[name].equal(tensor) for name, tensor in kept.items())

    shutil.rmtree(first)  # it needs the first one no more
    assert say("eval", f"run={second}", "hydra.run.dir=scored").status == 0
    validation = read(place / "scored" / "metrics.json")["validation"]
    assert validation == read(second / "metrics.json")["validation"]
    said = say("train", "resume=second", "trainer.epochs=3")
    assert said.status == 0 and read(second / "metrics.json")["train"]["steps"] == 24, said


def test_a_run_with_a_prefix_is_no_base(trained, place):
    run = trained("classification", "method=prefix")
    said = say("train", *QUICK[1:], *write_task(place, "pair"), f"model.path={run}")
    assert said.refused and "has a prefix, which" in said.err
    assert not list(place.glob("outputs/train/*/*"))


def test_another_base_is_refused(saved_base, place):
    data = ("data=files", "data.train=train.csv", "model=minilm", "model.path=pretrained")
    assert say("train", *data, "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    assert not (place / "run" / "base").exists()
    expected = scores("run")
    weights = saved_base / "model.safetensors"
    before = weights.read_bytes()

    changed = bytearray(before)
    changed[-1] ^= 1
    weights.write_bytes(changed)
    for words in (["eval", "run=run"], ["predict", "run=run"], ["merge", "run=run", "out=out"],
                  ["train", "resume=run", "trainer.max_steps=3"]):  # fmt: skip
        said = say(*words, stdin=LINES)
        assert said.refused and "have changed since the run was started" in said.err, said

    saved_base.rename(place / "elsewhere")
    said = say("predict", "run=run", stdin=LINES)
    assert said.refused and "is missing" in said.err and str(saved_base) in said.err
    saved_base.mkdir()
    said = say("predict", "run=run", stdin=LINES)
    assert said.refused and "sha256 none" in said.err

    shutil.rmtree(saved_base)
    (place / "elsewhere").rename(saved_base)
    weights.write_bytes(before)
    assert scores("run") == expected


def test_a_base_that_was_damaged_in_the_run_is_refused(copied):
    run = copied("classification", "method=lora")
    weights = run / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    said = say("eval", f"run={run}")
    assert said.refused and "have changed since the run was started" in said.err
    shutil.rmtree(run / "base")
    said = say("eval", f"run={run}")
    assert said.refused and "is missing" in said.err


@pytest.mark.parametrize("name", ["adapter.safetensors", "bertft.json", "config.json"])
def test_a_damaged_best_is_never_used(copied, name):
    run = copied("classification", "method=lora")
    file = (run / "checkpoints" / "best").resolve() / name
    file.write_bytes(file.read_bytes() + b" ")
    for words in (["eval"], ["predict"], ["merge", "out=out"]):
        said = say(*words, f"run={run}", stdin=LINES)
        assert said.refused and f"damaged: {name}" in said.err, said


def test_a_manifest_that_was_edited_is_told(copied):
    import json

    run = copied("classification", "method=lora")
    manifest = read(run / "manifest.json")
    for changed, part in (
        ({**manifest, "labels": ["pos", "neg"]}, "but manifest.json has"),
        ({**manifest, "base": {"name": "x"}}, "has no valid 'base' entry"),
    ):
        (run / "manifest.json").write_text(json.dumps(changed))
        said = say("predict", f"run={run}", stdin=LINES)
        assert said.refused and part in said.err, said


def test_a_start_that_was_cut_off_can_be_made_again(place):
    """Its base is already in place, its manifest is not."""
    from bertft.utils import failpoints

    write_classes(place / "a.csv", 40, seed=1)
    words = ("train", "data=files", "data.train=a.csv", "model=tiny", "trainer.max_steps=2")

    def stop(name):
        if name == "create config.yaml":
            raise KeyboardInterrupt

    with failpoints.install_hook(stop):
        assert say(*words, "hydra.run.dir=run").status == 130
    assert (place / "run" / "base" / "model.safetensors").is_file()
    before = (place / "run" / "base" / "model.safetensors").read_bytes()
    assert say(*words, "hydra.run.dir=run").status == 0
    assert (place / "run" / "base" / "model.safetensors").read_bytes() == before
    assert say("eval", "run=run", "hydra.run.dir=scored").status == 0


def test_a_head_of_the_base_keeps_its_meaning(trained, place):
    """With its classes in another order a run begins with the base's answers, not their reverse."""
    run = trained("classification", "method=lora")
    assert say("merge", f"run={run}", "out=merged").status == 0
    words = (
        *QUICK[1:-1], "data=files", f"data.train={run.parent / 'train.csv'}", "model.path=merged",
        "data.labels=[pos,neg]", "trainer.max_steps=1", "trainer.learning_rate=1e-12",
        "trainer.precision=fp32",
    )  # fmt: skip
    said = say("train", *words, "hydra.run.dir=second")
    assert said.status == 0
    assert "another order (neg, pos): its outputs are reordered" in " ".join(said.out.split())

    def of_pos(folder):
        return [
            each["scores"]["pos"] for each in answers(say("predict", f"run={folder}", stdin=LINES))
        ]

    assert of_pos("second") == pytest.approx(of_pos("merged"), abs=1e-5)
    manifest = read(place / "second" / "manifest.json")
    assert manifest["labels"] == ["pos", "neg"]


@pytest.mark.parametrize("kind", ["merged", "onto its own"])
def test_a_head_of_the_base_for_a_number_is_kept(trained, place, kind):
    """Weights and bias: a run begins with the base's answers, not with the mean of its targets."""
    run = trained("regression", "method=lora")
    assert say("merge", f"run={run}", "out=merged").status == 0
    train = run.parent / "train.csv"
    if kind == "merged":  # targets far from the base's
        lines = train.read_text(encoding="utf-8").splitlines()
        moved = [
            lines[0],
            *(f"{line.rpartition(',')[0]},{100 + n}" for n, line in enumerate(lines[1:])),
        ]
        train = place / "moved.csv"
        train.write_text("\n".join(moved) + "\n", encoding="utf-8")
    words = (
        *QUICK[1:-1], "data=files", "data.task=regression", f"data.train={train}",
        "model.path=merged", "trainer.max_steps=1", "trainer.learning_rate=1e-12",
        "trainer.precision=fp32",
    )  # fmt: skip
    said = say("train", *words, "hydra.run.dir=second")
    assert said.status == 0 and "a head for a number: it is kept" in " ".join(said.out.split())
    assert scores("second") == pytest.approx(scores("merged"), abs=1e-5)


def test_a_base_that_contradicts_itself_is_refused_for_its_head_alone(trained, place):
    import json

    run = trained("classification", "method=lora")
    assert say("merge", f"run={run}", "out=merged").status == 0
    shutil.copytree(run / "base", place / "encoder")
    words = (
        "train", *QUICK[1:-1], "data=files", f"data.train={run.parent / 'train.csv'}",
        "trainer.max_steps=1",
    )  # fmt: skip
    for name, status in (("merged", 2), ("encoder", 0)):
        file = place / name / "config.json"
        label2id = {"neg": 1, "pos": 0}
        id2label = {"0": "neg", "1": "pos"}
        file.write_text(json.dumps({**read(file), "id2label": id2label, "label2id": label2id}))
        said = say(*words, f"model.path={name}", f"hydra.run.dir=of_{name}")
        assert said.status == status, said
        assert ("label2id gives that name to output 1" in said.err) is (status == 2)
    for words in (
        ["predict"],
        ["eval", "data=files", f"data.validation={run.parent / 'test.csv'}"],
    ):
        said = say(*words, "run=merged", stdin=LINES)
        assert said.refused and "merged/config.json: id2label names output 0 'neg'" in said.err
