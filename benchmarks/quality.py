"""The quality of the methods with their presets' defaults, next to peft on the same rows.

    python -m benchmarks.quality --data $BERTFT_DATA/sst2 --out outputs/quality

SST-2, MiniLM-L6, ``--rows`` training rows, the whole dev set, mean ± std over the seeds. What is
in ``--out`` already is not run again, so it can be stopped and repeated. Leaves table.md there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

_OURS = ("lora", "svd_lora", "prefix", "lora_prefix", "svd_lora_prefix", "bitfit", "full")
# Each peer at the rate that was best for it on these rows, with as many epochs as ours.
_PEERS: dict[str, list[str]] = {
    "lora": ["--rate", "2e-3", "--epochs", "3"],
    "prefix": ["--rate", "3e-2", "--epochs", "5"],
}


def _ours(args: argparse.Namespace, seeds: list[int]) -> None:
    data = Path(args.data)
    command = [
        sys.executable, "-m", "bertft", "train", "-m", f"hydra.sweep.dir={args.out}/bertft",
        "data=files", f"data.train={data / 'train.tsv'}", f"data.validation={data / 'dev.tsv'}",
        "data.text=sentence", f"data.max_train_rows={args.rows}", "quiet=true",
        f"method={','.join(args.methods)}", f"seed={','.join(map(str, seeds))}",
    ]  # fmt: skip
    subprocess.run(command, check=True)


def _peers(args: argparse.Namespace, seeds: list[int]) -> list[dict[str, Any]]:
    data, file = Path(args.data), Path(args.out) / "peft.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known = {(run["peer"], run["seed"]) for run in done}
    for method, settings in _PEERS.items():
        for seed in seeds:
            if (f"peft {method}", seed) in known:
                continue
            command = [
                sys.executable, "-W", "ignore", "-m", "benchmarks.peft_loop",
                "--train", str(data / "train.tsv"), "--validation", str(data / "dev.tsv"),
                "--text", "sentence", "--rows", str(args.rows), "--method", method,
                "--seed", str(seed), *settings,
            ]  # fmt: skip
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            with file.open("a") as out:
                out.write(line)
            done.append(json.loads(line))
    return done


def _table(folder: Path, peers: list[dict[str, Any]]) -> str:
    scores: dict[str, list[float]] = defaultdict(list)
    parameters: dict[str, str] = {}
    for file in sorted((folder / "bertft").glob("*/metrics.json")):
        metrics = json.loads(file.read_text())
        name = file.parent.name.split("-")[0]
        scores[name].append(metrics["best"]["value"])
        parameters[name] = f"{metrics['parameters']['kept']:,}"
    for peer in peers:
        scores[f"{peer['peer']}, rate {peer['rate']:g}"].append(peer["accuracy"])
    lines = ["| method | parameters kept | dev accuracy | seeds |", "|---|---|---|---|"]
    for name, values in sorted(scores.items(), key=lambda pair: -statistics.fmean(pair[1])):
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(
            f"| {name} | {parameters.get(name, '')} | {statistics.fmean(values):.4f} ±"
            f" {spread:.4f} | {len(values)} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with train.tsv and dev.tsv of SST-2")
    parser.add_argument("--out", default="outputs/quality")
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(_OURS))
    args = parser.parse_args(argv)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    _ours(args, seeds)
    table = _table(folder, _peers(args, seeds))
    (folder / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
