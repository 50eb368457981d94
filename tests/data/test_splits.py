from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from bertft.config.data import DataConfig
from bertft.data.rows import BadRows, Rows
from bertft.data.splits import load_splits
from bertft.errors import DataError, UsageError


def write(path, rows: int, classes: int = 4) -> str:
    lines = [f"text {row}\t{'abcd'[row % classes] if row % 10 else 'd'}" for row in range(rows)]
    path.write_text("text\tlabel\n" + "\n".join(lines))
    return str(path)


@pytest.fixture
def train(tmp_path) -> str:
    return write(tmp_path / "train.tsv", 1000)


def config(train: str, **settings) -> DataConfig:
    return DataConfig(name="files", train=train, **settings)


def test_validation_is_held_out_from_train_without_loss(train):
    splits = load_splits(config(train))
    assert (len(splits.train), len(splits.validation), splits.test) == (900, 100, None)
    assert splits.validation_from_train
    lines = splits.train.column("line") + splits.validation.column("line")
    assert sorted(lines) == list(range(2, 1002))
    assert splits.train.column("line") == sorted(splits.train.column("line"))
    assert splits.validation.column("line") == sorted(splits.validation.column("line"))


def test_skipped_rows_are_counted_once(tmp_path):
    path = tmp_path / "train.tsv"
    write(path, 100)
    path.write_text(path.read_text() + "\n\t a\n \tb\n")
    splits = load_splits(config(str(path), on_bad_row="skip", max_skipped=1.0))
    assert (splits.train.bad.counts.total(), splits.validation.bad.counts.total()) == (2, 0)
    splits.validation.bad.counts["later"] += 1
    assert splits.train.bad.counts.total() == 2


def test_held_out_rows_are_stratified(train):
    splits = load_splits(config(train, validation_fraction=0.15))
    whole = Counter(splits.train.column("label") + splits.validation.column("label"))
    held = Counter(splits.validation.column("label"))
    assert held.total() == 150
    assert all(abs(held[name] - 0.15 * count) < 1 for name, count in whole.items())


def test_a_class_of_one_row_stays_in_train(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{row}\ta\n" for row in range(20)) + "x\tb\n")
    for seed in range(5):
        assert "b" in load_splits(
            config(str(path), seed=seed, validation_fraction=0.5)
        ).train.column("label")


def test_held_out_rows_depend_on_the_seed_alone(train):
    def held(**settings):
        return load_splits(config(train, **settings)).validation.column("line")

    assert held() == held() == held(max_train_rows=10, on_bad_row="skip", max_skipped=1.0)
    assert held() != held(seed=1)


def test_regression_rows_are_held_out_at_random(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{row}\t{row / 7}\n" for row in range(100)))
    splits = load_splits(config(str(path), task="regression"))
    assert (len(splits.train), len(splits.validation)) == (90, 10)


def test_too_few_rows_to_hold_out_are_an_error(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\nx\ta\n")
    with pytest.raises(DataError, match="too few to hold out"):
        load_splits(config(str(path)))
    path.write_text("text\tlabel\nx\ta\ny\tb\n")
    with pytest.raises(DataError, match="every class has a single row"):
        load_splits(config(str(path)))


def test_samples_are_drawn_after_holding_out_and_keep_their_order(train):
    whole, drawn = (
        load_splits(config(train)),
        load_splits(config(train, max_train_rows=50, max_validation_rows=20)),
    )
    assert (len(drawn.train), len(drawn.validation)) == (50, 20)
    assert set(drawn.train.column("line")) < set(whole.train.column("line"))
    assert set(drawn.validation.column("line")) < set(whole.validation.column("line"))
    assert drawn.train.column("line") == sorted(drawn.train.column("line"))
    again = load_splits(config(train, max_train_rows=50, max_validation_rows=20))
    assert again.train.fingerprint == drawn.train.fingerprint
    other = load_splits(config(train, max_train_rows=50, seed=1))
    assert other.train.fingerprint != drawn.train.fingerprint


def test_a_sample_size_above_the_rows_selects_all(train):
    assert len(load_splits(config(train, max_train_rows=10_000)).train) == 900


def test_only_requested_splits_are_loaded(train, tmp_path):
    dev = write(tmp_path / "dev.tsv", 30)
    splits = load_splits(config(train, validation=dev), needed=("validation",))
    assert splits.train is None
    assert len(splits.validation) == 30
    assert not splits.validation_from_train
    assert splits.class_names == ["a", "b", "c", "d"]
    cut = load_splits(config(train), needed=("validation",))
    assert cut.train is None
    assert len(cut.validation) == 100


def test_train_is_not_opened_if_the_classes_are_known(tmp_path):
    dev = write(tmp_path / "dev.tsv", 30)
    gone = config(str(tmp_path / "gone.tsv"), validation=dev, labels=list("abcd"))
    assert len(load_splits(gone, needed=("validation",)).validation) == 30


def test_a_test_file_alone(tmp_path):
    file = write(tmp_path / "test.tsv", 30)
    splits = load_splits(DataConfig(name="files", test=file), needed=("test",))
    assert len(splits.test) == 30
    assert splits.class_names == ["a", "b", "c", "d"]


@pytest.mark.parametrize("need", [("train",), ("validation",), ("test",), ("train", "validation")])
def test_without_files_there_is_nothing_to_load(need):
    with pytest.raises(UsageError):
        load_splits(DataConfig(name="files"), needed=need)


def test_rows_have_files_and_a_fingerprint(train, tmp_path):
    splits = load_splits(config(train))
    assert splits.train.files == (train,)
    assert splits.train.location(0) == f"{train}:{splits.train.column('line')[0]}"
    copy = write(tmp_path / "copy.tsv", 1000)
    assert load_splits(config(copy)).train.fingerprint == splits.train.fingerprint
    more = write(tmp_path / "more.tsv", 1001)
    assert load_splits(config(more)).train.fingerprint != splits.train.fingerprint


def test_the_fingerprint_depends_on_text_boundaries(tmp_path):
    (tmp_path / "a.csv").write_text("ab,c,x\nd,e,y\n")
    (tmp_path / "b.csv").write_text("a,bc,x\nd,e,y\n")
    prints = {
        load_splits(
            DataConfig(
                name="x", train=str(tmp_path / name), validation=str(tmp_path / name),
                text=[0, 1], label=2,
            )
        ).train.fingerprint
        for name in ("a.csv", "b.csv")
    }  # fmt: skip
    assert len(prints) == 2


def test_the_fingerprint_does_not_depend_on_arrow_chunks(train):
    rows = load_splits(config(train)).train
    pieces = [rows.slice(0, 7), rows.slice(7, 500), rows.slice(507, len(rows))]
    cut = Rows(pa.concat_tables(pieces), BadRows("elsewhere"))
    assert cut.table.column("text").num_chunks >= 3
    assert cut.fingerprint == rows.fingerprint
    assert rows.select(np.arange(len(rows)) > 0).fingerprint != rows.fingerprint


def test_a_bundled_sample(monkeypatch):
    def generate(name, split):
        assert name == "toy"
        return {"text": [f"{split} {folder}" for folder in range(6)], "label": ["no", "yes"] * 3}

    monkeypatch.setattr("bertft.samples.load_sample", generate, raising=False)
    splits = load_splits(DataConfig(name="sample", source="sample", sample="toy"))
    assert [(name, len(rows)) for name, rows in splits.items()] == [
        ("train", 6),
        ("validation", 6),
        ("test", 6),
    ]
    assert splits.class_names == ["no", "yes"]
    assert splits.test.location(1) == "sample toy/test:2"
    assert not splits.validation_from_train
    with pytest.raises(DataError, match="column 'sentence' not found"):
        load_splits(DataConfig(name="sample", source="sample", sample="toy", text="sentence"))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_minus_one_is_a_class_if_train_has_it(tmp_path, task):
    (tmp_path / "train.tsv").write_text("text\tlabel\na\t-1\nb\t1\nc\t-1\n")
    (tmp_path / "test.tsv").write_text("text\tlabel\nd\t-1\ne\t-1\n")
    names = {name: str(tmp_path / f"{name}.tsv") for name in ("train", "test")}
    test = load_splits(DataConfig(name="files", validation=names["train"], task=task, **names)).test
    assert test.has_labels and list(map(float, test.column("label"))) == [-1, -1]
    assert not test.bad.notes


def test_minus_one_is_a_class_if_it_is_configured(tmp_path):
    (tmp_path / "test.tsv").write_text("text\tlabel\nd\t-1\ne\t-1\n")
    named = DataConfig(name="files", test=str(tmp_path / "test.tsv"), labels=[-1, 1])
    assert load_splits(named, ("test",)).test.has_labels


@pytest.mark.parametrize(
    ("label", "description"), [("-1", "−1, as in public test sets"), ("", "empty")]
)
def test_an_unlabelled_test_split_is_reported(tmp_path, label, description):
    (tmp_path / "train.tsv").write_text("text\tlabel\na\t0\nb\t1\nc\t1\n")
    (tmp_path / "test.tsv").write_text(f"text\tlabel\nd\t{label}\ne\t{label}\n")
    names = {name: str(tmp_path / f"{name}.tsv") for name in ("train", "test")}
    splits = load_splits(DataConfig(name="files", validation=names["train"], **names))
    assert not splits.test.has_labels and len(splits.test) == 2
    assert splits.test.bad.notes == [
        f"all labels are {description}: the split is treated as unlabelled"
    ]


def test_the_error_for_missing_labels_suggests_predict(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,0\nb,1\nc,1\n")
    (tmp_path / "bare.csv").write_text("text\nd\n")
    train, unlabelled = str(tmp_path / "train.csv"), str(tmp_path / "bare.csv")
    with pytest.raises(DataError, match=r"leave out data\.test and use bertft predict"):
        load_splits(DataConfig(name="files", train=train, validation=train, test=unlabelled))
    with pytest.raises(DataError, match=r"without data\.validation, a part of train is held out"):
        load_splits(DataConfig(name="files", train=train, validation=unlabelled))
    with pytest.raises(DataError, match=r"<column>\. bertft inspect \S*bare\.csv shows"):
        load_splits(DataConfig(name="files", train=unlabelled))
