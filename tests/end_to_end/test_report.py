"""report.html and plots/ of real runs: whole, closed to the outside, and never a run's end."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from small_runs import QUICK, opinion, read, run_bertft, write_csv, write_task

HOSTILE = ("<script>alert(1)</script>", '"><img src="http://evil.example/x"> 好评 $x^2$')
RUN = (*QUICK, "report=true", "quiet=true", "trainer.max_steps=24", "trainer.evaluate_every=8")
RUN = tuple(word for word in RUN if not word.startswith(("trainer.epochs", "report=false")))


class Page(HTMLParser):
    """Tags, attributes and headings of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes, self.titles, self.ids = text, set(), [], [], []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        self._open.append(tag)

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        if self._open[-2:] == ["figcaption", "b"]:
            self.titles.append(data)


def page(run) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def drawn(path) -> bool:
    """Whether a PNG has more than its ground: both ink and the accent."""
    from matplotlib.image import imread

    pixels = imread(path)[..., :3]
    blue = (pixels[..., 2] - pixels[..., 0]) > 0.2
    return pixels.std() > 0.02 and pixels.min() < 0.6 and blue.sum() > 50


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """SVD-LoRA on classes with hostile names."""
    folder = tmp_path_factory.mktemp("report")
    rng = random.Random(3)
    for name, count in (("train", 96), ("test", 16), ("validation", 32)):
        rows = [(f"<b>{opinion(rng, bool(n % 2))}</b>\u202e", HOSTILE[n % 2]) for n in range(count)]
        write_csv(folder / f"{name}.csv", ("text", "label"), rows)
    files = [f"data.{name}={folder / name}.csv" for name in ("train", "validation", "test")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("BERTFT_CACHE", str(folder / "rows"))
        result = run_bertft(
            "train",
            *RUN,
            "method=svd_lora",
            "data=files",
            *files,
            f"hydra.run.dir={folder / 'run'}",
        )
    assert result.status == 0, result
    return folder / "run", result


def test_every_section(run):
    actual = page(run[0])
    sections = (
        "results",
        "training",
        "predictions",
        "method",
        "parameters",
        "speed",
        "data",
        "next",
        "settings",
    )
    assert [section_id for section_id in actual.ids if section_id in sections] == list(sections)
    has_errors = read(run[0] / "metrics.json")["validation"]["accuracy"] < 1
    assert actual.titles == [
        "Metrics", "Loss", "accuracy", "Learning rate", "Confusion matrix", "Scores per class",
        *(["Confident errors"] if has_errors else []),
        "Most uncertain predictions", "Budget", "Singular values, Σ |E|", "Rank after pruning",
        "Effective rank",
        "Parameters", "Throughput", "Time and memory", "Label balance", "Splits",
        "Provenance",
        "Changed settings",
    ]  # fmt: skip
    value = read(run[0] / "metrics.json")["best"]["value"]
    assert f"<b>{value:.4f}</b>" in actual.text
    assert "full fine-tuning" in actual.text
    changed = actual.text.partition("<details>")[0].rpartition("<tbody>")[2]
    names = re.findall(r'name">([\w.]+)<', changed)
    assert {"method.name", "data.name", "trainer.batch_size"} <= set(names)
    assert "trainer.beta1" not in names


def test_no_network_is_needed(run):
    actual = page(run[0])
    assert not actual.tags & {"script", "img", "link", "iframe", "object", "base", "form", "image"}
    links = [value for name, value in actual.attributes if name in ("src", "href", "xlink:href")]
    assert links and all(value.startswith("#") for value in links)
    assert not any(
        "http:" in (value or "") or "https:" in (value or "") for _, value in actual.attributes
    )
    assert "@import" not in actual.text
    assert not re.search(r"url\((?!#)", actual.text)
    assert "default-src 'none'" in actual.text
    defined = set(actual.ids)
    assert len(defined) == len(actual.ids)
    assert {value[1:] for value in links} <= defined
    assert set(re.findall(r"url\(#([^)]*)\)", actual.text)) <= defined


def test_hostile_names_are_text(run):
    actual = page(run[0])
    assert "&lt;script&gt;alert(1)" in actual.text
    assert "&lt;b&gt;the " in actual.text
    assert "好评" in actual.text
    assert "#2f5fd0" not in actual.text.partition("</style>")[2]  # pictures follow the theme
    assert "var(--accent)" in actual.text.partition("</style>")[2]


def test_pictures_are_drawn(run):
    names = {path.name for path in (run[0] / "plots").iterdir()}
    assert names == {
        f"{name}.png"
        for name in (
            "loss", "metric", "learning_rate", "confusion", "budget", "singular_values", "ranks",
            "effective_ranks", "throughput",
        )
    }  # fmt: skip
    assert [name for name in sorted(names) if not drawn(run[0] / "plots" / name)] == []


def test_the_run_stays_what_it_was(run):
    assert f"report: {run[0] / 'report.html'}" in run[1].out
    assert run_bertft("verify", f"run={run[0]}").status == 0


def test_a_picture_that_fails_is_named(monkeypatch, tmp_path):
    def broken(*_):
        raise RuntimeError("no <ink> left")

    monkeypatch.setattr("bertft.report.plots.heat_map.new_figure", broken)
    result = run_bertft("train", *RUN, *write_task(tmp_path, "classification"), "hydra.run.dir=run")
    assert result.status == 0, result
    assert "the picture confusion could not be drawn (RuntimeError: no <ink> left)" in result.err
    assert "could not be drawn" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    actual = page(tmp_path / "run")
    assert "could not be rendered: RuntimeError: no &lt;ink&gt; left" in actual.text
    assert "Scores per class" in actual.titles
    assert not (tmp_path / "run" / "plots" / "confusion.png").exists()
    assert drawn(tmp_path / "run" / "plots" / "loss.png")


@pytest.mark.parametrize(
    "what",
    [
        "bertft.report.page.render.render_run_report",
        "bertft.report.run_report.padding_fraction",
        "bertft.tasks.classification.confusion_item",
    ],
)
def test_a_report_that_fails_ends_no_run(monkeypatch, tmp_path, what):
    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(what, broken)
    result = run_bertft("train", *RUN, *write_task(tmp_path, "classification"), "hydra.run.dir=run")
    assert result.status == 0, result
    assert result.err.count("warning: ") == 1 and "No space left on device" in result.err
    assert read(tmp_path / "run" / "metrics.json")["best"]["step"]
    whole = what.startswith("bertft.tasks")  # the rest of the page is there
    assert ("report: " in result.out) is whole


def test_none_where_none_is_wanted(trained):
    names = {path.name for path in trained("classification").iterdir()}
    assert not names & {"report.html", "plots"}


@pytest.mark.parametrize(
    ("task", "titles"),
    [
        ("regression", {"Predicted against true values", "Largest errors", "Labels"}),
        ("multi_label", {"Scores per class", "Confident errors", "Label balance"}),
        (
            "question_answering",
            {"Scores by answerability", "Answered questions", "Most uncertain predictions"},
        ),
        ("masked_lm", {"Largest errors", "Tokens with the highest loss"}),
        (
            "token_classification",
            {"Scores per entity type", "Confusion matrix", "Most uncertain predictions"},
        ),
    ],
)
def test_what_tasks_show(tmp_path, task, titles):
    words = [*write_task(tmp_path, task), "trainer.max_steps=3", "hydra.run.dir=run"]
    result = run_bertft("train", *RUN, *words)
    assert result.status == 0 and "warning" not in result.err, result
    assert titles <= set(page(tmp_path / "run").titles)


def test_the_title_names_data_and_method(run):
    """The files of this run say nothing: the title is the name of their folder."""
    actual = page(run[0])
    assert f"<h1>svd_lora <span>on</span> {run[0].parent.name}</h1>" in actual.text


def test_findings_are_in_the_files_the_terminal_and_the_page(tmp_path):
    """A model that is not trained predicts one class; texts of validation are also in train."""
    rows = [(f"text number {n} of the file {n * 7919}", "ab"[n % 2]) for n in range(40)]
    write_csv(tmp_path / "train.csv", ("text", "label"), [*rows, (rows[0][0], "b")])
    write_csv(tmp_path / "validation.csv", ("text", "label"), [*rows[:4], ("quite another", "a")])
    files = [f"data.{name}={tmp_path / name}.csv" for name in ("train", "validation")]
    words = ["data=files", *files, "trainer.learning_rate=1e-9", "method.head_learning_rate=1e-9"]
    result = run_bertft("train", *RUN, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert result.status == 0, result
    on_data = read(tmp_path / "run" / "manifest.json")["data"]["findings"]
    on_predictions = read(tmp_path / "run" / "metrics.json")["findings"]
    kinds = [finding["kind"] for finding in (*on_predictions, *on_data)]
    assert kinds == ["one_predicted_class", "contradictory_duplicates", "validation_texts_in_train"]
    text, printed = page(tmp_path / "run").text, result.out.partition("findings:")[2]
    for finding in (*on_predictions, *on_data):
        assert finding["message"] in printed and finding["advice"] in printed
        assert finding["message"].replace("'", "&#39;") in text
    assert text.index("3 findings") < text.index('id="results"')


def test_headline_metrics_have_intervals(run):
    metrics, text = read(run[0] / "metrics.json"), page(run[0]).text
    assert text.count("95% interval 0.") + text.count("95% interval 1.") == 2  # validation and test
    assert "bootstrap over the rows, 1,000 samples" in text
    assert "<td" in text and ">f1_micro<" not in text  # equal to the accuracy
    assert "f1_micro" in metrics["validation"]


def test_the_details_of_facts_break_between_phrases(run):
    text = page(run[0]).text
    assert re.search(r"<span>layout \w+,</span> <span>[\d.]+% if padded</span>", text)


def test_next_commands_are_complete(run):
    text = page(run[0]).text
    commands = re.findall(r"<code>(bertft [^<]+)</code>", text)
    assert [command.split()[1] for command in commands] == ["eval", "merge", "predict", "compare"]
    predict = next(command for command in commands if " predict " in command).split()
    predict[-1] = f"output={run[0].parent / 'predictions.jsonl'}"
    result = run_bertft(*predict[1:])
    assert result.status == 0, result
    lines = (run[0].parent / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 16  # the test rows


def test_errors_and_uncertain_rows_are_different_rows(run):
    tables = re.findall(r"<b>(Confident errors|Most uncertain predictions)</b>(.*?)</table>",
                        page(run[0]).text, re.DOTALL)  # fmt: skip
    rows = {title: set(re.findall(r"validation\.csv:\d+", body)) for title, body in tables}
    assert rows["Most uncertain predictions"]
    assert not rows["Most uncertain predictions"] & rows.get("Confident errors", set())


def test_outputs_that_are_missing_are_computed(monkeypatch, tmp_path):
    """A run that was resumed after its best evaluation, and ``bertft report``, do not have them."""
    from bertft.cli.commands import train
    from bertft.report import run_report

    pages = []

    def write_twice(folder, config, data, task_model, metrics, outputs, warn, intervals):
        for given in ((outputs, intervals), ({}, None)):
            run_report.write_run_report(
                folder, config, data, task_model, metrics, given[0], warn, given[1]
            )
            pages.append((folder.path / "report.html").read_text(encoding="utf-8"))

    monkeypatch.setattr(train, "write_run_report", write_twice)
    words = write_task(tmp_path, "classification")
    assert run_bertft("train", *RUN, *words, "hydra.run.dir=run").status == 0
    assert pages[0] == pages[1] and "Confusion matrix" in pages[0]


def test_a_lost_report_is_made_again(run):
    """The same page, to the byte; a run that a kill cut off before it says how."""
    folder, lost = run[0], {}
    for path in (folder / "report.html", *(folder / "plots").iterdir()):
        lost[path] = path.read_bytes()
        path.unlink()
    halves = [folder / ".report.html.tmp-999999999", folder / "plots" / ".loss.png.tmp-999999999"]
    for path in halves:
        path.write_text("half")
    result = run_bertft("train", f"resume={folder}")
    assert result.status == 0 and f"bertft report run={folder}" in result.out, result
    result = run_bertft("report", f"run={folder}")
    assert result.status == 0 and f"report: {folder / 'report.html'}" in result.out, result
    assert {path: path.read_bytes() for path in lost} == lost
    assert not any(path.exists() for path in halves)
    assert "no report" not in run_bertft("train", f"resume={folder}").out
    assert run_bertft("verify", f"run={folder}").status == 0


def test_a_report_needs_a_finished_run(run, tmp_path):
    unfinished = tmp_path / "run"
    shutil.copytree(run[0], unfinished)
    (unfinished / "metrics.json").unlink()
    result = run_bertft("report", f"run={unfinished}")
    assert result.refused and "is not finished" in result.err, result
    assert run_bertft("report", f"run={tmp_path}").refused


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    "where",
    [
        "bertft.report.page.render.render_run_report",
        "bertft.report.run_report.padding_fraction",
        "bertft.tasks.classification.confusion_item",
        "bertft.report.plots.heat_map.new_figure",
    ],
)
def test_a_signal_is_no_failure_of_the_report(monkeypatch, copied, where, name):
    """The report names what it cannot show and goes on; a signal ends the command, wherever."""

    def signalled(*_, **__):
        signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr(where, signalled)
    run = copied("classification")
    result = run_bertft("report", f"run={run}")
    assert result.status == 128 + getattr(signal, name)
    assert result.out == "" and result.err.splitlines()[-1] == f"error: stopped by {name}"
    assert not (run / "report.html").exists()


def test_what_was_fitted_is_shown(tmp_path):
    words = [*write_task(tmp_path, "classification"), "trainer.max_steps=3", "hydra.run.dir=run"]
    result = run_bertft("train", *RUN, *words, "calibrate=temperature", "tune_threshold=true")
    assert result.status == 0, result
    content, actual = read(tmp_path / "run" / "metrics.json")["calibration"], page(tmp_path / "run")
    assert "Calibration" in actual.titles
    for value in (content["ece"]["before"], content["ece"]["after"], content["tuned"]["after"]):
        assert (f"{value:.4f}" if value >= 0.001 else f"{value:.3g}") in actual.text


def test_help_needs_no_drawing():
    code = (
        "import sys; from bertft.cli.app import main; main(['train', '--help', 'all']);"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'jinja2')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=900,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.size(done.stdout) and b"report" in done.stdout
