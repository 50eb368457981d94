"""Excel workbooks: what their cells become, and what is refused."""

from __future__ import annotations

import datetime
import io
import sys
import zipfile
from pathlib import Path

import openpyxl
import pytest

from bertft.config.data import DataConfig
from bertft.data import prediction_rows
from bertft.data.propose_columns import detect_columns
from bertft.data.readers import compressed_files
from bertft.data.readers.excel import cell_text
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnNotFound
from bertft.data.splits import load_splits
from bertft.data.standard_input import store_standard_input
from bertft.errors import DataError

pytestmark = pytest.mark.usefixtures("read_both_ways")


def write(path: Path, *sheets, **states) -> Path:
    """A workbook with the rows of each sheet; ``states``: sheet_state by title."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for number, rows in enumerate(sheets, start=1):
        sheet = workbook.create_sheet(f"Sheet{number}")
        for row in rows:
            sheet.append(row)
        sheet.sheet_state = states.get(sheet.title, "visible")
    workbook.save(path)
    return path


def read(path: Path, **settings):
    data = DataConfig(name="x", train=str(path), validation=str(path), **settings)
    return load_splits(data).train


def pairs(rows) -> list[tuple]:
    return list(zip(rows.column("text"), rows.column("label"), strict=True))


HEADER = ["label", "text", "date"]
ROWS = [HEADER, ["pos", "good, really", None], ["neg", 'say "no"\nnow', 7], ["pos", "酒店", None]]


def test_the_rows_of_the_first_sheet(tmp_path):
    path = write(tmp_path / "a.xlsx", ROWS)
    rows = read(path)
    assert pairs(rows) == [("good, really", "pos"), ('say "no"\nnow', "neg"), ("酒店", "pos")]
    assert rows.column("line") == [2, 3, 4] and rows.location(2) == f"{path}, row 4"
    assert rows.bad.notes == []
    assert read(path, text=1, label=0).fingerprint == rows.fingerprint
    named = path.rename(tmp_path / "b.data")
    assert read(named, format="xlsx").fingerprint == rows.fingerprint


def test_the_text_of_every_kind_of_cell(tmp_path):
    """Through a file, because openpyxl decides what a cell is."""
    values = {
        "text": "text", "1": 1, "1.5": 1.5, "0.1": 0.1, "-3": -3.0, "true": True, "false": False,
        "2024-05-01": datetime.datetime(2024, 5, 1),
        "2024-05-02": datetime.date(2024, 5, 2),
        "2024-05-01 13:45:00": datetime.datetime(2024, 5, 1, 13, 45),
        "13:45:30": datetime.time(13, 45, 30),
        " spaces ": " spaces ",
        "1e+300": 1e300,
    }  # fmt: skip
    rows = [["text", "label"], *([value, "a"] for value in values.values()), ["x", "b"]]
    assert read(write(tmp_path / "a.xlsx", rows)).column("text") == [*values, "x"]
    assert cell_text(float(1 << 53)) == str(1 << 53)
    assert cell_text("a_x000D_\nb_x0041_") == "a\r\nb_x0041_"
    assert cell_text("") is cell_text(None) is None


def test_labels_are_numbers_booleans_or_names(tmp_path):
    rows = [["text", "label"], ["a", 1.0], ["b", 0], ["c", 1]]
    assert read(write(tmp_path / "a.xlsx", rows)).column("label") == ["1", "0", "1"]
    scores = read(write(tmp_path / "a.xlsx", rows), task="regression")
    assert scores.column("label") == [1.0, 0.0, 1.0]
    rows = [["text", "x", "y"], ["a", True, False], ["b", 1, 1], ["c", 0, 1.0]]
    several = read(write(tmp_path / "a.xlsx", rows), task="multi_label", label=["x", "y"])
    assert several.column("label") == [["x"], ["x", "y"], ["y"]]


def test_a_formula_is_the_value_that_was_saved(tmp_path):
    path = write(tmp_path / "a.xlsx", [["text", "label"], ["=1+1", "a"], ["b", "b"]])
    with pytest.raises(DataError, match=r"row 2: empty text"):
        read(path)  # it was never calculated
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert b"<v></v>" in part or b"<v />" in part
                part = part.replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>")
            new.writestr(name, part)
    assert read(path).column("text") == ["2", "b"]


def test_empty_rows_and_cells(tmp_path):
    rows = [[], ["text", "label", None], [], ["a", "x"], [None, None], ["b", "y"], [None], [""]]
    read_rows = read(write(tmp_path / "a.xlsx", rows))
    assert pairs(read_rows) == [("a", "x"), ("b", "y")] and read_rows.column("line") == [4, 6]
    assert read_rows.accounting() == {
        "read": 2, "used": 2, "skipped": {}, "unused": {}, "dropped": {}, "blank_lines": 3,
        "other_lines": {"header": 1},
    }  # fmt: skip


def test_invalid_rows_are_reported_with_their_number(tmp_path):
    rows = [
        ["text", "label"],
        ["a", "x"],
        ["#N/A", "x"],
        ["text", "label"],
        ["b", "y", "z"],
        [None, "y"],
        ["c"],
        ["d", "y", None],
    ]
    path = write(tmp_path / "a.xlsx", rows)
    with pytest.raises(DataError) as raised:
        read(path)
    message = str(raised.value)
    for expected in (
        f"{path}, row 3: the cell A3 has the error #N/A",
        f"{path}, row 4: the header is repeated",
        f"{path}, row 5: 3 columns where 2 are expected",
        f"{path}, row 6: empty text",
        f"{path}, row 7: no label",
    ):
        assert expected in message
    rows = read(path, on_bad_row="skip", max_skipped=1.0)
    assert pairs(rows) == [("a", "x"), ("d", "y")]
    assert rows.bad.read == 7 and len(rows.bad) == 5
    ragged = read(path, on_bad_row="skip", max_skipped=1.0, ragged=True)
    assert pairs(ragged) == [("a", "x"), ("b", "y"), ("d", "y")]
    assert ragged.bad.dropped == {"text after the last column ignored": 1}


def test_the_first_visible_sheet_is_read(tmp_path):
    lists = [["text", "label"], ["no", "no"]]
    path = write(tmp_path / "a.xlsx", lists, ROWS, lists, Sheet1="hidden")
    rows = read(path)
    assert len(rows) == 3
    assert rows.bad.notes == ["only the first sheet, 'Sheet2', is read, not 'Sheet3'"]


def test_columns_are_proposed(tmp_path):
    table = [["review", "sentiment"], *([f"a long text {n}", "pos" if n % 3 else "neg"]
                                        for n in range(30))]  # fmt: skip
    path = write(tmp_path / "a.xlsx", table)
    with pytest.raises(ColumnNotFound, match=r"data.text: column 'text' not found.*review"):
        read(path)
    config = DataConfig(name="x")
    assert detect_columns(path, config) == ["data.text=review", "data.label=sentiment"]
    with pytest.raises(DataError, match="the file has no header"):
        read(path, header=False)


def test_rows_to_predict_keep_their_columns(tmp_path):
    path = write(tmp_path / "a.xlsx", ROWS)
    rows = prediction_rows.open_input_file(str(path), DataConfig(name="x"), keep="all")
    assert rows.kept_names == ("label", "text", "date") and rows.unit == "row"
    kept = [fields[1:] for _, fields in rows.read(BadRows("a.xlsx"))]
    assert kept[0] == ["pos", "good, really", None] and kept[1][2] == "7"


def test_a_workbook_on_standard_input(tmp_path):
    path = write(tmp_path / "a.xlsx", ROWS)
    with path.open("rb") as stream:
        stored = store_standard_input(stream, tmp_path / "rows", DataConfig(name="x"))
    assert stored.suffix == ".xlsx" and len(read(stored)) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.xlsx",
            b"text,label\na,b\n",
            r"a\.xlsx: not a valid Excel workbook \(File is not a zip",
        ),
        ("a.xlsx", b"", "not a valid Excel workbook"),
        ("a.xlsx", b"PK\x03\x04 packed", "not a valid Excel workbook"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"\(.xls\), or has a password.*as .xlsx"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document.*as .xlsx or CSV"),
        ("a.csv", b"PK\x03\x04 packed", "a zip archive.*Rename a workbook to end in .xlsx"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_damaged_workbooks_are_refused(tmp_path):
    content = write(tmp_path / "a.xlsx", ROWS).read_bytes()
    for size in (60, len(content) // 2, len(content) - 30):
        (tmp_path / "a.xlsx").write_bytes(content[:size])
        with pytest.raises(DataError, match="not a valid Excel workbook"):
            read(tmp_path / "a.xlsx")
    for position in range(100, len(content), 211):  # damage is found, or does not matter
        changed = bytearray(content)
        changed[position] ^= 0xFF
        (tmp_path / "a.xlsx").write_bytes(changed)
        try:
            assert len(read(tmp_path / "a.xlsx", on_bad_row="skip", max_skipped=1.0)) <= 3
        except DataError as error:
            assert str(tmp_path / "a.xlsx") in str(error)  # noqa: PT017
    with pytest.raises(DataError, match="the sheet is empty"):
        read(write(tmp_path / "a.xlsx", []))
    with pytest.raises(DataError, match=r"empty .only the first sheet, 'Sheet1', is read, not 'Sh"):
        read(write(tmp_path / "a.xlsx", [], ROWS))


def test_a_title_above_the_names_of_the_columns(tmp_path):
    path = write(tmp_path / "a.xlsx", [["Survey"], ["text", "label"], ["a", "x"]])
    with pytest.raises(DataError, match=r"row 1 has one cell: it is a title.* Delete the rows"):
        read(path)


def test_a_workbook_that_expands_too_much_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.xlsx", [["text", "label"], *(["a" * 1000, "x"] for _ in range(99))])
    monkeypatch.setattr(compressed_files, "_MIN_LIMIT", 1_000)
    monkeypatch.setattr(compressed_files, "MAX_EXPANSION", 1)
    with pytest.raises(DataError, match=r"expands to .* bytes, more than the limit of .* bytes"):
        read(path)


def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    path = write(tmp_path / "a.xlsx", ROWS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        DataError, match=r'needs the package openpyxl.*pip install "bertft\[excel\]"'
    ):
        read(path)
