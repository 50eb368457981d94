"""Suspicious rows are found, and usual rows are not suspicious."""
# ruff: noqa: RUF001 (UTF-8 that was read as another encoding)

from __future__ import annotations

import pytest

from bertft.config.data import DataConfig
from bertft.data.row_checks import find_suspicious_rows
from bertft.data.row_findings import find_row_findings
from bertft.data.splits import load_splits

ROWS = [(f"a {'good' if n % 2 else 'bad'} film, number {n}", str(n % 2)) for n in range(40)]


def findings_of(path, rows, names=("text", "label"), **settings):
    lines = [names, *rows] if names else rows
    text = "".join(f'"{content}",{label}\n' for content, label in lines)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    config = DataConfig(
        name="files", train=str(path), on_bad_row="skip", max_skipped=1.0, **settings
    )
    splits = load_splits(config, ("train",))
    found = [*find_suspicious_rows(splits.train, splits.schema)]
    found += find_row_findings(splits, {}, 0, duplicates=True)
    return {finding.kind: finding for finding in found}


def test_usual_rows_have_no_findings(tmp_path):
    assert findings_of(tmp_path / "a.csv", ROWS) == {}


@pytest.mark.parametrize(
    ("kind", "rows", "count", "line"),
    [
        ("invalid_rows", [("", "1"), ("x", "")], 2, 42),
        ("invalid_rows", [("text", "label"), ("text", "label")], 2, 42),  # the header repeated
        ("invalid_rows", [("bytes \udce9", "1")], 1, 42),
        ("replacement_characters", [("caf\ufffd here", "1")], 1, 42),
        ("mojibake", [("un cafÃ© ici", "1"), ("itâ€™s", "0")], 2, 42),
        ("mojibake", [("ÐŸÑ€Ð¸", "0")], 1, 42),
        ("long_rows", [("word " * 3_000, "1")], 1, 42),
        ("duplicate_texts", [ROWS[0], ("A  BAD film, number 0", "0")], 2, 2),
        ("contradictory_duplicates", [(ROWS[0][0], "1")], 2, 2),
        ("single_row_classes", [("one more", "other")], 1, None),
    ],
)
def test_what_is_found(kind, rows, count, line, tmp_path):
    finding = findings_of(tmp_path / "a.csv", [*ROWS, *rows])[kind]
    assert finding.count == count and finding.advice
    if line is not None:
        assert f"a.csv:{line}" in finding.example


@pytest.mark.parametrize("text", ["São Paulo, Å, Ã, ä–ö", "naïve café — it's Ðalmatia", "Â."])
def test_accents_are_not_mojibake(text, tmp_path):
    assert "mojibake" not in findings_of(tmp_path / "a.csv", [*ROWS, (text, "1")])


def test_a_header_among_rows_without_a_header(tmp_path):
    rows = [*ROWS, ("sentence", "label"), *ROWS[:3]]
    found = findings_of(tmp_path / "a.csv", rows, None, text=0, label=1, header=False)
    assert found["header_as_row"].count == 1
    assert "a.csv:41" in found["header_as_row"].example


def test_labels_that_look_like_ids(tmp_path):
    rows = [(text, str(n // 3)) for n, (text, _) in enumerate(ROWS)]
    found = findings_of(tmp_path / "a.csv", rows)["labels_like_ids"]
    assert found.count == 14 and "data.label" in found.advice
