"""The cache of parsed rows: used for the same file and settings, never for others."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from bertft.config.data import DataConfig
from bertft.data import data_sources, file_contents
from bertft.data.splits import load_splits
from bertft.errors import DataError

CONTENT = "text,label,other\n" + "".join(f"a text {row},{'ab'[row % 2]},c\n" for row in range(40))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_sources, "MIN_CACHED_BYTES", 500)
    return tmp_path / "cache" / "rows"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The splits whose records were parsed, in order."""
    requested: list[str] = []
    real = data_sources.records_to_batches

    def counting(records, schema, split, bad):
        requested.append(split)
        return real(records, schema, split, bad)

    monkeypatch.setattr(data_sources, "records_to_batches", counting)
    return requested


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(CONTENT)
    return path


def rows(path: Path, **settings):
    return load_splits(DataConfig(name="files", train=str(path), **settings), ("train",)).train


def test_a_large_file_is_parsed_once(path, reads, cache):
    first, again = rows(path), rows(path)
    assert reads == ["train"] and len(list(cache.iterdir())) == 1
    assert first.table.equals(again.table) and first.fingerprint == again.fingerprint
    assert first.column("text")[:2] == ["a text 0", "a text 1"]
    assert first.column("line")[:2] == [2, 3]


def test_the_cache_ignores_path_and_modification_time(path, reads):
    rows(path)
    os.utime(path)
    moved = path.rename(path.with_name("elsewhere.csv"))
    assert rows(moved).source == str(moved)
    assert reads == ["train"]


def test_a_changed_byte_invalidates_the_cache(path, reads):
    rows(path)
    before = path.stat()
    path.write_text(CONTENT.replace("a text 39", "a text 38"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert rows(path).column("text")[-1] == "a text 38"
    assert len(reads) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"text": "other"}, {"text": ["text", "other"]}, {"quoting": False},
        {"task": "multi_label"}, {"encoding": "latin-1"},
    ],
)  # fmt: skip
def test_parsing_settings_invalidate_the_cache(path, reads, settings):
    rows(path)
    other = rows(path, **settings)
    assert len(reads) == 2
    assert other.table.equals(rows(path, **settings).table)
    assert len(reads) == 2


def test_settings_after_parsing_do_not_invalidate_the_cache(path, reads):
    rows(path)
    rows(
        path, seed=1, max_train_rows=5, on_bad_row="skip", max_skipped=1.0, max_length=16, stride=3
    )
    assert reads == ["train"]


def test_invalid_rows_are_reported_from_the_cache(path, reads):
    path.write_text(CONTENT + " ,a,c\n" * 7)
    with pytest.raises(DataError) as first:
        rows(path)
    with pytest.raises(DataError) as again:
        rows(path)
    assert str(first.value) == str(again.value) and "rows.csv:42" in str(first.value)
    skipped = rows(path, on_bad_row="skip", max_skipped=1.0)
    assert (len(skipped), dict(skipped.bad.counts)) == (40, {"empty text": 7})
    assert reads == ["train"]


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_middle, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_file_is_replaced(path, reads, cache, damage):
    first = rows(path)
    (remaining,) = cache.iterdir()
    expected = first.table.to_pydict()
    damage(remaining)
    assert rows(path).table.to_pydict() == expected
    assert len(reads) == 2 and len(list(cache.iterdir())) == 1


def append_row(path: Path) -> None:
    with path.open("a") as file:
        file.write("one more,a,c\n")


def replace_by_another(path: Path) -> None:
    """Another file of the same size and time."""
    status = path.stat()
    other = path.with_name("other.csv")
    other.write_text(CONTENT.replace("a text 39", "a text 38"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def rewrite_in_place(path: Path) -> None:
    """As a second change within the resolution of the file's time."""
    status = path.stat()
    path.write_text(CONTENT.replace("a text 39", "a text 38"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def make_old(path: Path) -> Path:
    os.utime(path, (1e9, 1e9))
    return path


@pytest.mark.parametrize(
    ("is_old", "change"),
    [
        (True, append_row), (True, replace_by_another), (False, append_row),
        (False, replace_by_another), (False, rewrite_in_place),
    ],
)  # fmt: skip
def test_a_file_that_changes_while_it_is_read_is_an_error(path, cache, monkeypatch, is_old, change):
    real = data_sources.records_to_batches

    def meddling(*args):
        yield from real(*args)
        change(path)

    if is_old:
        make_old(path)
    monkeypatch.setattr(data_sources, "records_to_batches", meddling)
    with pytest.raises(DataError, match="changed while it was read"):
        rows(path)
    assert list(cache.iterdir()) == []


def test_a_file_that_changes_is_an_error_without_a_cache(path, tmp_path, monkeypatch):
    real = data_sources.records_to_batches

    def meddling(*args):
        yield from real(*args)
        append_row(path)

    (tmp_path / "cache").write_text("a file where the folder would be")
    monkeypatch.setattr(data_sources, "records_to_batches", meddling)
    with pytest.raises(DataError, match="changed while it was read"):
        rows(path)


@pytest.mark.parametrize("is_old", [True, False])
def test_a_file_is_hashed_while_it_is_read_unless_it_is_new(path, monkeypatch, is_old):
    """The time of a file that was just written does not show another change."""
    is_parsed = threading.Event()
    opened_before = []
    real_open, real = file_contents.open_regular_file, data_sources.records_to_batches

    def open_late(path):
        opened_before.append(not is_parsed.wait(60 if is_old else 0))
        return real_open(path)

    def announcing(*args):
        yield from real(*args)
        is_parsed.set()

    if is_old:
        make_old(path)
    monkeypatch.setattr(file_contents, "open_regular_file", open_late)
    monkeypatch.setattr(data_sources, "records_to_batches", announcing)
    assert len(rows(path)) == 40
    assert opened_before == ([False] if is_old else [True, False])


def test_an_error_of_the_reader_ends_the_hashing(path):
    with pytest.raises(DataError, match="column 'none' not found"):
        rows(path, text="none")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bertft")]


def test_files_of_the_same_size_have_entries_of_their_own(path, reads, cache):
    other = path.with_name("other.csv")
    other.write_text(CONTENT.replace("a text 39", "a text 38"))
    for _ in range(2):
        assert rows(path).column("text")[-1] == "a text 39"
        assert rows(other).column("text")[-1] == "a text 38"
    assert len(reads) == len(list(cache.iterdir())) == 2


def test_an_entry_under_the_name_of_other_content_is_replaced(path, reads, cache):
    rows(path)
    (entry,) = cache.iterdir()
    start, _, checksum = entry.name.rpartition(".arrow")[0].partition(".")
    other = entry.rename(cache / f"{start[:-1]}{'0' if start[-1] != '0' else '1'}.{checksum}.arrow")
    assert len(rows(path)) == 40
    assert len(reads) == 2 and not other.exists()


def test_an_unreadable_file_is_an_error(path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file_contents, "open_regular_file", refused)
    with pytest.raises(DataError, match=r"rows\.csv: cannot be read \(Permission denied\)"):
        rows(path)


def test_a_file_without_valid_rows_is_an_error_each_time(path):
    path.write_text("text,label,other\n" + " ,a,c\n" * 200)
    for _ in range(2):
        with pytest.raises(DataError, match="no row can be used \\(200 × empty text\\)"):
            rows(path, on_bad_row="skip", max_skipped=1.0)


def test_a_cache_file_that_disappears_is_written_again(path, reads, monkeypatch):
    real = data_sources.store_cached

    def robbed(*args):
        remaining = real(*args)
        remaining.unlink()
        return remaining

    monkeypatch.setattr(data_sources, "store_cached", robbed)
    assert len(rows(path)) == 40 and len(reads) == 2


def test_the_cache_key_supports_every_type_of_setting(path):
    assert set(rows(path, labels={0: "a", "b": "c"}).column("label")) == {"a", "c"}


def test_rows_stay_in_memory_if_the_cache_cannot_be_written(path, tmp_path, reads):
    path.write_text(CONTENT + " ,a,c\n")
    (tmp_path / "cache").write_text("a file where the folder would be")
    actual = rows(path, on_bad_row="skip", max_skipped=1.0)
    assert (len(actual), dict(actual.bad.counts)) == (40, {"empty text": 1})


def test_small_files_are_not_cached(path, cache):
    path.with_name("small.csv").write_text(CONTENT[:200])
    rows(path.with_name("small.csv"), on_bad_row="skip", max_skipped=1.0)
    assert not cache.exists()


def test_cached_rows_are_memory_mapped(path, monkeypatch):
    path.write_text("text,label,other\n" + f"{'word ' * 200},a,c\nshort,b,c\n" * 2000)
    monkeypatch.setattr("bertft.data.readers.chunks.CHUNK_BYTES", 100_000)
    before, peak = pa.total_allocated_bytes(), 0
    real = data_sources.records_to_batches

    def watched(*args):
        nonlocal peak
        for batch in real(*args):
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield batch

    monkeypatch.setattr(data_sources, "records_to_batches", watched)
    actual = rows(path)
    held = pa.total_allocated_bytes() - before
    assert actual.table.nbytes > 2_000_000
    assert held < 100_000 and peak < 1_000_000, (held, peak)


def test_a_cache_file_with_another_schema_is_replaced(path, reads, cache):
    first = rows(path)
    remaining = next(cache.iterdir())
    remaining.unlink()  # what is mapped of it stays
    other = pa.table({"text": ["x"], "label": ["y"], "line": [1]})
    with pa.ipc.new_file(str(remaining), other.schema) as writer:
        writer.write_table(other)
    checksum = f"{zlib.crc32(remaining.read_bytes()):08x}"
    remaining.rename(remaining.with_name(f"{remaining.name.split('.')[0]}.{checksum}.arrow"))
    assert rows(path).table.equals(first.table) and reads == ["train", "train"]


def test_temporary_files_of_killed_processes_are_removed(path, cache):
    cache.mkdir(parents=True)
    ended = subprocess.Popen(["true"])
    ended.wait()
    old, new = cache / f".0123-a.tmp-{ended.pid}", cache / f".0123-b.tmp-{ended.pid}"
    running = cache / f".0123-c.tmp-{os.getppid()}"
    for file in (old, new, running):
        file.write_bytes(b"x")
    for file in (old, running):
        os.utime(file, (1, 1))
    rows(path)
    # A new file may be that of a process on another machine.
    assert {file for file in cache.iterdir() if ".tmp-" in file.name} == {new, running}


@pytest.mark.parametrize(
    "facts",
    [
        None, {}, {b"bertft.bad": b"["}, {b"bertft.bad": b"[]"}, {b"bertft.bad": b"{}"},
        {b"bertft.bad": b'{"source": "x"}'}, "read", "hints",
    ],
    ids=str,
)  # fmt: skip
def test_a_cache_file_with_invalid_metadata_is_replaced(path, reads, cache, facts):
    """In a shared cache anybody may have written one, its key and its checksum as they must be."""
    first = rows(path)
    (file,) = cache.iterdir()
    with pa.memory_map(str(file)) as source:
        reader = pa.ipc.open_file(source.read_buffer())
    last = reader.num_record_batches - 1
    content = json.loads(reader.get_batch_with_custom_metadata(last)[1][b"bertft.bad"])
    if isinstance(facts, str):
        facts = {b"bertft.bad": json.dumps({**content, facts: [3]}).encode()}
    written = pa.BufferOutputStream()
    with pa.ipc.new_file(written, reader.schema) as writer:
        for number in range(last):
            writer.write_batch(reader.get_batch(number))
        writer.write_batch(reader.get_batch(last), custom_metadata=facts)
    other = written.getvalue().to_pybytes()
    file.unlink()  # what is mapped of it stays
    key = file.name.partition(".")[0]
    file.with_name(f"{key}.{zlib.crc32(other):08x}.arrow").write_bytes(other)
    assert rows(path).table.equals(first.table)
    assert reads == ["train", "train"]
