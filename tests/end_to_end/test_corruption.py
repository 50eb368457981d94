"""Every file of a real checkpoint, cut, emptied, flipped and removed: named, skipped, not loaded.

What a run would go on from is looked for here as ``resume`` does; that it then ends the same is
shown in test_resume.py.
"""

from __future__ import annotations

import shutil

import pytest
from small_runs import run_bertft

from bertft.errors import DataError
from bertft.runs.checkpoints import CheckpointStore

FILES = (
    "adapter.safetensors", "bertft.json", "config.json", "files.json", "state.json",
    "state.safetensors", "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_by_one_byte(path):
    path.write_bytes(path.read_bytes()[:-2])


def emptied(path):
    path.write_bytes(b"")


def longer(path):
    path.write_bytes(path.read_bytes() + b"\0")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def removed(path):
    path.unlink()


def made_a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "inner").write_bytes(b"")


DAMAGE = (cut, cut_by_one_byte, emptied, longer, flipped, removed, made_a_folder)


@pytest.fixture
def checkpoints(trained, tmp_path):
    run = trained("classification", "method=lora")
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints", symlinks=True)
    return CheckpointStore(tmp_path / "checkpoints")


def test_these_are_all_the_files(checkpoints):
    for step in (8, 16):
        assert sorted(path.name for path in checkpoints.checkpoint_path(step).iterdir()) == sorted(
            FILES
        )
    assert checkpoints.find_checkpoint("last", with_state=True) == checkpoints.checkpoint_path(16)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_it_is_named_and_the_one_before_it_taken(checkpoints, name, damage):
    damage(checkpoints.checkpoint_path(16) / name)
    content = []
    actual = checkpoints.find_checkpoint("last", with_state=True, warn=content.append)
    assert actual == checkpoints.checkpoint_path(8)
    assert len(content) == 1 and str(checkpoints.checkpoint_path(16)) in content[0]
    if damage is removed and "state" in name:
        assert "its training state is missing" in content[0]
    elif (name, damage) == ("files.json", flipped):
        assert "damaged: " in content[0]  # a digest that is another one blames its file
    else:
        assert f"damaged: {name}: " in content[0]
    damage(checkpoints.checkpoint_path(8) / name)
    if damage is removed and "state" in name:
        return  # whole, but nothing to resume from: test_checkpoints.py tests it
    with pytest.raises(DataError, match="no intact checkpoint"):
        checkpoints.find_checkpoint("last", with_state=True)
    with pytest.raises(DataError, match="damaged"):
        checkpoints.find_checkpoint("8")


def test_a_resume_starts_from_the_one_before(copied):
    """All kinds of damage at once, through the command line."""
    run = copied("classification", "method=lora")
    (run / "metrics.json").unlink()
    for damage, name in zip(DAMAGE, FILES, strict=False):
        damage(run / "checkpoints" / "step-16" / name)
    result = run_bertft("train", f"resume={run}")
    assert result.status == 0 and "step-16: damaged: " in result.err, result
    assert run_bertft("verify", f"run={run}").status == 0, "what it left is whole"
