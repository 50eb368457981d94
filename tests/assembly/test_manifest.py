"""The files of a run's data are found again where they were read."""

from __future__ import annotations

from bertft.assembly.manifest import recorded_data
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
