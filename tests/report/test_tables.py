from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from bertft.export.result_tables import parameter_table
from bertft.report.console import condensed_output
from bertft.report.tables import (
    finding_lines,
    result_lines,
    score_tables,
    training_tables,
)
from bertft.report.terminal_table import FittedTable

COUNTS = {
    "base": 109_482_240,
    "head": 1538,
    "parts": {
        "low_rank": {"trainable": 442_656, "kept": 295_104, "exported": 295_104},
        "prefix": {"trainable": 9_700_000, "kept": 9_700_000, "exported": 294_912},
    },
}
KINDS = ("trainable", "kept", "exported")
METRICS = {
    "best": {"metric": "f1_macro", "value": 0.90512, "step": 1250},
    "validation": {"accuracy": 0.91234, "f1_macro": 0.90512, "loss": 0.2312},
    "test": {"accuracy": 0.9021, "f1_macro": 0.9, "loss": 0.25},
    "train": {
        "seconds": 252.3, "rows_per_second": 812.3, "tokens_per_second": 24100.4,
        "peak_memory_bytes": 1_234_567_890, "steps": 3000, "loss": 0.21,
    },
    "parameters": {},
}  # fmt: skip


def rendered(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    return lines


def cells(lines):
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]


def test_parameters_by_component():
    lines = rendered(FittedTable(parameter_table(COUNTS)), 100)
    assert cells(lines) == [
        ["head and new modules", "1,538", "1,538", "1,538", "0.0014%", "6.2 kB"],
        ["low rank", "442,656", "295,104", "295,104", "0.40%", "1.2 MB"],
        ["prefix", "9,700,000", "9,700,000", "294,912", "8.9%", "1.2 MB"],
        ["total", "10,144,194", "9,996,642", "591,554", "9.3%", "2.4 MB"],
        ["full fine-tuning", "109,483,778", "109,483,778", "109,483,778", "100.0%", "438 MB"],
    ]
    assert "109,482,240" in lines[-1]


def test_a_head_alone_equals_the_total():
    counts = {"base": 990, "head": 10, "parts": {"head": dict.fromkeys(KINDS, 10)}}
    lines = cells(rendered(FittedTable(parameter_table(counts)), 100))
    assert lines[:2] == [
        ["head and new modules", "10", "1.0%", "40 B"],  # no pruning: one column of parameters
        ["total", "10", "1.0%", "40 B"],
    ]


def test_narrow_terminals_show_all_digits():
    lines = cells(rendered(FittedTable(parameter_table(COUNTS)), 50))
    column = "".join(line[1] for line in lines)
    for number in ("1,538", "442,656", "9,700,000", "10,144,194"):
        assert number in column


def test_the_selection_metric_comes_first():
    (table,) = training_tables(METRICS)
    lines = rendered(table)
    assert cells(lines) == [
        ["f1_macro", "0.9051", "0.9000"],
        ["accuracy", "0.9123", "0.9021"],
        ["loss", "0.2312", "0.2500"],
    ]
    assert lines[0].strip() == "Metrics at step 1,250"


def test_the_note_is_below_the_table():
    (table,) = training_tables(METRICS, "f1: positive class positive")
    assert rendered(table)[-1].strip() == "f1: positive class positive"


def test_a_run_without_validation_shows_only_test():
    best = {"metric": "f1_macro", "value": None, "step": None}
    metrics = {**METRICS, "best": best, "validation": None}
    (table,) = training_tables(metrics)
    assert [len(line) for line in cells(rendered(table))] == [2, 2, 2]
    assert training_tables({**metrics, "test": None}) == []
    assert result_lines(metrics, "x")[0].startswith("3,000 steps")


def test_groups_have_their_own_table():
    scores = {"f1": 0.5, "PER/f1": 0.25, "PER/support": 12}
    overall, groups = score_tables(scores, "f1", "test", 40)
    assert rendered(overall)[0].strip() == "test, 40 rows"
    assert cells(rendered(groups)) == [["PER", "0.2500", "12"]]


def test_without_a_test_set():
    (table,) = training_tables({**METRICS, "test": None})
    assert [len(line) for line in cells(rendered(table))] == [2, 2, 2]


def test_the_result_in_lines():
    assert result_lines(METRICS, "outputs/train/run 1") == [
        "f1_macro 0.9051 on validation, 0.9000 on test (step 1,250 of 3,000)",
        "3,000 steps in 4 min 12 s, 812 rows/s, 24,100 tokens/s, peak memory 1.2 GB",
        "run folder: outputs/train/run 1",
        "next:",
        "  bertft eval 'outputs/train/run 1'",
        "  bertft merge 'outputs/train/run 1' merged",
        "  bertft predict 'outputs/train/run 1' new.jsonl output=predictions.jsonl",
    ]


def test_the_merge_command_uses_a_new_folder():
    assert "  bertft merge x merged-2" in result_lines(METRICS, "x", merged="merged-2")


@pytest.mark.parametrize("prefix", [False, True])
def test_merging_a_prefix_needs_a_setting(prefix):
    lines = result_lines({**METRICS, "test": None}, "outputs/中文", prefix=prefix)
    assert lines[0] == "f1_macro 0.9051 on validation (step 1,250 of 3,000)"
    assert any(line.endswith(" merged prefix=separate") for line in lines) is prefix


def test_unknown_memory_is_a_dash():
    train = {**METRICS["train"], "peak_memory_bytes": None}
    assert result_lines({**METRICS, "train": train}, "x")[1].endswith("peak memory –")


def test_teacher_and_student_have_lines():
    teacher = {"value": 0.91, "parameters": 22_500_000, "bytes": 90_000_000}
    student = {"value": 0.9, "parameters": 17_000_000, "bytes": 68_000_000}
    distillation = {
        "metric": "accuracy",
        "teacher": {**teacher, "rows_per_second": 512.4},
        "student": {**student, "rows_per_second": None},
        "agreement": 0.954,
    }
    lines = result_lines({**METRICS, "distillation": distillation}, "run")
    assert lines[1:4] == [
        "teacher: accuracy 0.9100, parameters 22,500,000, size in fp32 90.0 MB, rows/s 512",
        "student: accuracy 0.9000, parameters 17,000,000, size in fp32 68.0 MB, rows/s –",
        "Teacher and student agree on 95.4% of the validation rows.",
    ]


def test_calibration_has_lines():
    fitted = {
        "temperature": 1.5, "threshold": 0.31, "ece": {"before": 0.08, "after": 0.02},
        "loss": {"before": 0.4, "after": 0.3},
        "tuned": {"metric": "f1", "before": 0.7, "after": 0.75},
    }  # fmt: skip
    errors = "expected calibration error 0.0800 → 0.0200, loss 0.4000 → 0.3000"
    gain = "f1 with the threshold 0.7000 → 0.7500"
    lines = result_lines({**METRICS, "calibration": fitted}, "run")
    assert lines[1] == f"calibration on validation: {errors}, {gain}"
    assert "temperature of 1.5" in lines[2] and "at least 0.31" in lines[2]
    per_label = {**fitted, "threshold": {"a": 0.1, "b": 0.2}}
    lines = result_lines({**METRICS, "calibration": per_label}, "run")
    assert "Each of the 2 labels has its own probability threshold." in lines[2]
    alone = {"temperature": None, "threshold": 0.31, "tuned": fitted["tuned"]}
    lines = result_lines({**METRICS, "calibration": alone}, "run")
    assert lines[1] == f"calibration on validation: {gain}"
    assert "temperature" not in lines[2]


def test_the_jobs_of_a_sweep_print_findings_on_the_data_once_and_on_the_result_per_job():
    def finding(kind):
        return {
            "kind": kind, "message": kind, "count": 1, "total": 2, "example": "", "advice": "Act",
        }  # fmt: skip

    metrics = {"findings": [finding("collapse")]}
    manifests = [
        {"data": {"findings": [finding("contradictions"), finding(kind)]}}
        for kind in ("truncated at 8", "truncated at 16")
    ]
    printed: set[str] = set()

    def add(key):
        is_new = key not in printed
        printed.add(key)
        return is_new

    with condensed_output(add):
        jobs = [finding_lines(metrics, manifest) for manifest in (*manifests, manifests[0])]
    collapse = "  - collapse. Act"
    assert jobs == [
        ["findings:", collapse, "  - contradictions. Act", "  - truncated at 8. Act"],
        ["findings:", collapse, "  - truncated at 16. Act"],
        ["findings:", collapse],
    ]
    for _ in range(2):  # nothing is left out outside of a sweep
        assert finding_lines(metrics, manifests[0]) == jobs[0]
