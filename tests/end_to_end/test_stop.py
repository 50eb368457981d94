"""A run that stops at a step and is resumed equals the uninterrupted run, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import outcome, read, read_lines, run_bertft, write_task

# An evaluation and a checkpoint after every third of the twelve steps; dropout draws numbers.
LOOP = (
    "train", "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=12",
    "trainer.evaluations=4", "trainer.keep_checkpoints=9", "trainer.log_every=1", "quiet=true",
    "report=false",
)  # fmt: skip
METHODS = {
    "lora": ("method=lora", "method.low_rank.dropout=0.2"),
    # Triplets are pruned from step 5 to step 7: the stops are before, during and after that.
    "svd_lora": (
        "method=svd_lora", "method.low_rank.interval=1", "method.low_rank.begin=0.34",
        "method.low_rank.dropout=0.2",
    ),
    "prefix": ("method=prefix", "method.prefix.mlp=true", "method.prefix.dropout=0.2"),
}  # fmt: skip


def checkpoints(run: Path) -> dict[str, bytes]:
    """The files of every checkpoint, without those that contain times."""
    files = (run / "checkpoints").glob("step-*/*")
    return {
        f"{file.parent.name}/{file.name}": file.read_bytes()
        for file in files
        if file.name not in ("files.json", "state.json")
    }


@pytest.mark.parametrize("method", METHODS)
def test_stopped_and_resumed_it_equals_the_uninterrupted_run(work_dir, method):
    words = [*LOOP, *METHODS[method], *write_task(work_dir, "classification")]
    assert run_bertft(*words, "hydra.run.dir=whole").status == 0
    whole = checkpoints(work_dir / "whole")
    stops = [("0.25", 3), ("6", 6), ("0.75", 9)] if method == "svd_lora" else [("0.5", 6)]
    for stop_at, step in stops:
        stopped = [*words, "hydra.run.dir=run", "resume=auto", f"trainer.stop_at={stop_at}"]
        result = run_bertft(*stopped)
        assert result.status == 0, result
        expected = f"stopped after step {step} of 12 (trainer.stop_at); resume with bertft train"
        assert expected in result.out
        assert not (work_dir / "run" / "metrics.json").exists()
        assert read(work_dir / "run" / "checkpoints" / "last" / "bertft.json")["step"] == step
        actual = checkpoints(work_dir / "run")
        assert actual == {name: whole[name] for name in actual}
        log = (work_dir / "whole" / "metrics.jsonl").read_bytes()
        assert log.startswith((work_dir / "run" / "metrics.jsonl").read_bytes())
        assert read_lines(work_dir / "run" / "timings.jsonl")[-1]["event"] == "stopped"
    assert run_bertft("train", "resume=run").status == 0
    assert outcome(work_dir / "run") == outcome(work_dir / "whole")
    assert checkpoints(work_dir / "run") == whole
    config = (work_dir / "whole" / "config.yaml").read_bytes()
    assert (work_dir / "run" / "config.yaml").read_bytes() == config
    if method == "svd_lora":
        lines = read_lines(work_dir / "run" / "metrics.jsonl")
        steps = {line["step"]: line for line in lines if line["event"] == "step"}
        budget = {step: line["measures"]["budget"] for step, line in steps.items()}
        assert budget[1] == budget[3] > budget[6] > budget[9] == budget[12], "the stops tell"


@pytest.mark.long
def test_a_stop_between_two_evaluations_and_one_that_is_passed(work_dir):
    words = [*LOOP, "method=lora", *write_task(work_dir, "classification")]
    assert run_bertft(*words, "hydra.run.dir=whole").status == 0
    assert run_bertft(*words, "trainer.stop_at=4", "hydra.run.dir=run").status == 0
    again = run_bertft("train", "resume=run", "trainer.stop_at=2")  # it has taken four steps
    assert again.status == 0 and "stopped after step 4 of 12" in again.out, again
    end = run_bertft("train", "resume=run", "trainer.stop_at=40")  # beyond the last step
    assert end.status == 0 and "stopped" not in end.out, end
    aside = {"steps": 0}  # the checkpoint of step 4 is one more
    assert outcome(work_dir / "run") | aside == outcome(work_dir / "whole") | aside
