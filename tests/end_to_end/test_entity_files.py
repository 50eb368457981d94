"""Entities from the file of an annotation tool: train, eval and predict with original offsets."""

from __future__ import annotations

import json

from small_runs import QUICK, answers, read, run_bertft

TEXTS = [
    ("Ann Lee  sang 😀\tin Oslo.", [[0, 7, "PER"], [19, 23, "LOC"]]),
    ("叶老桂说 2019年 in 北京", [[0, 3, "PER"], [14, 16, "LOC"]]),
]


def test_spans_from_training_to_predictions(work_dir):
    rows = [
        {"text": text, "spans": [dict(zip(("start", "end", "label"), span, strict=True))
                                 for span in spans], "answer": answer}
        for text, spans in TEXTS
        for answer in ["accept"] * 8 + ["reject"]
    ]  # fmt: skip
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (work_dir / "train.jsonl").write_text(content, encoding="utf-8")
    command = ("train", "train.jsonl", *QUICK[:-1], "method=full", "hydra.run.dir=run")
    result = run_bertft(*command)
    assert result.refused and "data.task=token_classification" in result.err, result
    result = run_bertft(
        *command, "data.task=token_classification", "trainer.max_steps=20",
        "trainer.learning_rate=2e-3",
    )  # fmt: skip
    assert result.status == 0, result
    assert "18 rows read = 14 used" in result.out and "2 rejected by the annotator" in result.out
    assert read(work_dir / "run/metrics.json")["best"]["value"] == 1.0

    result = run_bertft("eval", "run=run", "data.validation=train.jsonl", "hydra.run.dir=scored")
    assert result.status == 0 and "2 rejected by the annotator" in result.out, result
    assert read(work_dir / "scored/metrics.json")["validation"]["f1"] == 1.0
    predicted = answers(run_bertft("predict", "run=run", "input=train.jsonl"))
    assert len(predicted) == 18, "a rejected row is a text too"
    for answer, row in zip(predicted, rows, strict=True):
        assert answer["text"] == row["text"]
        spans = [
            {name: span[name] for name in ("start", "end", "label")} for span in answer["spans"]
        ]
        assert spans == row["spans"]
        assert all(row["text"][s["start"] : s["end"]] == s["text"] for s in answer["spans"])
