"""A run, a merged folder or an adapter from somebody else grants nothing and harms nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_runs import QUICK, read, run_bertft, write_classes, write_task

from bertft.config.resume import read_run_config, read_runnable_config
from bertft.errors import UsageError
from bertft.pipeline.open_model import open_model
from bertft.report.compare import row_statistics
from bertft.runs.files_json import write_files_json
from bertft.runs.run_folder import RunFolder

LINE = '{"text": "the film was good"}\n'
RUN = ("classification", "method=lora")


@pytest.fixture
def merged(trained, tmp_path) -> Path:
    assert run_bertft("merge", f"run={trained(*RUN)}", f"out={tmp_path / 'merged'}").status == 0
    return tmp_path / "merged"


def recorded_trust(run: Path, bomb: Path) -> None:
    """As a run that its author trained with code of his own, which leaves ``bomb``."""
    text = (run / "config.yaml").read_text(encoding="utf-8")
    changed = text.replace("trust_remote_code: false", "trust_remote_code: true")
    assert changed != text
    (run / "config.yaml").write_text(changed, encoding="utf-8")
    manifest = read(run / "manifest.json")
    manifest.pop("sealed")
    base = run / "base"
    (base / "mine.py").write_text(f"import os\nos.mkdir({str(bomb)!r})\n")
    config = read(base / "config.json")
    config["auto_map"] = {"AutoConfig": "mine.C", "AutoModel": "mine.M"}
    config["model_type"] = "mine"
    (base / "config.json").write_text(json.dumps(config))
    (base / "files.json").unlink()
    write_files_json(base)
    manifest["base"].pop("config_sha256")
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_a_recorded_trust_grants_nothing(copied, work_dir):
    """Every command that opens a run says which setting would grant it, and runs nothing."""
    run, bomb = copied(*RUN), work_dir / "bomb"
    other = shutil.copytree(run, work_dir / "other", symlinks=True)
    recorded_trust(run, bomb)
    data = write_task(work_dir, "classification")
    hints = {
        "trust_remote_code=true": [
            ("predict", f"run={run}"), ("eval", f"run={run}", "hydra.run.dir=scores"),
            ("merge", f"run={run}", "out=m"), ("export", f"run={run}", "out=e"),
            ("export", f"run={run}", "out=e", "format=onnx"), ("report", f"run={run}"),
        ],
        "model.trust_remote_code=true": [
            ("train", f"resume={run}"),
            ("train", *QUICK[1:], *data, f"model.path={run}", "model.name=mine"),
            ("train", *QUICK, *data, f"method.distill.teacher={run}"),
        ],
    }  # fmt: skip
    for hint, commands in hints.items():
        for words in commands:
            result = run_bertft(*words, stdin=LINE)
            assert result.status == 2 and "Traceback" not in result.err, result
            assert f"If you trust the author, add {hint}" in result.err, result
    assert "Traceback" not in run_bertft("compare", f"runs=[{run},{other}]").err
    assert run_bertft("verify", f"run={run}").status == 0, "nothing of it is executed"
    assert read_run_config(run).model.trust_remote_code is False
    assert read_runnable_config(run, True).model.trust_remote_code is True
    assert not bomb.exists()
    granted = run_bertft("predict", f"run={run}", "trust_remote_code=true", stdin=LINE)
    assert granted.status != 0 and bomb.exists(), "what is granted is run, and is no model here"
    sys.modules.pop("mine", None)


def test_what_was_not_recorded_is_not_granted(trained):
    """The setting lets a run have what it was trained with, and no more."""
    assert read_runnable_config(trained(*RUN), True).model.trust_remote_code is False


def test_code_in_a_merged_folder_needs_the_setting(merged, work_dir):
    (merged / "mine.py").write_text(f"import os\nos.mkdir({str(work_dir / 'bomb')!r})\n")
    config = {**read(merged / "config.json"), "model_type": "mine"}
    config["auto_map"] = {"AutoConfig": "mine.C", "AutoModelForSequenceClassification": "mine.M"}
    (merged / "config.json").write_text(json.dumps(config))
    result = run_bertft("predict", f"run={merged}", stdin=LINE)
    assert result.refused and "trust_remote_code=true" in result.err, result
    assert not (work_dir / "bomb").exists()


def test_the_environment_is_not_read_from_a_file(copied, merged, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    facts = merged / "bertft.json"
    facts.write_text(json.dumps({**read(facts), "answering": {"hub": "${oc.env:SECRET}"},
                                 "task": "${oc.env:SECRET}"}))  # fmt: skip
    run = copied(*RUN)
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(text.replace("source: files", "source: ${oc.env:SECRET}"))
    for folder in (merged, run):
        result = run_bertft("eval", f"run={folder}", "data.max_length=16", "hydra.run.dir=scores")
        assert result.status == 2 and "Traceback" not in result.err, result
        assert "s3cret" not in result.err + result.out


def test_a_run_chooses_no_cache(copied, work_dir):
    run = copied(*RUN)
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(text.replace("cache: null", f"cache: {work_dir / 'theirs'}"))
    assert run_bertft("eval", f"run={run}", "hydra.run.dir=scores").status == 0
    assert run_bertft("eval", f"run={run}", "data.max_length=20", "hydra.run.dir=again").status == 0
    assert not (work_dir / "theirs").exists()


def test_pickled_weights_are_not_read(merged):
    weights = load_file(merged / "model.safetensors")
    torch.save(weights, merged / "pytorch_model.bin")
    (merged / "model.safetensors").unlink()
    result = run_bertft("predict", f"run={merged}", stdin=LINE)
    assert result.refused and "pytorch_model.bin is not read" in result.err, result
    data = write_task(merged.parent, "classification")
    result = run_bertft("train", *QUICK[1:], *data, f"model.path={merged}", "model.name=mine")
    assert result.refused and "pytorch_model.bin is not read" in result.err, result


def test_a_head_of_other_labels_is_not_drawn_again(merged):
    config = read(merged / "config.json")
    config["id2label"] = {"0": "a", "1": "b", "2": "c"}
    config["label2id"] = {"a": 0, "b": 1, "c": 2}
    (merged / "config.json").write_text(json.dumps(config))
    result = run_bertft("predict", f"run={merged}", stdin=LINE)
    assert result.refused and "classifier" in result.err and "another shape" in result.err, result


def test_links_pipes_and_devices_in_a_model_folder(merged, work_dir):
    outside = work_dir / "outside.json"
    for name in ("tokenizer.json", "config.json", "README.md", "model.safetensors"):
        file, remaining = merged / name, work_dir / "kept"
        shutil.move(file, remaining)
        shutil.copy(remaining, outside)
        for make in (
            lambda file: os.mkfifo(file), lambda file: file.symlink_to("/dev/zero"),
            lambda file: file.symlink_to(outside),
        ):  # fmt: skip
            make(file)
            with pytest.raises(UsageError) as error:
                open_model(str(merged))
            assert name in str(error.value) or "is not a run folder" in str(error.value)
            file.unlink()
        shutil.move(remaining, file)
    os.rename(merged / "tokenizer.json", merged / "real.json")
    (merged / "tokenizer.json").symlink_to("real.json")
    assert open_model(str(merged)).info.task == "classification"


def test_an_index_names_no_file_outside(merged):
    index = {"weight_map": {"classifier.bias": "../../secret.safetensors"}}
    (merged / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="is not a file of weights"):
        open_model(str(merged))


def test_nothing_is_written_through_a_link(copied, work_dir):
    run, elsewhere = copied(*RUN), work_dir / "elsewhere"
    elsewhere.mkdir()
    (work_dir / "theirs.txt").write_text("mine\n")
    for name, target in (
        ("plots", elsewhere), ("checkpoints", None), ("log.txt", work_dir / "theirs.txt"),
        ("metrics.jsonl", work_dir / "theirs.txt"), ("tracking", elsewhere),
    ):  # fmt: skip
        remaining = work_dir / "kept"
        there = os.path.lexists(run / name)
        if there:
            shutil.move(run / name, remaining)
        (run / name).symlink_to(remaining if target is None else target)
        with pytest.raises(UsageError, match=f"{name}: is a link"):
            RunFolder(run).ensure_no_links()
        command = {"plots": ("report", f"run={run}"),
                   "log.txt": ("train", f"resume={run}", "trainer.epochs=3")}.get(name)  # fmt: skip
        if command is not None:
            result = run_bertft(*command)
            assert result.refused and f"{name}: is a link" in result.err, result
        os.unlink(run / name)
        if there:
            shutil.move(remaining, run / name)
    os.mkfifo(run / "fifo")
    os.replace(run / "fifo", run / "log.txt")
    assert (
        "log.txt: is a special file" in run_bertft("train", f"resume={run}", "trainer.epochs=3").err
    )
    assert list(elsewhere.iterdir()) == [] and (work_dir / "theirs.txt").read_text() == "mine\n"


def test_pipes_in_place_of_a_runs_files(copied):
    """No command waits for a writer that never comes."""
    run = copied(*RUN)
    commands = {
        "metrics.jsonl": ("report", f"run={run}"), "timings.jsonl": ("verify", f"run={run}"),
        "check_rows.jsonl": ("merge", f"run={run}", "out=m"),
        "row_scores.npz": ("verify", f"run={run}"),
    }  # fmt: skip
    for name, words in commands.items():
        remaining = (run / name).read_bytes() if (run / name).exists() else None
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
        result = run_bertft(*words)
        assert "Traceback" not in result.err, result
        if name == "timings.jsonl":
            assert result.status == 2 and "named pipe" in result.out, result
        shutil.rmtree("m", ignore_errors=True)
        (run / name).unlink()
        if remaining is not None:
            (run / name).write_bytes(remaining)


def test_what_a_checkpoint_hides_is_not_copied(copied, work_dir):
    """A link to a file of this machine would put its content into what the next steps save."""
    run, secret = copied(*RUN), work_dir / "secret"
    secret.write_text("s3cret")
    for step in (run / "checkpoints").glob("step-*"):
        (step / ".hidden").symlink_to(secret)
        (step / ".tokens").write_text("s3cret")
    assert run_bertft("train", f"resume={run}", "trainer.epochs=3").status == 0
    newest = (run / "checkpoints" / "last").resolve()
    assert (newest / "tokenizer.json").is_file()
    assert [path.name for path in newest.iterdir() if path.name.startswith(".")] == []


def test_a_recorded_file_is_not_quoted(copied, work_dir):
    """A run may name any file of this machine; only what it recorded is read, and shown."""
    run = copied(*RUN)
    secret = work_dir / "secret.csv"
    secret.write_text("user,password\nme,s3cret,s3cret2\n")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    given = next(line for line in text.splitlines() if line.startswith("  validation: "))
    (run / "config.yaml").write_text(text.replace(given, f"  validation: {secret}"))
    manifest = read(run / "manifest.json")
    manifest.pop("sealed")
    (run / "manifest.json").write_text(json.dumps(manifest))
    for words in (("eval", f"run={run}", "hydra.run.dir=scores"), ("report", f"run={run}")):
        result = run_bertft(*words)
        assert result.status == 2 and "Traceback" not in result.err, result
        assert "has changed since the run was trained" in result.err, result
        assert "s3cret" not in result.err + result.out and "password" not in result.err, result
    named = run_bertft("eval", f"run={run}", f"data.validation={secret}", "hydra.run.dir=scores")
    assert named.refused and "password" in named.err, "the user's own file is explained"

    # Nor if the command line names another of its files, or continues its training.
    train = next(line for line in text.splitlines() if line.startswith("  train: "))
    named_train = train.strip().replace("train: ", "data.train=")
    for words in (
        ("eval", f"run={run}", "split=train", named_train, "hydra.run.dir=scores"),
        ("train", f"resume={run}", "trainer.epochs=3"),
    ):
        result = run_bertft(*words)
        assert result.status == 2 and "cannot be read any more" in result.err, result
        assert "s3cret" not in result.err + result.out and "password" not in result.err, result


def test_a_named_file_is_explained_next_to_recorded_ones(work_dir):
    write_classes(work_dir / "a.csv", 40, seed=1)
    write_classes(work_dir / "b.csv", 20, seed=2)
    data = ("data=files", "data.train=a.csv", "data.validation=b.csv")
    words = ("train", *data, "model=tiny", "trainer.max_steps=1", "hydra.run.dir=run")
    assert run_bertft(*words).status == 0
    (work_dir / "c.csv").write_text("one,two,three\n1,2,3,4\n")
    eval_words = ("eval", "run=run", "split=train", "hydra.run.dir=scored", "data.train=c.csv")
    result = run_bertft(*eval_words)
    assert result.refused and "c.csv" in result.err and "cannot be read" not in result.err, result
    (work_dir / "b.csv").write_text("user,password\nme,s3cret,s3cret2\n")
    result = run_bertft(*eval_words)
    assert result.refused and "data.validation=" in result.err, result
    assert "password" not in result.err and "data.train=" not in result.err, result


def test_a_tokenizer_that_cannot_be_saved(merged):
    """A chat template whose name leads out of the folder, for example."""
    file = merged / "tokenizer_config.json"
    templates = [{"name": "default", "template": "x"}, {"name": "../../x", "template": "x"}]
    file.write_text(json.dumps({**read(file), "chat_template": templates}))
    data = write_task(merged.parent, "classification")
    result = run_bertft("train", *QUICK[1:], *data, f"model.path={merged}", "model.name=mine")
    assert result.refused and "the tokenizer cannot be saved" in result.err, result


def test_scores_of_rows_that_cannot_be(copied, work_dir):
    """``compare`` keeps them in the run, where its author may have put others."""
    run = copied(*RUN)
    other = shutil.copytree(run, work_dir / "other", symlinks=True)
    text = (other / "config.yaml").read_text(encoding="utf-8")
    (other / "config.yaml").write_text(text.replace("beta2: 0.999", "beta2: 0.9"))
    manifest = read(other / "manifest.json")
    manifest.pop("sealed")
    (other / "manifest.json").write_text(json.dumps(manifest))
    words = ("compare", f"runs=[{run},{other}]", "draws=20")
    assert run_bertft(*words).status == 0
    with np.load(run / "row_scores.npz") as file:
        key, rows, terms = (file[name] for name in ("key", "rows", "terms"))
    content = (run / "row_scores.npz").read_bytes()
    for rows_, terms_ in (
        (rows, terms[:, 0]), (rows, terms.astype(str)), (rows[:3], terms), (rows, terms * np.nan),
        (rows[:0], terms[:0]), (np.array(3), np.array(3.0)), (rows, terms + 1e6),
        (rows, terms - 7), (np.repeat(rows, 2), np.repeat(terms, 2, 0)), (rows, terms * 1j),
        (rows, np.ones((len(rows), 3, 3))),
    ):  # fmt: skip
        digest = row_statistics._arrays_sha256(rows_, terms_)
        np.savez(run / "row_scores.npz", key=key, rows=rows_, terms=terms_, digest=digest)
        assert run_bertft(*words).status == 0
        assert (run / "row_scores.npz").read_bytes() == content, "made anew"
