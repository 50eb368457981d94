"""Real runs of a tiny model, made once a session and shared by the tests that only look at them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from small_runs import QUICK, run_bertft, write_task


@pytest.fixture(autouse=True)
def work_dir(monkeypatch, tmp_path, tmp_path_factory) -> Path:
    """The folder that a test runs in; tokenised rows are kept for the session."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path_factory.getbasetemp() / "rows"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Iterator[Callable[..., Path]]:
    """``trained(task, *words)``: a run folder, made once a session. Copy it before a change."""
    runs: dict[tuple[str, ...], Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTFT_CACHE", str(tmp_path_factory.getbasetemp() / "rows"))

        def get(task: str = "classification", *words: str) -> Path:
            key = (task, *words)
            if key not in runs:
                folder = tmp_path_factory.mktemp(task)
                data = write_task(folder, task)
                result = run_bertft(
                    "train", *QUICK, *data, *words, "quiet=true", f"hydra.run.dir={folder / 'run'}"
                )
                assert result.status == 0, result
                runs[key] = folder / "run"
            return runs[key]

        yield get


@pytest.fixture
def copied(trained, tmp_path) -> Callable[..., Path]:
    """As ``trained``, but a copy that a test may change."""

    def get(*words: str) -> Path:
        return Path(shutil.copytree(trained(*words), tmp_path / "copied", symlinks=True))

    return get
