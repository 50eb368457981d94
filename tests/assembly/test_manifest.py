"""The files of a run's data are found again where they were read."""

from __future__ import annotations

import torch

from bertft.assembly.manifest import changes, recorded_data
from bertft.config.data import DataConfig


def told(**files):
    return {"data": {"splits": {name: {"files": each} for name, each in files.items()}}}


def test_relative_files_are_found_where_the_run_read_them(tmp_path):
    train, other = tmp_path / "train.csv", tmp_path / "validation.csv"
    train.write_text("")
    data = DataConfig(name="files", train="train.csv", validation="validation.csv")
    manifest = told(train=[str(train)], validation=[str(other)])
    found = recorded_data(data, manifest)
    assert found.train == str(train)
    assert found.validation == "validation.csv", "it is not there any more: taken as it was given"
    assert found.test is None


def test_what_has_no_place_of_its_own_stays_as_it_is(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("")
    absolute = DataConfig(name="files", train=str(tmp_path / "other.csv"))
    assert recorded_data(absolute, told(train=[str(file)])) == absolute
    hub = DataConfig(name="sst2", source="hub", train="train", hub="a/b")
    assert recorded_data(hub, told(train=[])) == hub
    cut = DataConfig(name="files", train=str(file))
    assert recorded_data(cut, told(train=[str(file)], validation=[str(file)])) == cut


def test_what_changes_the_last_bits_is_told():
    device = torch.device("cpu")
    here = {
        "threads": torch.get_num_threads(), "device": "cpu", "processes": 2,
        "instruction_set": torch.backends.cpu.get_cpu_capability(), "platform": "another",
    }  # fmt: skip
    assert changes({"hardware": here}, device, 2) == []
    assert changes({"hardware": here}, device, 1) == ["number of processes was 2, is 1"]
    other = {**here, "instruction_set": "none", "gpu": "A100"}
    assert changes({"hardware": other}, device, 2) == [
        "GPU was A100, is None", f"instruction set was none, is {here['instruction_set']}",
    ]  # fmt: skip
    del other["processes"], other["gpu"]  # as it was written before there could be several
    assert len(changes({"hardware": other}, device, 1)) == 1
