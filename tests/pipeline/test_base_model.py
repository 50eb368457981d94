"""The base of a run: where it comes from, where its copy goes, and that it is the same later."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from bertft.config.model import ModelConfig
from bertft.errors import DataError, MergeError, SystemResourceError, UsageError
from bertft.models.source import ModelSource
from bertft.pipeline import base_model
from bertft.runs.run_folder import RunFolder

COMMIT = "c" * 40


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def write_model(folder, value=1.0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"a": torch.full([4], value)}, folder / "model.safetensors")
    return folder


class Model:
    """What ``materialize_base`` needs of a model."""

    def __init__(self, value=1.0):
        self.value, self.base_model = value, self

    def save_pretrained(self, folder):
        write_model(folder, self.value)

    def named_parameters(self):
        return [("a", torch.nn.Parameter(torch.full([4], self.value)))]


def materialize(run, name="other", model=None):
    return base_model.materialize_base(str(name), model or Model(), {}, run)


def begin(folder):
    folder.mkdir(parents=True)
    for name in ("config.yaml", "manifest.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_is_taken_where_it_lies(run, tmp_path):
    folder = write_model(tmp_path / "model")
    source = ModelSource(str(folder), "folder", str(folder))
    assert base_model.commit_base(source, run) == source
    content = base_model.describe_base(source)
    assert content["load"] == str(folder) and len(content["sha256"]) == 64
    assert base_model.find_recorded_base({"base": content}, run) == source
    assert list(run.path.iterdir()) == []


def test_a_copy_is_prepared_next_to_its_place_and_then_put_there(run, tmp_path):
    other = begin(tmp_path / "other run")
    source = materialize(run, other, Model(2.0))
    assert (source.name, source.kind) == (str(other), base_model.STORED_IN_RUN)
    assert not run.base_dir.exists() and (run.path / f".base.tmp-{os.getpid()}").is_dir()
    remaining = base_model.commit_base(source, run)
    assert remaining.load == str(run.base_dir) and (run.base_dir / "model.safetensors").is_file()
    content = base_model.describe_base(remaining)
    assert content["load"] == "base"

    moved = RunFolder(run.path.rename(tmp_path / "moved"))
    assert base_model.find_recorded_base({"base": content}, moved).load == str(moved.base_dir)
    write_model(moved.base_dir, value=3.0)
    with pytest.raises(UsageError, match="have changed since the run was started"):
        base_model.find_recorded_base({"base": content}, moved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_whose_folded_weights_are_not_finite_is_no_base(run, tmp_path, value):
    with pytest.raises(MergeError, match="a is not finite"):
        materialize(run, model=Model(value))
    assert list(run.path.iterdir()) == []


def test_what_was_prepared_can_be_given_up(run, tmp_path):
    materialize(run)
    base_model.discard_base(run)
    assert list(run.path.iterdir()) == []
    base_model.discard_base(run)


def test_what_a_start_left_that_was_cut_off_is_replaced(run, tmp_path):
    settings = ModelConfig(name="x", path=str(begin(tmp_path / "other")))
    write_model(run.base_dir, value=9.0)
    run.check_rows_path.write_text("")
    base_model.check_base_folder(settings, run)
    remaining = base_model.commit_base(materialize(run), run)
    fresh = write_model(tmp_path / "fresh", value=1.0)
    sums = [(folder / "model.safetensors").read_bytes() for folder in (run.base_dir, fresh)]
    assert remaining.load == str(run.base_dir) and sums[0] == sums[1]


def test_a_folder_of_somebody_else_is_not(run, tmp_path):
    write_model(run.base_dir)
    random_weights = ModelConfig(name="tiny", weights="random")
    for settings in (random_weights, ModelConfig(name="x", path=str(begin(tmp_path / "other")))):
        with pytest.raises(UsageError, match="the base of the run would replace it"):
            base_model.check_base_folder(settings, run)
    base_model.check_base_folder(
        ModelConfig(name="x", path=str(run.base_dir)), run
    )  # needs no copy


def test_random_weights_on_a_run_are_not_the_run(tmp_path):
    other = str(begin(tmp_path / "other"))
    assert base_model.is_based_on_run(ModelConfig(name="x", path=other))
    assert not base_model.is_based_on_run(ModelConfig(name="x", path=other, weights="random"))
    assert not base_model.is_based_on_run(ModelConfig(name="x", path=str(tmp_path)))
    assert not base_model.is_based_on_run(ModelConfig(name="tiny", weights="random"))


def test_a_full_disk(run, tmp_path):
    class Full(Model):
        def save_pretrained(self, folder):
            raise RuntimeError("Error while serializing: I/O error: (os error 28)")

    with pytest.raises(SystemResourceError, match=r"base: cannot be written \(No space left"):
        materialize(run, model=Full())


def test_a_hub_source_is_held_at_the_commit_that_was_loaded():
    config = SimpleNamespace(_commit_hash=COMMIT)
    hub = ModelSource("some/model", "hub", "some/model", "main")
    assert base_model.pin_revision(hub, config).revision == COMMIT
    assert base_model.pin_revision(hub, SimpleNamespace(_commit_hash=None)) == hub
    folder = ModelSource("here", "folder", "/here")
    assert base_model.pin_revision(folder, config) == folder


def test_a_hub_source_is_verified_in_the_cache(run, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    snapshot = write_model(cache / "models--some--model" / "snapshots" / COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    hub = ModelSource("some/model", "hub", "some/model", COMMIT)
    content = base_model.describe_base(hub)
    assert len(content["sha256"]) == 64
    assert base_model.find_recorded_base({"base": content}, run) == hub
    write_model(snapshot, value=5.0)
    with pytest.raises(UsageError, match="have changed since the run was started"):
        base_model.find_recorded_base({"base": content}, run)


def test_the_same_weights_under_another_config_are_refused(run, tmp_path):
    folder = write_model(tmp_path / "model")
    source = ModelSource("model", "folder", str(folder))
    content = base_model.describe_base(source)
    assert base_model.find_recorded_base({"base": content}, run) == source
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(UsageError, match=r"config\.json of the base .* has changed"):
        base_model.find_recorded_base({"base": content}, run)
    del content["config_sha256"]  # as runs of before have it
    assert base_model.find_recorded_base({"base": content}, run) == source


@pytest.mark.parametrize("manifest", [
    {}, {"base": None}, {"base": {"sha256": None, "odd": 1}},
    {"base": {"name": "x", "kind": "folder", "load": "x", "revision": None, "sha256": {}}},
])  # fmt: skip
def test_a_manifest_that_does_not_tell_the_base(run, manifest):
    with pytest.raises(DataError, match=r"manifest\.json: has no valid 'base' entry"):
        base_model.find_recorded_base(manifest, run)


def test_a_copy_is_not_written_through_a_link(run, tmp_path):
    """A folder from elsewhere may hold links of the names under which a copy is prepared."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    new = run.path / f".base.tmp-{os.getpid()}"
    new.symlink_to(elsewhere)
    materialize(run)
    assert list(elsewhere.iterdir()) == []
    assert not new.is_symlink() and (new / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["../../x", "a/b", "/x"])
def test_a_template_whose_name_is_a_path_is_not_written(name):
    """Older versions of transformers write it there."""
    saved = []
    tokenizer = SimpleNamespace(
        chat_template={"default": "x", name: "x"}, name_or_path="m", save_pretrained=saved.append
    )
    with pytest.raises(UsageError, match=r"the tokenizer cannot be saved .*is a path") as caught:
        base_model.serialize_tokenizer(tokenizer)
    assert caught.value.where == "m" and not saved
