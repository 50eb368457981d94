"""Real runs beside each other: the table, the page, what is evaluated once, what is refused."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from small_runs import read, run_bertft, write_task

from bertft.report.compare import row_statistics

OTHER = ("method=head", "trainer.epochs=1")


@pytest.fixture
def runs(trained, tmp_path):
    """Two methods, one of them with two seeds, in folders that a test may change.

    They have no row statistics, as runs of version 0.1.0.
    """
    made = {
        "lora": trained("classification"),
        "lora 1": trained("classification", "seed=1"),
        "头 <b>": trained("classification", *OTHER),
    }
    for name, path in made.items():
        ignored = shutil.ignore_patterns("row_scores.npz")
        shutil.copytree(path, tmp_path / "all" / name, symlinks=True, ignore=ignored)
    return tmp_path / "all"


class Page(HTMLParser):
    """What stands in a page's cells, and whatever would make a browser ask for more."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.cells, self._open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        links = [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.fetched += [link for link in links if not link.startswith("#")]
        self.fetched += [tag] if tag in ("script", "link", "iframe", "img") else []
        self._open = tag == "td"

    def handle_data(self, data):
        if self._open:
            self.cells.append(data)


def test_the_table_of_predictions_needs_only_the_validation_rows(runs, work_dir, trained):
    words = ((), ("seed=1",), OTHER)
    files = [trained("classification", *more).parent / "train.csv" for more in words]
    contents = {file: file.read_bytes() for file in files}
    try:
        for file, content in contents.items():
            file.write_bytes(content.splitlines(keepends=True)[0] + b"another text,pos\n")
        result = run_bertft("compare", f"runs={runs}", "draws=100", "out=page.html")
    finally:
        for file, content in contents.items():
            file.write_bytes(content)
    assert result.status == 0, result
    text = (work_dir / "page.html").read_text(encoding="utf-8")
    assert "predicts correctly:" in text and "not those that the run" not in text


def test_runs_of_one_folder(runs, work_dir):
    result = run_bertft("compare", f"runs={runs}", "draws=500", "out=page/one.html")
    assert result.status == 0, result
    assert result.out.splitlines()[-1] == "page: page/one.html"
    assert result.err.count("computing the validation outputs") == 3
    lora, head = (
        next(x for x in result.out.splitlines() if f"│ {n}" in x) for n in ("lora", "head")
    )
    assert re.search(r" ± 0\.\d{4} ", lora) and "±" not in head, "the std of two seeds"
    assert "paired bootstrap" in result.out
    assert result.out.count("24 rows read = 24 used") == 1, "the validation rows of all three"
    assert not (work_dir / "outputs").exists(), "out= leaves nothing elsewhere"
    text = (work_dir / "page" / "one.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.fetched == [] and not re.search(r"url\((?!#)", text) and "@import" not in text
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text
    values = [read(path / "metrics.json")["best"]["value"] for path in runs.iterdir()]
    for value in values:
        assert f"{value:.4f}" in page.cells
    assert str(runs / "头 <b>") in page.cells  # escaped, and so one text again
    assert text.count("<svg") == 3, "the trade-off, the metric and the loss"
    for section in ('id="curves"', 'id="changes"'):
        assert section in text
    assert "→ wrong" in text or "predicts correctly: 0." in text

    again = run_bertft("compare", f"runs={runs}", "draws=500")
    assert again.status == 0 and "computes" not in again.err, "kept beside the runs"
    assert again.out.splitlines()[:-1] == result.out.splitlines()[:-1]
    assert again.out.splitlines()[-1].startswith("page: outputs/compare/")


def test_what_rows_add_is_what_training_scored(runs):
    assert run_bertft("compare", f"runs={runs}", "draws=1").status == 0
    for folder in runs.iterdir():
        with np.load(folder / "row_scores.npz") as file:
            terms = file["terms"]
        content = read(folder / "metrics.json")["validation"]
        assert float((terms[:, 0] == terms[:, 1]).mean()) == pytest.approx(content["accuracy"])
        assert float(terms[:, 2].mean()) == pytest.approx(content["loss"], rel=1e-9)


def test_training_keeps_the_statistics_of_its_rows(runs, trained):
    """They are those that compare computes, so that it need not evaluate the run."""
    run = trained("classification")
    assert run_bertft("compare", f"runs={runs}", "draws=1").status == 0
    with (
        np.load(run / "row_scores.npz") as stored,
        np.load(runs / "lora" / "row_scores.npz") as new,
    ):
        assert str(stored["key"]) == str(new["key"])
        np.testing.assert_array_equal(stored["rows"], new["rows"])
        np.testing.assert_allclose(stored["terms"], new["terms"], rtol=1e-6)
    result = run_bertft("compare", f"runs=[{run},{runs / '头 <b>'}]", "draws=1")
    assert result.status == 0 and "computing the validation" not in result.err


def test_a_damaged_file_of_scores_is_made_again(runs):
    assert run_bertft("compare", f"runs={runs}", "draws=1").status == 0
    (runs / "lora" / "row_scores.npz").write_bytes(b"PK\3\4 nothing")
    result = run_bertft("compare", f"runs={runs}", "draws=1")
    assert result.status == 0 and result.err.count("computing the validation outputs") == 1


CHANGES = {
    "multi_label": "predicts correctly:",
    "regression": ">absolute error<",
    "question_answering": "predicts correctly:",
    "token_classification": ">true entities<",
}


@pytest.mark.parametrize("task", CHANGES)
def test_the_page_lists_the_rows_whose_answer_changed(task, trained, work_dir):
    paths = [trained(task), trained(task, *OTHER)]
    words = f"runs=[{','.join(map(str, paths))}]"
    result = run_bertft("compare", words, "draws=20", "out=page.html")
    assert result.status == 0 and "computing the validation" not in result.err, result
    text = (work_dir / "page.html").read_text(encoding="utf-8")
    changes = text.partition('id="changes"')[2].partition("</section>")[0]
    assert CHANGES[task] in changes, changes[:2000]


def test_a_file_of_scores_without_answers_is_completed(runs, work_dir):
    words = ("compare", f"runs={runs}", "draws=20", "out=page.html")
    assert run_bertft(*words).status == 0
    file = runs / "lora" / "row_scores.npz"
    content = file.read_bytes()
    write_without_answers(file)
    again = run_bertft(*words)
    assert again.err.count("computing the validation outputs") == 1
    assert file.read_bytes() == content


def write_without_answers(file):
    """As version 0.1.0 wrote the file."""
    with np.load(file) as stored:
        key, rows, terms = (stored[name] for name in ("key", "rows", "terms"))
    digest = row_statistics._arrays_sha256(rows, terms)
    np.savez(file, key=key, rows=rows, terms=terms, digest=digest)


def train_two_and_change_rows(folder):
    """Two runs in ``folder``/own, whose validation file then gets another row; their scores."""
    data = write_task(folder, "classification")
    for seed in (0, 1):
        result = run_bertft(
            "train", "model=tiny", *data, "trainer.max_steps=4", "quiet=true", f"data.seed={seed}",
            f"hydra.run.dir=own/{seed}",
        )  # fmt: skip
        assert result.status == 0, result
    with open(folder / "validation.csv", "a", encoding="utf-8") as file:
        file.write("one more,pos\n")
    return [folder / "own" / seed / "row_scores.npz" for seed in "01"]


def test_scores_without_answers_are_used_if_the_rows_have_changed(work_dir, tmp_path):
    for scores in train_two_and_change_rows(tmp_path):
        write_without_answers(scores)
    result = run_bertft("compare", "runs=own", "draws=50")
    assert result.status == 0 and "difference to" in result.out, result


def test_against_one_of_them(runs):
    result = run_bertft("compare", f"runs={runs}", "draws=50", f"against={runs / '头 <b>'}")
    assert result.status == 0 and "difference to head" in result.out
    wrong = run_bertft("compare", f"runs={runs}", "draws=50", "against=heat")
    assert wrong.refused and "Did you mean 'head'?" in wrong.err


def test_no_draws_evaluate_nothing(runs):
    result = run_bertft("compare", f"runs={runs}", "draws=0")
    assert result.status == 0 and "computes the validation" not in result.err
    assert "difference to" in result.out and "not computed: draws=0" in result.out


def test_other_rows_are_not_paired_and_this_is_reported(runs, trained):
    words = ["data=sample", "data.max_train_rows=64", "trainer.max_steps=4"]
    result = run_bertft("train", "model=tiny", *words, "quiet=true", "hydra.run.dir=sample")
    assert result.status == 0, result
    actual = run_bertft("compare", f"runs=[{runs},sample]", "draws=50")
    assert actual.status == 0, actual
    assert "not computed: no other run was evaluated on its validation rows" in actual.out


def test_rows_that_changed_since_are_reported(runs, work_dir, tmp_path):
    for scores in train_two_and_change_rows(tmp_path):
        scores.unlink()  # the rows are read again
    actual = run_bertft("compare", "runs=own", "draws=50")
    assert actual.status == 0, actual
    assert "the validation rows are not those that the run was trained with" in actual.out


def test_what_cannot_be_compared(runs, trained, work_dir):
    lora = runs / "lora"
    assert "at least two runs" in run_bertft("compare", f"runs={lora}").err
    assert run_bertft("compare", f"runs=[{lora},{lora}]").refused, "the same one twice"
    missing = run_bertft("compare", f"runs=[{lora},{runs / 'lara'}]")
    assert missing.refused and "there is no such folder" in missing.err and "lora" in missing.err
    (runs / "lora 1" / "metrics.json").unlink()
    unfinished = run_bertft("compare", f"runs=[{lora},{runs / 'lora 1'}]")
    assert (
        unfinished.refused and "is not finished. Resume it: bertft train resume=" in unfinished.err
    )
    left = run_bertft("compare", f"runs={runs}", "draws=0", "out=left")
    assert left.status == 0 and "lora 1 is not finished and is skipped" in left.err
    tasks = run_bertft("compare", f"runs=[{lora},{trained('regression')}]")
    assert tasks.refused and "different tasks: classification" in tasks.err
    metric = trained("classification", *OTHER, "data.metric=f1_macro")
    metrics = run_bertft("compare", f"runs=[{lora},{metric}]")
    assert metrics.refused and "different metrics: accuracy" in metrics.err
    assert run_bertft("compare").refused
    assert run_bertft("compare", "runs=[]").refused
    (work_dir / "file").touch()
    assert run_bertft("compare", f"runs={runs}", "out=file/x").refused
    assert not (work_dir / "outputs").exists()


def test_a_lower_loss_leads(trained):
    words = ("data.metric=loss",)
    one, two = trained("classification", *words), trained("classification", *words, *OTHER)
    result = run_bertft("compare", f"runs=[{one},{two}]", "draws=20", "out=x.html")
    assert result.status == 0, result
    losses = {folder: read(folder / "metrics.json")["best"]["value"] for folder in (one, two)}
    first = next(line for line in result.out.splitlines() if "best" in line)
    assert f"{min(losses.values()):.4f}" in first
