"""When a folder holds a run, and the error where it does not."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.runs.run_folder import RunFolder
from bertft.utils.safe_files import read_regular_text


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "train" / "noon-lora-sst2")
    folder.create("seed: 3\n", {"version": "0.1.0", "path": "/数据/a.csv", "rate": 1e-05})
    return folder


def test_a_run_from_its_first_file_to_its_last(tmp_path):
    folder = RunFolder(tmp_path / "a" / "b")
    assert (folder.has_run, folder.is_finished) == (False, False)
    folder.create("name: 酒店\n", {"seeds": [1, 2], "loss": math.nan})
    assert (folder.has_run, folder.is_finished) == (True, False)
    assert read_regular_text(folder.config_path) == "name: 酒店\n"
    assert folder.read_manifest() == {"seeds": [1, 2], "loss": None}
    assert folder.checkpoints_dir.is_dir()
    value = 0.1 + 0.2
    folder.write_metrics({"best": {"value": value}, "validation": {"matthews": math.nan}})
    assert folder.is_finished
    assert RunFolder.open(folder.path).path == folder.path
    from bertft.utils.safe_files import read_json

    assert read_json(folder.metrics_path) == {
        "best": {"value": 0.30000000000000004},
        "validation": {"matthews": None},
    }


def test_what_a_finished_run_rests_on_is_sealed_first(run):
    import hashlib

    from bertft.utils.failpoints import install_hook

    run.metrics_log_path.write_text('{"step": 1}\n')
    run.timings_log_path.write_text("")
    seen = []
    with install_hook(seen.append):
        run.write_result({"best": None})
    assert [point.split()[-1] for point in seen if point.startswith("rename")] == [
        "manifest.json",
        "metrics.json",
    ], seen
    sealed = run.read_manifest()["sealed"]
    files = (run.config_path, run.metrics_path, run.metrics_log_path, run.timings_log_path)
    assert sealed == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_names():
    folder = RunFolder("r")
    assert [
        str(path)
        for path in (
            folder.config_path,
            folder.manifest_path,
            folder.metrics_path,
            folder.metrics_log_path,
            folder.timings_log_path,
            folder.log_path,
            folder.checkpoints_dir,
            folder.plots_dir,
            folder.check_rows_path,
            folder.base_dir,
        )
    ] == [
        "r/config.yaml",
        "r/manifest.json",
        "r/metrics.json",
        "r/metrics.jsonl",
        "r/timings.jsonl",
        "r/log.txt",
        "r/checkpoints",
        "r/plots",
        "r/check_rows.jsonl",
        "r/base",
    ]


def test_a_run_is_not_written_over(run):
    with pytest.raises(UsageError) as content:
        run.create("", {})
    assert str(content.value) == (
        f"{run.path}: already contains a run."
        f" Resume it with resume={run.path}, or set another hydra.run.dir"
    )
    run.write_metrics({})
    with pytest.raises(UsageError, match=r"contains a finished run. Set another hydra.run.dir"):
        run.create("", {})
    assert read_regular_text(run.config_path) == "seed: 3\n"


def test_nor_what_is_left_of_one(run):
    run.config_path.unlink()
    with pytest.raises(UsageError, match=r"contains an incomplete run"):
        run.create("", {})
    run.manifest_path.unlink()
    (run.checkpoints_dir / "step-5").mkdir()
    with pytest.raises(UsageError, match=r"contains an incomplete run"):
        run.create("", {})
    (run.checkpoints_dir / "step-5").rmdir()
    run.metrics_path.write_text("{}")
    with pytest.raises(UsageError, match=r"contains results of another command"):
        run.create("", {})


def test_other_files_and_a_start_that_was_cut_off_are_no_run(tmp_path):
    (tmp_path / "job.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("seed")
    (tmp_path / ".manifest.json.tmp-4194305").write_text('{"ver')
    RunFolder(tmp_path).create("seed: 1\n", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "job.json",
        "manifest.json",
    ]


def test_a_file_is_no_place_for_a_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"is not a folder. Set another hydra.run.dir"):
        RunFolder(tmp_path / "file").create("", {})
    with pytest.raises(SystemResourceError, match=r"cannot be written \(Not a directory\)"):
        RunFolder(tmp_path / "file" / "below").create("", {})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("train/noon-lora-sst", "there is no such folder. Did you mean {0}/train/noon-lora-sst2?"),
        ("train/zzz", "there is no such folder. Runs in the same folder: noon-lora-sst2"),
        ("train", "is not a run folder. Runs in it: {0}/train/noon-lora-sst2"),
        (".", "is not a run folder. Runs in it: {0}/train/noon-lora-sst2"),
        (
            "train/noon-lora-sst2/checkpoints/step-5",
            "there is no such folder. Did you mean {0}/train/noon-lora-sst2?",
        ),
        (
            "train/noon-lora-sst2/config.yaml",
            "is not a folder. Did you mean {0}/train/noon-lora-sst2?",
        ),
        ("a/b/c/d", "there is no such folder. A run folder contains config.yaml and manifest.json"),
    ],
)
def test_the_nearest_run_is_named(run, tmp_path, path, message):
    with pytest.raises(UsageError) as content:
        RunFolder.open(tmp_path / path)
    assert not isinstance(content.value, DataError)
    assert content.value.where == str(tmp_path / path)
    assert message.format(tmp_path) in str(content.value)


def test_damage_is_named(run):
    run.manifest_path.write_text('{"version": "0.1')
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read as JSON"):
        run.read_manifest()
    run.config_path.write_bytes(b"a: \xff")
    with pytest.raises(DataError, match=r"config\.yaml: cannot be read \(not UTF-8\)"):
        read_regular_text(run.config_path)
    run.config_path.unlink()
    with pytest.raises(DataError, match=r"config\.yaml: is missing"):
        read_regular_text(run.config_path)


def test_the_room_is_light():
    code = (
        "import sys, bertft.runs.run_folder, bertft.runs.checkpoints, bertft.runs.tensor_files\n"
        "print({'torch', 'numpy', 'safetensors', 'transformers', 'hydra'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
