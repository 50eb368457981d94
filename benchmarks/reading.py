"""Time to read a file the first time, next to ``datasets.load_dataset`` on the same file.

    python -m benchmarks.reading [--megabytes 1000] [--formats csv jsonl parquet] [--json FILE]

Generated rows of 5 to 60 words with commas, quotes and two classes. Each reading is a process of
its own with an empty cache, in turn with the other program; only the call is timed, not imports.
Both programs write the rows to their cache. bertft also checks each row, and hashes the file.
``warm`` is the second reading of bertft, from its cache. CPU time is that of all threads.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rounds import arguments, machine, tell

__all__ = ["main", "write_rows"]

_FORMATS = ("csv", "jsonl", "parquet")
_BLOCK_ROWS = 10_000
_SYLLABLES = [a + b for a in "bdfgklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "in")]
_MEASURE = """
import json, resource, sys, time
{imports}
start, cpu = time.perf_counter(), time.process_time()
{call}
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({{"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak, "rows": rows}}))
"""
_BERTFT = _MEASURE.format(
    imports="import pandas  # pyarrow imports it at its first conversion, datasets at once\n"
    "import bertft.data.readers.csv_blocks, bertft.data.readers.json_blocks\n"
    "import bertft.tasks.shared.text_schema, pyarrow.parquet\n"
    "from bertft.config.data import DataConfig\n"
    "from bertft.data.splits import load_splits\n",
    call="config = DataConfig(name='files', train=sys.argv[1], text='text', label='label')\n"
    "rows = len(load_splits(config, ('train',)).train)",
)
_DATASETS = _MEASURE.format(
    imports="import datasets\ndatasets.disable_progress_bars()\n",
    call="rows = datasets.load_dataset(sys.argv[2], data_files=sys.argv[1], split='train',"
    " cache_dir=sys.argv[3]).num_rows",
)
_BUILDERS = {"csv": "csv", "jsonl": "json", "parquet": "parquet"}  # of datasets


def _rows(seed: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(seed)
    words = ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 3))) for _ in range(20_000)]
    words += [f"{word}," for word in words[:1_500]] + [f'"{word}"' for word in words[:300]]
    number = 0
    while True:
        text = " ".join(draw.choices(words, k=draw.randint(5, 60)))
        yield {"id": number, "text": text, "label": ("neg", "pos")[number % 2]}
        number += 1


def write_rows(folder: Path, megabytes: int, formats: Sequence[str]) -> dict[str, Path]:
    """The same rows in each format; their texts have ``megabytes`` in total."""
    import csv

    import pyarrow as pa
    from pyarrow import parquet

    paths = {name: folder / f"rows.{name}" for name in formats}
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("label", pa.string())])
    size, rows = 0, _rows(0)
    with (
        open(folder / "rows.csv", "w", encoding="utf-8", newline="") as csv_file,
        open(folder / "rows.jsonl", "w", encoding="utf-8") as json_file,
        parquet.ParquetWriter(folder / "rows.parquet", schema) as parquet_file,
    ):
        writer = csv.DictWriter(csv_file, schema.names)
        writer.writeheader()
        while size < megabytes * 1_000_000:
            block = [next(rows) for _ in range(_BLOCK_ROWS)]
            size += sum(len(row["text"]) for row in block)
            writer.writerows(block)
            json_file.writelines(json.dumps(row) + "\n" for row in block)
            parquet_file.write_table(pa.Table.from_pylist(block, schema))
    return paths


def _read(code: str, arguments: Sequence[str], cache: Path) -> dict[str, float]:
    """What the process that runs ``code`` prints."""
    environment = {**os.environ, "BERTFT_CACHE": str(cache), "HF_HOME": str(cache / "hf")}
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    values: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return values


def _measure(path: Path, builder: str, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, and the median of the ratios per round."""
    readings: dict[str, list[dict[str, float]]] = {"bertft": [], "warm": [], "datasets": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            cache = Path(folder)
            readings["bertft"].append(_read(_BERTFT, [str(path)], cache / "bertft"))
            readings["warm"].append(_read(_BERTFT, [str(path)], cache / "bertft"))
            arguments = [str(path), builder, str(cache / "datasets")]
            readings["datasets"].append(_read(_DATASETS, arguments, cache))
    assert len({reading["rows"] for group in readings.values() for reading in group}) == 1
    result: dict[str, Any] = {
        name: {key: statistics.median(reading[key] for reading in group) for key in group[0]}
        for name, group in readings.items()
    }
    result["bytes"] = path.stat().st_size
    result["datasets_over_bertft"] = {
        key: statistics.median(
            peer[key] / own[key]
            for own, peer in zip(readings["bertft"], readings["datasets"], strict=True)
        )
        for key in ("seconds", "cpu_seconds")
    }
    return result


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "two minutes")
    parser.add_argument("--megabytes", type=int, help="of text; 1000, with --quick 50")
    parser.add_argument("--formats", nargs="+", choices=_FORMATS, default=_FORMATS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for the files, which are removed")
    args = parser.parse_args(argv)
    megabytes = args.megabytes or (50 if args.quick else 1000)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        paths = write_rows(Path(folder), megabytes, args.formats)
        results = {
            name: _measure(path, _BUILDERS[name], args.rounds) for name, path in paths.items()
        }
    print("format   bertft  (CPU)    warm    datasets  (CPU)   datasets/bertft (CPU)")
    for name, result in results.items():
        own, warm, peer = (result[key] for key in ("bertft", "warm", "datasets"))
        ratio = result["datasets_over_bertft"]
        print(
            f"{name:8}{own['seconds']:6.1f}s{own['cpu_seconds']:6.1f}s{warm['seconds']:7.2f}s"
            f"{peer['seconds']:10.1f}s{peer['cpu_seconds']:7.1f}s"
            f"{ratio['seconds']:12.2f}{ratio['cpu_seconds']:9.2f}"
        )
    tell({"reading": results, "machine": machine()}, args.json)


if __name__ == "__main__":
    main()
