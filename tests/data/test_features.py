from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertft.config.data import DataConfig
from bertft.data.cache import cache_folder
from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.errors import DataError, SystemResourceError
from bertft.tasks.feature_tables import build_unlabelled_features
from bertft.tasks.task import build_task


def rows(texts: list[str]) -> Rows:
    text = pa.array(texts, pa.large_string())
    return Rows(
        pa.table({"text": text, "line": pa.array(range(1, len(texts) + 1))}), BadRows("here")
    )


class Encode:
    """Two features for a text with a comma, one for any other; counts its calls."""

    def __init__(self) -> None:
        self.chunks = 0

    def __call__(self, columns):
        self.chunks += 1
        pieces = [
            (row, piece) for row, text in enumerate(columns["text"]) for piece in text.split(",")
        ]
        return {
            "input_ids": [[ord(letter) for letter in piece] for _, piece in pieces],
            "row": [row for row, _ in pieces],
        }


TEXTS = ["ab,c", "def", "g,h,i", "jklm", "n"]


def contents(table) -> list[tuple[int, str]]:
    every = np.arange(len(table))
    ends = np.cumsum(table.lengths)
    ids = table.gather("input_ids", every)
    texts = [
        "".join(map(chr, ids[end - size : end]))
        for end, size in zip(ends, table.lengths, strict=True)
    ]
    return list(zip(table.gather("row", every).tolist(), texts, strict=True))


EXPECTED = [(row, piece) for row, text in enumerate(TEXTS) for piece in text.split(",")]


@pytest.mark.parametrize("chunk", [1, 2, 100])
@pytest.mark.parametrize("cached", [True, False])
def test_rows_are_counted_through_all_chunks(tmp_path, chunk, cached):
    content: list[int] = []
    table = featurize(
        rows(TEXTS),
        Encode(),
        [],
        tmp_path if cached else None,
        chunk=chunk,
        progress=content.append,
    )
    assert contents(table) == EXPECTED
    assert sum(content) == len(TEXTS)


def test_features_are_read_from_the_cache(tmp_path):
    encode = Encode()
    featurize(rows(TEXTS), encode, ["bert", 128], tmp_path)
    again = featurize(rows(TEXTS), encode, ["bert", 128], tmp_path)
    assert encode.chunks == 1
    assert contents(again) == EXPECTED


@pytest.mark.parametrize(
    ("texts", "key_parts"),
    [([*TEXTS[:-1], "m"], ["bert", 128]), (TEXTS, ["bert", 64]), (TEXTS, ["bert"])],
)
def test_other_rows_or_settings_invalidate_the_cache(tmp_path, texts, key_parts):
    encode = Encode()
    featurize(rows(TEXTS), encode, ["bert", 128], tmp_path)
    featurize(rows(texts), encode, key_parts, tmp_path)
    assert encode.chunks == 2


def test_the_location_of_rows_is_not_part_of_the_key(tmp_path):
    encode = Encode()
    featurize(rows(TEXTS), encode, [], tmp_path)
    moved = rows(["x", *TEXTS]).select(np.arange(6) > 0)
    moved.bad.source = "elsewhere"
    assert contents(featurize(moved, encode, [], tmp_path)) == EXPECTED
    assert encode.chunks == 1


def damage_end(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 20)


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_end, damage_middle, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_found_out_and_built_again(tmp_path, damage):
    encode = Encode()
    featurize(rows(TEXTS), encode, [], tmp_path)
    (path,) = (tmp_path / "features").iterdir()
    damage(path)
    assert contents(featurize(rows(TEXTS), encode, [], tmp_path)) == EXPECTED
    assert encode.chunks == 2
    assert [file.name for file in (tmp_path / "features").iterdir()] == [path.name]


def test_an_encoder_that_fails_leaves_nothing_behind(tmp_path):
    def encode(columns):
        if columns["text"] == ["def"]:
            raise RuntimeError("no")
        return Encode()(columns)

    with pytest.raises(RuntimeError):
        featurize(rows(TEXTS), encode, [], tmp_path, chunk=1)
    assert list((tmp_path / "features").iterdir()) == []


def build(folder: str, gate, results) -> None:
    gate.wait()
    table = featurize(rows(TEXTS * 500), Encode(), [], Path(folder), chunk=100)
    results.put((len(table), int(table.gather("input_ids", np.arange(len(table))).sum())))


def test_two_processes_may_build_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=build, args=(str(tmp_path), gate, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=900) for _ in workers]
    for worker in workers:
        worker.join()
    assert answers[0] == answers[1]
    assert answers[0][0] == 500 * len(EXPECTED)
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_no_rows_are_an_error():
    with pytest.raises(DataError, match="no rows"):
        featurize(rows([]), Encode(), [], None)


def test_no_feature_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no row can be encoded"):
        featurize(rows(["a"]), lambda _: {"input_ids": [], "row": []}, [], tmp_path)


def test_rows_without_tokens_are_reported_with_the_reason_and_an_action(monkeypatch):
    monkeypatch.setattr("bertft.tasks.feature_tables.tokenizer_hash", str)
    task = build_task(DataConfig(name="x", task="regression"), None)
    monkeypatch.setattr(task, "make_encoder", lambda *_: lambda _: {"input_ids": [], "row": []})
    with pytest.raises(DataError, match="no row can be encoded") as error:
        build_unlabelled_features(rows(["a"]), task, None, 256, None)
    assert "tokenizer gives no tokens" in error.value.what
    assert "text column" in error.value.hint


def test_a_chunk_without_features_is_passed_over(tmp_path):
    def encode(columns):
        full = Encode()(columns)
        return {"input_ids": [], "row": []} if columns["text"] == ["def"] else full

    table = featurize(rows(TEXTS), encode, [], tmp_path, chunk=1)
    assert contents(table) == [feature for feature in EXPECTED if feature[0] != 1]


def test_a_cache_that_cannot_be_written_names_the_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemResourceError, match=r"data\.cache"):
        featurize(rows(TEXTS), Encode(), [], tmp_path / "file")


def test_the_folder_comes_from_the_setting_then_the_environment(monkeypatch):
    monkeypatch.setenv("BERTFT_CACHE", "/of/environment")
    assert cache_folder("/of/setting") == Path("/of/setting")
    assert cache_folder(None) == Path("/of/environment")
    monkeypatch.delenv("BERTFT_CACHE")
    assert cache_folder(None) == Path.home() / ".cache/bertft"
