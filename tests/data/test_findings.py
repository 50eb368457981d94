from __future__ import annotations

from dataclasses import asdict

from bertft.data.findings import Finding, read_findings

FINDING = Finding("one_predicted_class", "All 8 rows are 'a'", 8, 8, "", "Train longer")


def test_findings_are_read_from_both_files():
    entry = asdict(FINDING)
    assert read_findings({"findings": [entry]}, {"data": {"findings": [entry]}}) == [FINDING] * 2
    assert read_findings({}, {"data": {}}) == []  # a run of an earlier version


def test_entries_that_bertft_did_not_write_are_ignored():
    entry = asdict(FINDING)
    damaged = [{**entry, "count": "8"}, {**entry, "more": 1}, {"kind": "x"}, 7, None]
    assert read_findings({"findings": damaged}, {"data": {"findings": "x"}}) == []


def test_a_finding_is_one_line():
    assert FINDING.format_line() == "All 8 rows are 'a'. Train longer"
