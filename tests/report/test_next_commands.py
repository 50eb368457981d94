"""The commands that a report proposes."""

from __future__ import annotations

import json
from types import SimpleNamespace

from bertft.report.page.render import _other_run
from bertft.runs.run_folder import RunFolder


def context(folder, fingerprint):
    splits = {} if fingerprint is None else {"validation": {"fingerprint": fingerprint}}
    manifest = {"data": {"splits": splits}}
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text("{}")
    return SimpleNamespace(run=RunFolder(folder), manifest=manifest)


def test_the_other_run_has_the_same_validation_rows(tmp_path):
    one = context(tmp_path / "one", "a")
    context(tmp_path / "two", "b")
    assert _other_run(one) is None
    context(tmp_path / "three", "a")
    assert _other_run(one) == tmp_path / "three"


def test_runs_without_validation_rows_cannot_be_compared(tmp_path):
    one = context(tmp_path / "one", None)
    context(tmp_path / "two", None)
    assert _other_run(one) is None
