"""Which checkpoints are kept, which are found, and what damage costs."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from crash_runs import no_links, tree, writer

from bertft.errors import DataError, NonFiniteError, UsageError
from bertft.runs import checkpoint_pointers
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.files_json import find_damage, has_training_state

FILES = ["adapter.bin", "tokenizer/vocab.txt", "labels.json", "state.json", "files.json"]


def states(checkpoints) -> dict[int, bool]:
    """Step → whether it holds what a run goes on with; all must be whole."""
    assert [find_damage(checkpoints.checkpoint_path(step)) for step in checkpoints.steps()] == [
        [] for _ in checkpoints.steps()
    ]
    return {
        step: has_training_state(checkpoints.checkpoint_path(step)) for step in checkpoints.steps()
    }


def pointed(checkpoints) -> tuple[int | None, int | None]:
    folder = checkpoints.folder
    return checkpoint_pointers.read_pointer(folder, "last"), checkpoint_pointers.read_pointer(
        folder, "best"
    )


def test_what_a_checkpoint_is(checkpoints):
    path = checkpoints.find_checkpoint("last")
    assert path == checkpoints.folder / "step-20"
    assert sorted(tree(path)) == sorted([*FILES, "tokenizer"])
    assert os.readlink(checkpoints.folder / "last") == "step-20"
    assert os.readlink(checkpoints.folder / "best") == "step-10"
    assert sorted(os.listdir(checkpoints.folder)) == ["best", "last", "step-10", "step-20"]
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in path.glob("*.*")} == {0o666 & ~umask}


@pytest.mark.parametrize(
    ("keep", "bests", "expected"),
    [
        # keep 0: last, and the best without what training goes on with
        (0, [10], {10: False, 60: True}),
        (0, [10, 60], {60: True}),
        (0, [], {60: True}),
        # the best counts among the newest where it is one of them, and is no reason to drop others
        (1, [10], {10: False, 50: True, 60: True}),
        (1, [50], {40: True, 50: True, 60: True}),
        (2, [30], {30: False, 40: True, 50: True, 60: True}),
        (2, [20, 60], {40: True, 50: True, 60: True}),
        (9, [10], dict.fromkeys([10, 20, 30, 40, 50, 60], True)),
    ],
)
def test_rotation(tmp_path, keep, bests, expected):
    checkpoints = CheckpointStore(tmp_path / "checkpoints", keep=keep)
    best = None
    for step in range(10, 70, 10):
        best = step if step in bests else best
        checkpoints.save(step, writer(step), best=step in bests)
        assert pointed(checkpoints) == (step, best)
        assert checkpoints.find_checkpoint("last", with_state=True).name == f"step-{step}"
        if best is not None:
            assert checkpoints.find_checkpoint("best").name == f"step-{best}"
    assert states(checkpoints) == expected


def test_a_whole_one_is_taken_as_it_is(checkpoints):
    before = tree(checkpoints.folder)

    def fails(folder):
        raise AssertionError("it is there")

    assert checkpoints.save(20, fails, best=False) == checkpoints.checkpoint_path(20)
    assert tree(checkpoints.folder) == before


@pytest.mark.parametrize("damage", ["adapter.bin", "state.json", "files.json"])
def test_a_damaged_one_is_made_again(checkpoints, damage):
    before = tree(checkpoints.folder)
    (checkpoints.checkpoint_path(20) / damage).unlink()
    checkpoints.save(20, writer(20), best=False)
    assert tree(checkpoints.folder) == before


def test_going_on_from_an_earlier_one_drops_what_was_to_come(checkpoints):
    checkpoints.save(30, writer(30), best=True)
    (checkpoints.checkpoint_path(30) / "adapter.bin").write_bytes(b"")
    checkpoints.reset_pointers(20, best=None)
    checkpoints.save(25, writer(25), best=True)
    assert checkpoints.steps() == [20, 25]
    assert pointed(checkpoints) == (25, 25)


def test_protected_ones_are_kept_with_their_state(tmp_path):
    checkpoints = CheckpointStore(tmp_path / "checkpoints", keep=0)
    for step in range(10, 70, 10):
        checkpoints.save(step, writer(step), best=step in (10, 20, 40), protected=[10, 20])
    assert states(checkpoints) == {10: True, 20: True, 40: False, 60: True}
    checkpoints.save(70, writer(70), best=False, protected=[10])
    assert states(checkpoints) == {10: True, 40: False, 70: True}


@pytest.mark.parametrize("best", [None, 10])
def test_returning_to_an_earlier_one_removes_what_came_after(tmp_path, best):
    checkpoints = CheckpointStore(tmp_path / "checkpoints", keep=5)
    for step in range(10, 50, 10):
        checkpoints.save(step, writer(step), best=True)
    checkpoints.return_to(20, best)
    assert checkpoints.steps() == [10, 20] and pointed(checkpoints) == (20, best)
    # The step is taken again: its checkpoint is not that of the abandoned part.
    checkpoints.save(30, writer(31), best=False)
    assert (checkpoints.checkpoint_path(30) / "adapter.bin").read_bytes()[0] == 31
    assert not [name for name in os.listdir(checkpoints.folder) if name.startswith(".")]


def test_what_the_writer_raises_leaves_nothing(checkpoints):
    before = tree(checkpoints.folder)

    def fails(folder):
        writer(30)(folder)
        raise NonFiniteError("NaN")

    with pytest.raises(NonFiniteError):
        checkpoints.save(30, fails, best=True)
    assert tree(checkpoints.folder) == before


def test_a_link_is_never_saved(checkpoints, tmp_path):
    def links(folder):
        (folder / "adapter.bin").symlink_to(tmp_path / "elsewhere")

    before = tree(checkpoints.folder)
    with pytest.raises(ValueError, match=r"adapter\.bin is not a regular file"):
        checkpoints.save(30, links, best=True)
    assert tree(checkpoints.folder) == before


def test_what_dead_writers_left_is_removed_and_living_ones_are_left_alone(checkpoints):
    dead = 2**22 + 1  # beyond the largest that Linux gives
    for pid in (dead, os.getpid(), os.getppid()):
        left = checkpoints.folder / f".step-30.tmp-{pid}"
        left.mkdir()
        writer(30)(left)
    (checkpoints.folder / f".last.tmp-{dead}").symlink_to("step-10")
    (checkpoints.folder / ".notes").write_text("a user's own")
    checkpoints.save(30, writer(30), best=False)
    hidden = {name for name in os.listdir(checkpoints.folder) if name.startswith(".")}
    assert hidden == {f".step-30.tmp-{os.getppid()}", ".notes"}
    assert states(checkpoints) == {10: False, 20: True, 30: True}


@pytest.fixture
def three(checkpoints):
    """Steps 10, 20 and 30, the last the best, all with state."""
    checkpoints.keep = 2
    checkpoints.save(30, writer(30), best=True)
    assert states(checkpoints) == {10: True, 20: True, 30: True}
    return checkpoints


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
    "grown": lambda path: path.write_bytes(path.read_bytes() + b" x"),
    "linked": lambda path: (path.rename(path.parent.parent / "moved"), path.symlink_to("../moved")),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_named_and_skipped(three, name, damage):
    path = three.checkpoint_path(30)
    DAMAGES[damage](path / name)
    optional = (name, damage) == ("state.json", "removed")
    warnings: list[str] = []
    actual = three.find_checkpoint("last", with_state=True, warn=warnings.append)
    assert actual == three.checkpoint_path(20)
    assert three.checkpoint_path(20).is_dir()
    if optional:
        assert warnings == [f"{path}: its training state is missing"]
        assert (
            three.find_checkpoint("best")
            == three.find_checkpoint("30")
            == three.find_checkpoint("last")
            == path
        )
        return
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}: damaged: {name}: ")
    assert three.find_checkpoint("last", warn=warnings.append) == three.checkpoint_path(20)
    for which in ("best", "30"):
        with pytest.raises(DataError) as content:
            three.find_checkpoint(which)
        assert content.value.where == str(path)
        assert content.value.what.startswith(f"damaged: {name}: ")
    assert three.find_checkpoint("20") == three.checkpoint_path(20)


def test_several_damaged_ones_are_each_named(three):
    for step, name in ((30, "adapter.bin"), (20, "labels.json")):
        (three.checkpoint_path(step) / name).write_bytes(b"")
    warnings: list[str] = []
    assert three.find_checkpoint("last", warn=warnings.append) == three.checkpoint_path(10)
    assert [line.partition(": damaged: ")[2] for line in warnings] == [
        "adapter.bin: has 0 bytes, not 5000",
        "labels.json: has 0 bytes, not 19",
    ]
    (three.checkpoint_path(10) / "files.json").write_text("{")
    with pytest.raises(DataError, match=r"no intact checkpoint: step-30, step-20, step-10 are"):
        three.find_checkpoint("last")


def test_the_newest_is_gone(three):
    shutil.rmtree(three.checkpoint_path(30))
    warnings: list[str] = []
    assert three.find_checkpoint("last", warn=warnings.append) == three.checkpoint_path(20)
    assert warnings == [f"{three.checkpoint_path(30)}: last points to it, but it is missing"]
    with pytest.raises(
        DataError, match=r"best points to step-30, which is missing. The closest is 20"
    ):
        three.find_checkpoint("best")


def test_without_pointers_the_newest_is_found(three):
    for name in ("last", "best"):
        (three.folder / name).unlink()
    assert three.find_checkpoint("last") == three.checkpoint_path(30)
    with pytest.raises(
        UsageError, match=r"there is no best checkpoint. Available steps: 10, 20, 30"
    ):
        three.find_checkpoint("best")
    three.reset_pointers(30, best=20)
    assert pointed(three) == (30, 20)


def test_settle_agrees_with_the_state(three):
    (three.checkpoint_path(30) / "adapter.bin").write_bytes(b"")
    assert three.find_checkpoint("last", with_state=True) == three.checkpoint_path(20)
    three.reset_pointers(20, best=10)
    assert pointed(three) == (20, 10)
    (three.checkpoint_path(10) / "adapter.bin").write_bytes(b"")
    three.reset_pointers(20, best=20)
    three.reset_pointers(20, best=10)  # damaged: the other stays
    assert pointed(three) == (20, 20)


def test_settle_removes_what_a_killed_one_left(three):
    """A run that has nothing left to train saves no further checkpoint, which would."""
    left = three.folder / ".best.tmp-999999999"
    left.symlink_to("step-20")
    three.reset_pointers(30, best=20)
    assert not os.path.lexists(left)


def test_only_with_state_can_be_resumed_from(tmp_path):
    checkpoints = CheckpointStore(tmp_path / "checkpoints", keep=0)
    checkpoints.save(10, writer(10), best=True)
    checkpoints.save(20, writer(20), best=False)
    assert states(checkpoints) == {10: False, 20: True}
    for which in ("best", "10"):
        assert checkpoints.find_checkpoint(which) == checkpoints.checkpoint_path(10)
        with pytest.raises(UsageError, match=r"has no training state"):
            checkpoints.find_checkpoint(which, with_state=True)
    (checkpoints.checkpoint_path(20) / "state.json").unlink()
    assert checkpoints.find_checkpoint("last") == checkpoints.checkpoint_path(20)
    with pytest.raises(UsageError, match=r"no checkpoint has a training state"):
        checkpoints.find_checkpoint("last", with_state=True)
    (checkpoints.checkpoint_path(20) / "adapter.bin").unlink()
    with pytest.raises(
        DataError, match=r"no intact checkpoint with a training state: step-20 is damaged"
    ):
        checkpoints.find_checkpoint("last", with_state=True)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("21", "no checkpoint of step 21. The closest is 20. Available steps: 10, 20"),
        ("15", "no checkpoint of step 15. The closest is 20. Available steps: 10, 20"),
        ("3", "no checkpoint of step 3. The closest is 10. Available steps: 10, 20"),
        ("lats", "'lats' is not a checkpoint. Did you mean 'last'?"),
        ("020", "'020' is not a checkpoint. Did you mean '20'?"),
        ("../step-10", "'../step-10' is not a checkpoint"),
        ("-1", "'-1' is not a checkpoint"),
        ("", "'' is not a checkpoint. One of: best, last, 10, 20"),
    ],
)
def test_what_is_not_there(checkpoints, which, message):
    with pytest.raises(UsageError) as content:
        checkpoints.find_checkpoint(which)
    assert not isinstance(content.value, DataError)
    assert message in str(content.value)


@pytest.mark.parametrize("which", ["best", "last", "5"])
def test_nothing_saved_yet(tmp_path, which):
    with pytest.raises(UsageError, match=r"(?i)no checkpoint was saved yet"):
        CheckpointStore(tmp_path / "checkpoints").find_checkpoint(which)


def test_a_checkpoint_that_is_a_link_is_refused(checkpoints, tmp_path):
    shutil.move(checkpoints.checkpoint_path(20), tmp_path / "elsewhere")
    checkpoints.checkpoint_path(20).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"is a link"):
        checkpoints.find_checkpoint("20")
    assert checkpoints.find_checkpoint("last") == checkpoints.checkpoint_path(10)


def test_where_links_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "symlink", no_links)
    checkpoints = CheckpointStore(tmp_path / "checkpoints", keep=0)
    for step in (10, 20, 30):
        checkpoints.save(step, writer(step), best=step == 20)
    assert sorted(os.listdir(checkpoints.folder)) == [
        "best.json", "last.json", "step-20", "step-30",
    ]  # fmt: skip
    assert json.loads((checkpoints.folder / "last.json").read_text()) == {"checkpoint": "step-30"}
    assert checkpoints.find_checkpoint("best") == checkpoints.checkpoint_path(20)
    assert checkpoints.find_checkpoint("last", with_state=True) == checkpoints.checkpoint_path(30)
    monkeypatch.undo()
    checkpoints.save(40, writer(40), best=True)
    assert sorted(os.listdir(checkpoints.folder)) == ["best", "last", "step-40"]
