"""``bertft merge`` on pretrained weights: equal to the run, and of use without bertft."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_runs import answers, read, run_bertft, write_classes

METHODS = {
    "lora": ("method=lora",),
    "svd_lora": ("method=svd_lora",),
    "dora": ("method=lora", "method.low_rank.use_dora=true"),
}
# Large rates, so that a merge which forgets something is off by much.
MINILM = (
    "trainer.max_steps=10", "trainer.batch_size=8", "trainer.precision=fp32", "trainer.threads=1",
    "trainer.learning_rate=5e-3", "trainer.warmup=0", "quiet=true",
)  # fmt: skip
LABELS = ('gut "sehr", ja', "差评")  # in the order of their sorting

PLAIN = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline, logging
logging.set_verbosity_error()
texts, folders = json.load(sys.stdin)
results = {}
for folder in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    inputs = [tokenizer(text, return_tensors="pt") for text in texts]
    with torch.inference_mode():
        logits = [model(**tokens).logits[0].tolist() for tokens in inputs]
    answers = pipeline("text-classification", folder, device="cpu")(texts)
    results[folder] = {"logits": logits, "answers": answers, "labels": model.config.id2label}
assert not [name for name in sys.modules if name.startswith("bertft")]
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """Name → (run, merged folder, output of merge) of MiniLM trained by each method."""
    folder = tmp_path_factory.mktemp("minilm")
    write_classes(folder / "train.csv", 128, seed=1, names=LABELS)
    write_classes(folder / "validation.csv", 70, seed=2, names=LABELS)
    data = [f"data.{name}={folder / name}.csv" for name in ("train", "validation")]
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTFT_CACHE", str(folder / "rows"))
        for name, method in METHODS.items():
            run, out = folder / name, folder / f"{name} merged"
            result = run_bertft(
                "train", "data=files", *data, *MINILM, *method, f"hydra.run.dir={run}"
            )
            assert result.status == 0, result
            made[name] = (run, out, run_bertft("merge", f"run={run}", f"out={out}"))
    return made


@pytest.fixture(scope="module")
def texts(merged):
    run = merged["lora"][0]
    rows = (run / "check_rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["text"] for row in rows[:16]]


@pytest.fixture(scope="module")
def plain(merged, texts):
    """What transformers alone answers from the merged folders, in a process without bertft."""
    folders = [str(out) for _, out, _ in merged.values()]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN], input=json.dumps([texts, folders]),
        capture_output=True, text=True, check=False, cwd=folders[0], timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def predicted(folder, texts, *words):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    return answers(run_bertft("predict", f"run={folder}", *words, stdin=lines))


@pytest.mark.parametrize("name", METHODS)
def test_the_logits_stay(merged, name):
    _, _, result = merged[name]
    assert result.status == 0, result
    assert float(re.search(r"max \|Δlogit\| (\S+) on 64", result.out)[1]) <= 1e-5
    assert re.search(r"^folded the updates of 12 weight matrices into ", result.out)
    assert result.err == ""


@pytest.mark.parametrize("name", METHODS)
def test_plain_transformers_answer_what_predict_answers(merged, plain, texts, name):
    run, out, _ = merged[name]
    run_answers, content = predicted(run, texts), plain[str(out)]
    assert [answer["label"] for answer in run_answers] == [
        answer["label"] for answer in content["answers"]
    ]
    scores = [answer["score"] for answer in run_answers]
    np.testing.assert_allclose(
        scores, [answer["score"] for answer in content["answers"]], atol=2e-6
    )
    assert len(set(scores)) > 8, "a model that learnt nothing proves nothing"
    logits = np.array(content["logits"])
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(
        probability[:, 0], [e["scores"][LABELS[0]] for e in run_answers], atol=2e-6
    )
    assert content["labels"] == {"0": LABELS[0], "1": LABELS[1]}
    folder = predicted(out, texts)
    np.testing.assert_allclose([answer["score"] for answer in folder], scores, atol=2e-6)


def test_svd_lora_was_pruned(merged):
    counts = read(merged["svd_lora"][0] / "metrics.json")["parameters"]
    assert counts["kept"] == 8 * 12 * (384 + 384 + 1) < counts["method"]


@pytest.mark.parametrize("name", METHODS)
def test_the_folder_explains_itself(merged, name):
    run, out, _ = merged[name]
    card = (out / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert front["license"] == "apache-2.0"
    assert "# all-MiniLM-L6-v2 fine-tuned on " in card
    assert "差评" in card and "sehr" in card
    metrics = read(run / "metrics.json")
    assert f"| accuracy | {metrics['validation']['accuracy']:.4f} |" in card
    assert f"{metrics['parameters']['kept']:,}" in card
    assert "max |Δlogit|" in card
    assert read(out / "config.json")["id2label"] == {"0": LABELS[0], "1": LABELS[1]}
    assert {file.name for file in out.iterdir()} == {
        "README.md", "bertft.json", "config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


def test_a_prefix_cannot_be_folded(trained, work_dir):
    result = run_bertft(
        "merge", f"run={trained('classification', 'method=prefix')}", "out=a/b/merged"
    )
    assert result.status == 3 and result.out == "" and result.err.count("error: ") == 1
    assert "prefix=separate" in result.err
    assert not (work_dir / "a").exists()


@pytest.mark.parametrize(
    "words", [("method=svd_lora_prefix",), ("method=prefix", "method.prefix.mlp=true"),
              ("method=prefix", "method.prefix.kind=prompt")],
)  # fmt: skip
def test_but_it_can_be_next_to_it(trained, work_dir, words):
    run = trained("classification", *words)
    result = run_bertft("merge", f"run={run}", "out=merged", "prefix=separate")
    assert result.status == 0 and "the prefix is in prefix.safetensors" in result.out, result
    assert float(re.search(r"max \|Δlogit\| (\S+) on", result.out)[1]) <= 1e-5
    assert "This model needs its prefix" in (work_dir / "merged" / "README.md").read_text()

    texts = ["the film was good", "the meal was awful, song", "what a plot"]
    run_answers, folder = predicted(run, texts, "precision=fp32"), predicted("merged", texts)
    assert [answer["label"] for answer in folder] == [answer["label"] for answer in run_answers]
    scores = [[answer["score"] for answer in some] for some in (run_answers, folder)]
    np.testing.assert_allclose(*scores, atol=1e-6)

    rows = f"data.validation={run.parent / 'validation.csv'}"
    assert run_bertft("eval", "run=merged", "data=files", rows, "hydra.run.dir=scored").status == 0
    scored = read(work_dir / "scored" / "metrics.json")["validation"]
    assert run_bertft("eval", f"run={run}", "precision=fp32", "hydra.run.dir=own").status == 0
    own_scores = read(work_dir / "own" / "metrics.json")["validation"]
    assert scored == pytest.approx(own_scores, abs=1e-5)

    (work_dir / "merged" / "prefix.safetensors").unlink()
    result = run_bertft("predict", "run=merged", stdin='{"text": "good"}\n')
    assert result.refused and "prefix.safetensors" in result.err


def test_the_base_alone_would_answer_otherwise(trained, work_dir):
    """So that the test above means something: without its prefix the folder is another model."""
    run = trained("classification", "method=prefix")
    assert run_bertft("merge", f"run={run}", "out=merged", "prefix=separate").status == 0
    facts = read(work_dir / "merged" / "bertft.json")
    texts = ["the film was good", "the meal was awful, song"]
    whole = predicted("merged", texts)
    (work_dir / "merged" / "bertft.json").write_text(json.dumps({**facts, "prefix": None}))
    without_prefix = predicted("merged", texts)
    assert abs(whole[0]["score"] - without_prefix[0]["score"]) > 1e-5


def test_a_merge_that_would_answer_otherwise_writes_nothing(trained, work_dir, monkeypatch):
    from bertft.methods.low_rank import fold
    from bertft.methods.low_rank.component import LowRank

    def off(self, model):
        folded = fold.fold_updates(model)
        with torch.no_grad():
            next(iter(model.parameters())).zero_()
        return folded

    import torch

    monkeypatch.setattr(LowRank, "fold", off)
    result = run_bertft("merge", f"run={trained('classification', 'method=lora')}", "out=a/merged")
    assert result.status == 3 and result.out == "" and "max |Δlogit| = " in result.err, result
    assert list(work_dir.iterdir()) == []


def test_nan_is_no_difference_below_the_tolerance(trained, work_dir, monkeypatch):
    import torch

    from bertft.methods.low_rank.component import LowRank

    def broken(self, model):
        with torch.no_grad():
            next(iter(model.classifier.parameters())).fill_(float("nan"))
        return 1

    monkeypatch.setattr(LowRank, "fold", broken)
    result = run_bertft("merge", f"run={trained('classification', 'method=lora')}", "out=merged")
    assert result.status == 3 and list(work_dir.iterdir()) == [], result


def test_out_is_never_overwritten(trained, work_dir, monkeypatch):
    monkeypatch.setattr("bertft.export.merge.open_from_settings", None)  # it is refused before
    run = trained("classification", "method=lora")
    (work_dir / "full").mkdir()
    (work_dir / "full" / "mine.txt").write_text("mine")
    (work_dir / "file").write_text("mine")
    for out in ("full", "file"):
        result = run_bertft("merge", f"run={run}", f"out={out}")
        assert result.refused and f"{out} already exists" in result.err
    assert (work_dir / "full" / "mine.txt").read_text() == "mine"


def test_an_empty_folder_may_be_filled(trained, work_dir):
    (work_dir / "out").mkdir()
    result = run_bertft("merge", f"run={trained('classification', 'method=full')}", "out=out")
    assert result.status == 0 and (work_dir / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("task", ["pair", "multi_label", "regression"])
def test_every_task_merges(trained, work_dir, task):
    run = trained(task, "method=lora")
    result = run_bertft("merge", f"run={run}", "out=merged")
    assert result.status == 0 and float(re.search(r"Δlogit\| (\S+) on", result.out)[1]) <= 1e-5
    kinds = {
        "pair": "single_label_classification", "multi_label": "multi_label_classification",
        "regression": "regression",
    }  # fmt: skip
    assert read(work_dir / "merged" / "config.json")["problem_type"] == kinds[task]


def test_texts_with_odd_line_ends_are_checked_too(work_dir):
    rows = "".join(
        json.dumps({"text": f"ok\u2028{n}\x85 \x0b fine", "label": "ab"[n % 2]}) + "\n"
        for n in range(20)
    )
    Path("train.jsonl").write_text(rows, encoding="utf-8")
    data = ("data=files", "data.train=train.jsonl", "data.validation=train.jsonl")
    assert (
        run_bertft("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status
        == 0
    )
    result = run_bertft("merge", "run=run", "out=merged")
    assert result.status == 0 and "on 20 validation rows" in result.out, result


def test_only_a_run_can_be_merged(trained, work_dir):
    run = trained("classification", "method=lora")
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    result = run_bertft("merge", "run=merged", "out=again")
    assert result.refused and "is not a run" in result.err
    result = run_bertft("merge", f"run={run}x", "out=again")
    assert result.refused and "Did you mean 'run'?" in result.err
    assert not (work_dir / "again").exists()


def test_a_full_disk_is_the_machine_s_failure(trained, work_dir, monkeypatch):
    import safetensors.torch

    def full(*_, **__):
        raise safetensors.SafetensorError("Error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    result = run_bertft("merge", f"run={trained('classification', 'method=lora')}", "out=merged")
    assert result.status == 4 and "Traceback" not in result.err and "merged" in result.err, result
    assert list(work_dir.iterdir()) == []
