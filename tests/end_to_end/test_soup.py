"""``merge runs=[...]`` and ``export runs=[...]``: averages of real runs, against plain numpy."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_runs import answers, read, run_bertft

from bertft.data.halves import first_half
from bertft.pipeline.open_model import open_model
from bertft.pipeline.recorded_rows import load_split
from bertft.training.evaluate import predict_logits

LORA = ("classification", "method=lora", "trainer.learning_rate=1e-2")
FASTER = ("classification", "method=lora", "trainer.learning_rate=3e-2")
FULL = ("classification", "method=full")


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """Runs of one base and validation file, in folders of their own names."""
    folder = tmp_path_factory.mktemp("soups")
    made = {}
    for name, words in (("lora", LORA), ("faster", FASTER), ("full", FULL)):
        made[name] = shutil.copytree(trained(*words), folder / name, symlinks=True)
    return made


@pytest.fixture(scope="module")
def merged(runs):
    """The merged folder of each run."""
    made = {}
    for name, run in runs.items():
        made[name] = run.parent / f"{name} merged"
        assert run_bertft("merge", f"run={run}", f"out={made[name]}").status == 0
    return made


def weights(folder):
    return load_file(folder / "model.safetensors")


def listed(*folders):
    return f"runs=[{','.join(map(str, folders))}]"


def test_a_mean_is_the_mean_of_the_merged_weights(runs, merged, work_dir):
    result = run_bertft("merge", listed(*runs.values()), "out=soup")
    assert result.status == 0 and "averaged 3 of 3 runs: lora, faster and full" in result.out
    parts, soup = [weights(folder) for folder in merged.values()], weights(work_dir / "soup")
    assert soup.keys() == parts[0].keys()
    for name, tensor in soup.items():
        mean = np.mean([part[name].astype(np.float64) for part in parts], 0)
        assert np.array_equal(tensor, mean.astype(tensor.dtype)), name
    record = read(work_dir / "soup/soup.json")
    for entry, run in zip(record["runs"], runs.values(), strict=True):
        files = read(run / f"checkpoints/step-{entry['step']}/files.json")["files"]
        assert entry["weights_sha256"] == files["adapter.safetensors"]["sha256"]
        assert entry["run"] == run.name and entry["averaged"]
    assert record["base"]["sha256"] == read(runs["lora"] / "manifest.json")["base"]["sha256"]
    card = (work_dir / "soup/README.md").read_text(encoding="utf-8")
    assert (
        "mean of those of 3 of 3 runs" in card and record["runs"][2]["weights_sha256"][:16] in card
    )
    assert str(runs["lora"].parent) not in card + json.dumps(record)
    test = runs["lora"].parent / "test.csv"
    test.write_text("text,label\nthe film was good,pos\nthe film was bad,neg\n", encoding="utf-8")
    assert len(answers(run_bertft("predict", "run=soup", f"input={test}"))) == 2
    words = ("data=files", f"data.validation={test}", "report=false", "hydra.run.dir=e")
    assert run_bertft("eval", "run=soup", *words).status == 0


def test_the_mean_of_two_equal_runs_is_the_run(runs, merged, tmp_path):
    twin = shutil.copytree(runs["lora"], tmp_path / "twin", symlinks=True)
    result = run_bertft("merge", listed(runs["lora"], twin), f"out={tmp_path / 'soup'}")
    assert result.status == 0, result
    one, other = (f / "model.safetensors" for f in (tmp_path / "soup", merged["lora"]))
    assert one.read_bytes() == other.read_bytes()


def test_greedy_keeps_what_does_not_lower_the_metric(runs, merged, work_dir):
    """The choice again in numpy, from plain state dicts and the logits of one loaded model."""
    result = run_bertft("merge", listed(*runs.values()), "how=greedy", "seed=5", "out=soup")
    assert result.status == 0, result
    record = read(work_dir / "soup/soup.json")
    first = open_model(str(merged["lora"]), device="cpu", data=open_model(str(runs["lora"])).data)
    table = first.build_features("validation", load_split(first, "validation"))
    chooses = first_half(24, 5)
    assert record["rows"] == {"choosing": 12, "reported": 12}

    def accuracy(names):
        import torch

        parts = [weights(merged[name]) for name in names]
        mean = {
            key: torch.from_numpy(
                np.mean([part[key].astype(np.float64) for part in parts], 0).astype(np.float32)
            )
            for key in parts[0]
        }
        first.task_model.model.load_state_dict(mean, strict=False)
        logits = predict_logits(first.task_model.runner, table, first.task_model.precision)
        right = logits.argmax(1) == table.read_column("labels")
        return right[chooses].mean(), right[~chooses].mean()

    alone = {name: accuracy([name]) for name in runs}
    for entry in record["runs"]:
        assert (entry["choosing"], entry["reported"]) == pytest.approx(alone[entry["run"]])
    kept, *others = sorted(runs, key=lambda name: -alone[name][0])
    kept = [kept]
    for name in others:
        if accuracy([*kept, name])[0] >= accuracy(kept)[0]:
            kept.append(name)
    assert sorted(kept) == sorted(entry["run"] for entry in record["runs"] if entry["averaged"])
    soup = accuracy(kept)
    assert (record["soup"]["choosing"], record["soup"]["reported"]) == pytest.approx(soup)
    assert record["soup"]["choosing"] >= max(choosing for choosing, _ in alone.values())
    best = alone[record["best_run"]]
    difference = record["differences_to_best_run"]["soup"]
    assert difference["value"] == pytest.approx(soup[1] - best[1])
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_an_adapter_of_full_rank_is_the_mean(runs, merged, work_dir):
    pair = (runs["lora"], runs["faster"])
    assert run_bertft("export", listed(*pair), "out=exact").status == 0
    assert run_bertft("export", listed(*pair), "rank=1", "out=small").status == 0
    assert run_bertft("merge", listed(*pair), "out=soup").status == 0
    soup, base = weights(work_dir / "soup"), weights(runs["lora"] / "base")
    adapter = load_file(work_dir / "exact/adapter_model.safetensors")
    rest = total = 0.0
    for name, tensor in soup.items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        start = base.get(name.removeprefix("bert."))
        if start is None:  # the head
            assert np.array_equal(adapter[f"base_model.model.{name}"], tensor)
        elif f"{prefix}.lora_A.weight" in adapter:
            update = adapter[f"{prefix}.lora_B.weight"] @ adapter[f"{prefix}.lora_A.weight"]
            np.testing.assert_allclose(start + update, tensor, atol=1e-6)
            values = np.linalg.svd(tensor.astype(np.float64) - start, compute_uv=False)
            total, rest = total + (values**2).sum(), rest + (values[1:] ** 2).sum()
        else:
            assert np.array_equal(start, tensor)
    assert read(work_dir / "exact/soup.json")["relative_error"] == 0
    record = read(work_dir / "small/soup.json")
    assert record["rank"] == 1
    assert record["relative_error"] == pytest.approx((rest / total) ** 0.5, rel=1e-3)
    assert 0 < record["relative_error"] < 1


def changed(run, folder, **entries):
    """A copy of ``run`` with other entries in its manifest."""
    copy = shutil.copytree(run, folder, symlinks=True)
    manifest = read(copy / "manifest.json")
    (copy / "manifest.json").write_text(json.dumps(manifest | entries), encoding="utf-8")
    return copy


def test_what_cannot_be_averaged(runs, work_dir):
    lora = runs["lora"]
    base = read(lora / "manifest.json")["base"]
    other_base = changed(lora, work_dir / "base", base=base | {"sha256": "0" * 64})
    labels = changed(lora, work_dir / "labels", labels=["no", "yes"])
    for words, message in (
        ((listed(lora),), "an average needs at least two runs"),
        ((listed(lora, lora),), "is listed twice"),
        ((listed(lora, runs["full"]), "how=greedi"), "Did you mean 'greedy'?"),
        ((listed(lora, other_base),), "different base models"),
        ((listed(lora, labels),), "different labels: neg, pos in"),
        ((listed(lora, runs["full"]), f"run={lora}"), "cannot be combined with runs"),
        ((f"run={lora}", "how=greedy"), "has no effect without runs"),
        (("runs=[]",), "is not a list of folders"),
    ):
        result = run_bertft("merge", *words, "out=new/soup")
        assert result.refused and message in result.err, result
        assert not (work_dir / "new").exists()
    result = run_bertft("export", listed(lora, runs["full"]), "out=new")
    assert result.refused and "all that a LoRA adapter can hold" in result.err, result
    assert not (work_dir / "new").exists()
