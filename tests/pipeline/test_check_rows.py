"""Rows for merge's check: spread over the split, and read back as they were."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bertft.data.rows import BadRows, Rows
from bertft.errors import DataError
from bertft.pipeline.check_rows import CHECK_ROW_COUNT, read_check_rows, write_check_rows


def rows(count, **columns):
    table = {"text": [f"text {n}" for n in range(count)], "line": list(range(1, count + 1))}
    return Rows(pa.table({**table, **columns}), BadRows("a.csv"))


@pytest.mark.parametrize(
    ("count", "expected_count"), [(1, 1), (63, 63), (64, 64), (65, 64), (1000, 64)]
)
def test_as_many_as_there_are_at_most_64(tmp_path, count, expected_count):
    write_check_rows(tmp_path / "rows.jsonl", rows(count))
    lines = read_check_rows(tmp_path / "rows.jsonl").column("line")
    assert len(lines) == expected_count <= CHECK_ROW_COUNT
    assert lines == sorted(set(lines)) and lines[0] == 1
    assert lines[-1] > count * (1 - 2 / expected_count)


@pytest.mark.parametrize(
    "labels", [["a", "好"], [0.5, 3.0], [["a"], []], [["a", "b"], ["c"]]],
)  # fmt: skip
def test_they_come_back_as_they_were(tmp_path, labels):
    texts = ['a "quoted"\n\r\t one', "\u2028 \u0085 \x0b \x1c 好 \U0001f600"]
    pairs = ["x", "\u2029"]
    before = Rows(
        pa.table({"text": texts, "text_pair": pairs, "label": labels, "line": [3, 9]}),
        BadRows("a.csv"),
    )
    write_check_rows(tmp_path / "rows.jsonl", before)
    after = read_check_rows(tmp_path / "rows.jsonl")
    assert after.table.to_pylist() == before.table.to_pylist()
    assert after.source == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("content", [b"", b"{", b'[1]\n"a"\n', b"\xff\n", b'{"text": "a"}\n\n'])
def test_damage_is_reported(tmp_path, content):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.jsonl: the validation rows for checking"):
        read_check_rows(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="Restore the file"):
        read_check_rows(tmp_path / "gone.jsonl")


def test_rows_nested_without_end_are_damaged(tmp_path):
    (tmp_path / "rows.jsonl").write_text("[" * 100_000)
    with pytest.raises(DataError, match="cannot be read"):
        read_check_rows(tmp_path / "rows.jsonl")
