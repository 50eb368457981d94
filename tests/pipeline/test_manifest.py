"""The files of a run's data are found again where they were read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from bertft.config.data import DataConfig
from bertft.errors import DataError
from bertft.pipeline.manifest import hardware_changes, recorded_data, recorded_path
from bertft.runs.manifest import read_manifest
from bertft.runs.run_folder import RunFolder

FROZEN = Path(__file__).parents[1] / "frozen" / "0.1.0" / "run" / "manifest.json"


def manifest_of(**files):
    return {"data": {"splits": {name: {"files": file} for name, file in files.items()}}}


def test_relative_files_are_found_where_the_run_read_them(tmp_path):
    train, other = tmp_path / "train.csv", tmp_path / "validation.csv"
    train.write_text("")
    data = DataConfig(name="files", train="train.csv", validation="validation.csv")
    manifest = manifest_of(train=[str(train)], validation=[str(other)])
    actual = recorded_data(data, manifest)
    assert actual.train == str(train)
    assert actual.validation == "validation.csv", "it is not there any more: taken as it was given"
    assert actual.test is None


def test_what_has_no_place_of_its_own_stays_as_it_is(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("")
    absolute = DataConfig(name="files", train=str(tmp_path / "other.csv"))
    assert recorded_data(absolute, manifest_of(train=[str(file)])) == absolute
    hub = DataConfig(name="sst2", source="hub", train="train", hub="a/b")
    assert recorded_data(hub, manifest_of(train=[])) == hub
    cut = DataConfig(name="files", train=str(file))
    assert recorded_data(cut, manifest_of(train=[str(file)], validation=[str(file)])) == cut


def test_what_changes_the_last_bits_is_reported():
    device = torch.device("cpu")
    here = {
        "threads": torch.get_num_threads(), "device": "cpu", "processes": 2,
        "instruction_set": torch.backends.cpu.get_cpu_capability(), "platform": "another",
    }  # fmt: skip
    assert hardware_changes({"hardware": here}, device, 2) == []
    assert hardware_changes({"hardware": here}, device, 1) == ["number of processes was 2, is 1"]
    other = {**here, "instruction_set": "none", "gpu": "A100"}
    assert hardware_changes({"hardware": other}, device, 2) == [
        "GPU was A100, is None", f"instruction set was none, is {here['instruction_set']}",
    ]  # fmt: skip
    del other["processes"], other["gpu"]  # as it was written before there could be several
    assert len(hardware_changes({"hardware": other}, device, 1)) == 1


def test_a_list_of_rows_to_drop_is_found_where_the_run_read_it(tmp_path):
    data = DataConfig(name="files", train=str(tmp_path / "a.csv"), drop_rows="suspects.csv")
    manifest = manifest_of() | {"directory": str(tmp_path)}
    assert recorded_data(data, manifest).drop_rows == str(tmp_path / "suspects.csv")
    assert recorded_data(data, manifest, {"data.drop_rows"}) == data
    assert recorded_data(data, manifest_of()) == data
    data.drop_rows = ["suspects.csv", str(tmp_path / "b.csv")]
    expected = [str(tmp_path / "suspects.csv"), str(tmp_path / "b.csv")]
    assert recorded_data(data, manifest).drop_rows == expected


def test_a_home_that_is_not_on_this_machine_stays_as_it_is(tmp_path):
    """The run may come from a machine with other users: what does not read the file needs none."""
    file = tmp_path / "a.csv"
    file.write_text("")
    data = DataConfig(name="files", train="~nobody-has-this-name/a.csv")
    assert recorded_data(data, manifest_of(train=[str(file)])) == data
    folder = "~nobody-has-this-name/data"
    assert recorded_path(folder, {"directory": str(tmp_path)}) == folder


@pytest.mark.parametrize(("name", "value"), [
    ("packages", ["torch"]), ("packages", {"torch": 2}), ("begun", 3), ("begun", "yesterday"),
    ("bertft", [1]), ("seeds", 3), ("seeds", {"run": "0"}), ("parameters", "many"),
    ("parameters", {}), ("labels", [1]), ("check_rows", 3), ("teacher", []), ("teacher", "run"),
    ("teacher", {"path": "run"}), ("teacher", {"path": 3, "digest": "x"}),
    ("teacher", {"path": "run", "digest": "x", "forwards": {"rows": "x"}}),
    ("teacher", {"path": "run", "digest": "x", "others": [{"path": "run"}]}),
    ("teacher", {"path": "run", "digest": "x", "others": {}}),
])  # fmt: skip
def test_an_entry_of_another_form_is_refused_where_the_manifest_is_read(tmp_path, name, value):
    """Not by the report, the model card or the resumed run that come to use it later."""
    run = RunFolder(tmp_path)
    shutil.copy(FROZEN, run.manifest_path)
    content = read_manifest(run)
    run.manifest_path.write_text(json.dumps({**content, name: value}))
    with pytest.raises(DataError, match=f"invalid value for '{name}'"):
        read_manifest(run)
    teacher = {"path": "run", "digest": "x", "forwards": {"rows": 3, "batches": 1}}
    run.manifest_path.write_text(json.dumps({**content, "teacher": teacher}))
    assert read_manifest(run)["teacher"] == teacher
