"""``bertft verify``: a run without damage is reported as whole, and every damaged file is named."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from small_runs import read, run_bertft

RUN = ("classification", "method=lora")


def flipped(path):
    """One bit of a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def removed(path):
    path.unlink()


DAMAGE = (flipped, emptied, truncated, removed)


def test_a_whole_run(trained):
    run = trained(*RUN)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    result = run_bertft("verify", f"run={run}")
    assert result.status == 0 and result.err == "", result
    lines = result.out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert [line.split()[1] for line in lines] == [
        "config.yaml", "manifest.json", "metrics.json", "metrics.jsonl", "timings.jsonl",
        "check_rows.jsonl", "base", "checkpoints/step-8", "checkpoints/step-16",
        "checkpoints/last", "checkpoints/best",
    ]  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_every_sealed_file_is_named(copied, damage):
    """All of them at once: each has its line, and the command ends with one error."""
    run = copied(*RUN)
    step, base = run / "checkpoints" / "step-16", run / "base"
    sealed = [
        path
        for path in sorted([*step.iterdir(), *base.iterdir()])
        if path.name != "files.json" and path.stat().st_size
    ]
    assert len(sealed) >= 9
    sealed = [p for p in sealed if not (damage is removed and p.stem == "state")]
    for path in sealed:
        damage(path)
    damage(run / "check_rows.jsonl")
    result = run_bertft("verify", f"run={run}")
    assert result.status == 2 and result.err.count("error: ") == 1 and "Traceback" not in result.err
    assert "check_rows.jsonl, base, checkpoints/step-16 have changed" in result.err
    for path in sealed:
        if path.parent == step:
            assert f"{path.name}: " in result.out, (path, result.out)
    assert "ok       checkpoints/step-8" in result.out


def repointed(run):
    (run / "checkpoints" / "best").unlink()
    (run / "checkpoints" / "best").symlink_to("step-8")
    if read(run / "metrics.json")["best"]["step"] == 8:
        (run / "checkpoints" / "best").unlink()
        (run / "checkpoints" / "best").symlink_to("step-16")


def unsealed(run):
    change(run / "manifest.json", lambda manifest: manifest.update(sealed=[1]))


def contradicted(run):
    change(run / "manifest.json", lambda manifest: manifest.update(labels=["a", "b", "c"]))


def hollow(run):
    step = run / "checkpoints" / "step-8"
    for file in step.iterdir():
        file.unlink()
    (step / "files.json").write_text('{"files": {}, "optional": []}')


def nested(run):
    with (run / "timings.jsonl").open("a") as file:
        file.write("[" * 200_000 + "\n")


def change(file, edit):
    content = read(file)
    edit(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "name", "what"),
    [
        (repointed, "checkpoints/best", "but metrics.json records step"),
        (lambda run: (run / "checkpoints" / "best").unlink(), "checkpoints/best", "is missing"),
        (lambda run: (run / "metrics.json").unlink(), "metrics.json", "is missing"),
        (unsealed, "manifest.json", "the entry 'sealed' is damaged"),
        (contradicted, "checkpoints/step-8", "labels differs from manifest.json"),
        (hollow, "checkpoints/step-8", "is missing"),
        (lambda run: (run / "base" / "files.json").unlink(), "base", "files.json"),
        (nested, "timings.jsonl", "cannot be read as JSON"),
    ],
)  # fmt: skip
def test_what_contradicts_the_rest(copied, damage, name, what):
    run = copied(*RUN)
    damage(run)
    result = run_bertft("verify", f"run={run}")
    assert result.status == 2 and "Traceback" not in result.err, result
    lines = result.out.splitlines()
    folder = next(n for n, line in enumerate(lines) if line.startswith(f"DAMAGED  {name}"))
    assert what in lines[folder + 1], result.out


def test_another_best_is_not_scored_in_its_place(copied):
    run = copied(*RUN)
    repointed(run)
    result = run_bertft("eval", f"run={run}")
    assert result.refused and "but metrics.json records step" in result.err, result


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("metrics.json", '"value": 0.', '"value": 0.9'),
        ("metrics.jsonl", '"loss": 0.', '"loss": 0.0'), ("config.yaml", "\nseed: 0", "\nseed: 7"),
        ("timings.jsonl", '"seconds": 0.', '"seconds": 0.0'),
    ],
)  # fmt: skip
def test_a_number_that_was_edited(copied, name, old, new):
    run = copied(*RUN)
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new, 1))
    result = run_bertft("verify", f"run={run}")
    assert result.status == 2 and f"{name} has changed" in result.err, result
    assert "its sha256 is not the recorded one" in result.out
    assert result.out.count("DAMAGED") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.yaml", "cannot be read"), ("manifest.json", "is missing"),
        ("metrics.json", "is missing"), ("metrics.jsonl", "is missing"),
        ("timings.jsonl", "is missing"),
        ("check_rows.jsonl", "cannot be read"), ("checkpoints/last", "is missing"),
        ("checkpoints/step-8/files.json", "files.json: is missing"),
        ("base/model.safetensors", "sha256"),
    ],
)  # fmt: skip
def test_a_file_that_is_gone(copied, name, message):
    run = copied(*RUN)
    (run / name).unlink()
    result = run_bertft("verify", f"run={run}")
    if name in ("config.yaml", "manifest.json"):
        assert result.refused and "is not a run folder" in result.err
    else:
        assert result.status == 2, result
        [line] = [
            text_line for text_line in result.out.splitlines() if text_line.startswith("DAMAGED")
        ]
        assert line.split()[1] in name
        assert message in result.out


def test_what_was_edited(copied):
    run = copied(*RUN)
    config = run / "base" / "config.json"
    config.write_text(json.dumps({**read(config), "layer_norm_eps": 0.1}))
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-2])
    rows = run / "check_rows.jsonl"
    rows.write_text(rows.read_text().replace("good", "fine"))
    os.unlink(run / "checkpoints" / "best")
    os.symlink("step-5", run / "checkpoints" / "best")
    shutil.copy(rows, run / "checkpoints" / "step-8" / "more.bin")
    result = run_bertft("verify", f"run={run}")
    assert result.status == 2, result
    for content in (
        "the last line is cut off", "its sha256 is not the recorded one",
        "has changed since the run was started", "points to step-5, which is missing",
        "more.bin: is not in files.json",
    ):  # fmt: skip
        assert content in result.out, (content, result.out)
    names = "metrics.jsonl, check_rows.jsonl, base, checkpoints/step-8, checkpoints/best"
    assert f"{names} have changed" in result.err


def test_a_run_that_was_cut_off_is_whole(copied):
    """The last line of a log may be half a line: a resume cuts it."""
    run = copied(*RUN)
    (run / "metrics.json").unlink()
    change(
        run / "manifest.json", lambda manifest: manifest.pop("sealed")
    )  # it comes with the result
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"event": "st')
    assert run_bertft("verify", f"run={run}").status == 0


def test_a_folder_that_holds_no_run(work_dir):
    result = run_bertft("verify", "run=.")
    assert result.refused and "is not a run folder" in result.err
    assert run_bertft("verify").refused


def test_a_name_with_a_line_break_makes_no_line_of_its_own(copied):
    run = copied(*RUN)
    (run / "checkpoints" / "step-16" / "a\nok       metrics.json").write_text("x")
    result = run_bertft("verify", f"run={run}")
    assert result.status == 2 and "a\\nok       metrics.json: is not in files.json" in result.out, (
        result
    )
