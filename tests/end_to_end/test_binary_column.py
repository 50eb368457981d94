"""A run on a 0/1 column: its classes have the name of the column in every later command."""

from __future__ import annotations

from small_runs import QUICK, answers, read, run_bertft, write_classes


def test_every_command_uses_the_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, count in (("train", 32), ("validation", 12)):
        path = write_classes(tmp_path / f"{name}.csv", count, count, names=("0", "1"))
        path.write_text(path.read_text().replace("text,label", "text,toxic"))
    words = ["data.train=train.csv", "data.validation=validation.csv", "data.label=toxic"]
    result = run_bertft("train", *QUICK, *words, "hydra.run.dir=run")
    assert result.status == 0 and "f1: positive class toxic" in result.out, result
    assert read(tmp_path / "run" / "manifest.json")["labels"] == ["not toxic", "toxic"]
    evaluated = run_bertft("eval", "run=run", "data.validation=validation.csv", "hydra.run.dir=out")
    assert evaluated.status == 0, evaluated
    recorded = read(tmp_path / "run" / "metrics.json")["validation"]["accuracy"]
    assert read(tmp_path / "out" / "metrics.json")["validation"]["accuracy"] == recorded
    (answer,) = answers(run_bertft("predict", "run=run", stdin='{"text": "so bad"}\n'))
    assert answer["label"] in ("toxic", "not toxic")
    assert run_bertft("merge", "run=run", "out=merged").status == 0
    assert read(tmp_path / "merged" / "config.json")["id2label"] == {"0": "not toxic", "1": "toxic"}
    resumed = run_bertft("train", "resume=run", "trainer.epochs=3")
    assert resumed.status == 0, resumed
    again = run_bertft("train", *QUICK, *words, "hydra.run.dir=run", "resume=auto",
                       "trainer.epochs=4")  # fmt: skip
    assert again.status == 0, again
