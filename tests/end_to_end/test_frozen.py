"""Run folders that earlier versions left: they load, score, answer, merge and go on.

``tests/frozen/<version>/`` is what that version wrote and is never made anew: a change that breaks
one of them breaks somebody's run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import answers, read, run_bertft

FROZEN = Path(__file__).parents[1] / "frozen"
VERSIONS = sorted(path.name for path in FROZEN.iterdir())
LINES = (
    '{"text": "the film was lovely and the plot great"}\n'
    '{"text": "a very dull book and the meal awful"}\n'
    '{"text": "the song was good and the room bad"}\n'
)
GOOD = {
    "0.1.0": [0.6670755, 0.3137135, 0.6690857]
}  # probability of "good", line by line, when the run was made


@pytest.fixture(params=VERSIONS)
def frozen(request, work_dir) -> tuple[str, Path]:
    shutil.copytree(FROZEN / request.param, work_dir, symlinks=True, dirs_exist_ok=True)
    return request.param, work_dir / "run"


def test_they_are_small():
    for version in VERSIONS:
        files = [path for path in (FROZEN / version).rglob("*") if path.is_file()]
        assert sum(path.lstat().st_size for path in files) < 200_000
    assert set(VERSIONS) == set(GOOD)


def test_it_is_whole(frozen):
    result = run_bertft("verify", f"run={frozen[1]}")
    assert result.status == 0, result


def test_it_scores_and_answers_as_it_did(frozen, work_dir):
    version, run = frozen
    assert run_bertft("eval", f"run={run}", "hydra.run.dir=scored").status == 0
    content, now = (
        read(run / "metrics.json")["validation"],
        read(work_dir / "scored" / "metrics.json"),
    )
    assert now["validation"] == pytest.approx(content, abs=1e-5)
    actual = answers(run_bertft("predict", f"run={run}", stdin=LINES))
    good = [a["score"] if a["label"] == "good" else 1 - a["score"] for a in actual]
    assert good == pytest.approx(GOOD[version], abs=1e-5)
    result = run_bertft("merge", f"run={run}", "out=merged", "prefix=beside")
    assert result.status == 0, result


def test_it_continues(frozen):
    _, run = frozen
    result = run_bertft("train", f"resume={run}", "trainer.max_steps=244", "quiet=true")
    assert result.status == 0, result
    assert read(run / "metrics.json")["train"]["steps"] == 244
