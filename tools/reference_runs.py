"""Check that a refactor changes no result: 19 small runs, byte for byte.

    python tools/reference_runs.py record before.json    at the commit before the change
    python tools/reference_runs.py compare before.json   after it; status 1 if anything differs

Each run trains the tiny model for a few steps on one thread and predicts. Its digest covers every
line of metrics.jsonl, every tensor of the last and the best checkpoint (name, type, shape, bytes)
and every byte of the predictions. Together the runs use every method, every task, every layout,
fp32 and bf16, accumulation, and two processes.

The bits of a sum depend on the instruction set, so a record holds for one kind of CPU and one
release of torch; ``compare`` refuses another.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

COMMON = [
    "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=8",
    "trainer.evaluate_every=4", "trainer.log_every=1", "data.max_train_rows=64",
    "data.max_validation_rows=24", "report=false", "quiet=true",
]  # fmt: skip

# name: (method, data, precision, layout, further settings)
RUNS: dict[str, tuple[str, str, str, str, list[str]]] = {
    "head": ("head", "classification", "fp32", "unpadded", []),
    "last_k": ("last_k", "classification", "bf16", "packed", []),
    "bitfit": ("bitfit", "pair", "fp32", "packed", []),
    "full": ("full", "classification", "fp32", "padded", []),
    "full_bf16": ("full", "question_answering", "bf16", "unpadded", ["trainer.micro_batch=4"]),
    "lora": ("lora", "question_answering", "fp32", "unpadded", []),
    "lora_accumulated": ("lora", "classification", "bf16", "packed", ["trainer.micro_batch=3"]),
    "dora": ("lora", "pair", "fp32", "unpadded", ["method.low_rank.use_dora=true"]),
    "pissa": ("lora", "classification", "fp32", "padded", ["method.low_rank.start=principal"]),
    "svd_lora": ("svd_lora", "token_classification", "fp32", "unpadded", []),
    "svd_lora_bf16": ("svd_lora", "classification", "bf16", "unpadded", ["trainer.micro_batch=4"]),
    "vera": ("vera", "classification", "fp32", "unpadded", ["method.rank=16"]),
    "ia3": ("ia3", "classification", "bf16", "packed", []),
    "prefix": ("prefix", "regression", "fp32", "unpadded", []),
    "lora_prefix": ("lora_prefix", "multi_label", "bf16", "padded", []),
    "svd_lora_prefix": ("svd_lora_prefix", "question_answering", "bf16", "unpadded", []),
    "masked_lm": ("full", "masked_lm", "fp32", "unpadded", []),
    "distill": ("distill", "classification", "fp32", "unpadded", ["method.distill.teacher=full"]),
    "two_processes": ("svd_lora", "classification", "fp32", "unpadded", ["trainer.micro_batch=2"]),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    file = arguments.file.absolute()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["BERTFT_CACHE"] = str(Path(folder) / "cache")
        current = {"machine": machine(), "runs": dict(digests())}
    if arguments.action == "record":
        file.write_text(json.dumps(current, indent=1) + "\n", encoding="utf-8")
        print(f"recorded {len(current['runs'])} runs in {file}")
        return 0
    recorded = json.loads(file.read_text(encoding="utf-8"))
    if recorded["machine"] != current["machine"]:
        print(f"recorded on {recorded['machine']}, this is {current['machine']}", file=sys.stderr)
        return 2
    different = 0
    for name, expected in recorded["runs"].items():
        changed = [kind for kind in expected if expected[kind] != current["runs"][name][kind]]
        different += bool(changed)
        print(f"{name:<18} {'differs: ' + ', '.join(changed) if changed else 'equal'}")
    print(f"{len(recorded['runs']) - different} of {len(recorded['runs'])} runs are equal")
    return 1 if different else 0


def machine() -> dict[str, str]:
    """What the bits of a result depend on besides the code."""
    import torch
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def digests() -> Iterator[tuple[str, dict[str, str]]]:
    """The digests of every run, by its name; run folders go into the current directory."""
    for name, (method, task, precision, layout, further) in RUNS.items():
        words = [
            *COMMON, f"method={method}", *data(task), f"trainer.precision={precision}",
            f"trainer.layout={layout}", f"hydra.run.dir={name}", *further,
        ]  # fmt: skip
        train(words, processes=2 if name == "two_processes" else 1)
        yield (
            name,
            {
                "metrics": digest((Path(name) / "metrics.jsonl").read_bytes()),
                "last": tensors(Path(name) / "checkpoints" / "last"),
                "best": tensors(Path(name) / "checkpoints" / "best"),
                "predictions": digest(predict(name, task)),
            },
        )
        print(f"{name}: done", file=sys.stderr)


def train(words: list[str], processes: int) -> None:
    if processes == 1:
        command(["train", *words])
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    subprocess.run(
        [*launcher, "--standalone", "-m", "bertft", "train", *words, "trainer.device=cpu"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def predict(run: str, task: str) -> bytes:
    output = Path(f"{run}.jsonl")
    command(["predict", f"run={run}", f"input={inputs(task)}", f"output={output}"])
    return output.read_bytes()


def command(words: list[str]) -> None:
    from bertft.cli.app import main as bertft

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = bertft(words)
    if status:
        line = " ".join(words)
        raise SystemExit(f"bertft {line} ended with status {status}\n{output.getvalue()}")


def tensors(folder: Path) -> str:
    """Digest of every tensor in the folder's safetensors files, whose own order may vary."""
    import torch
    from safetensors.torch import load_file

    total = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in sorted(load_file(file).items()):
            total.update(f"{file.name} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def data(task: str) -> list[str]:
    """The words that train on ``task``; its files are written once."""
    if task == "question_answering":
        return ["data=sample_qa"]
    if task == "token_classification":
        return ["data=sample_ner"]
    if task == "pair":
        return ["data=sample_pair"]
    for split, count, seed in (("train", 96, 1), ("validation", 32, 2)):
        write(Path(f"{task}.{split}.csv"), task, count, seed)
    words = ["data=files", f"data.train={task}.train.csv", f"data.validation={task}.validation.csv"]
    return words if task == "classification" else [*words, f"data.task={task}"]


def inputs(task: str) -> Path:
    """A file of rows to predict."""
    path = Path(f"{task}.input.jsonl")
    rng = random.Random(3)
    rows: list[dict[str, Any]] = []
    for _ in range(20):
        text = sentence(rng)
        if task == "question_answering":
            rows.append({"question": "What was good?", "context": text})
        elif task == "token_classification":
            rows.append({"tokens": text.split(" ")})
        elif task == "pair":
            rows.append({"text": text, "text_pair": sentence(rng)})
        elif task == "masked_lm":
            rows.append({"text": f"{text} [MASK]"})
        else:
            rows.append({"text": text})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write(path: Path, task: str, count: int, seed: int) -> None:
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"] if task == "masked_lm" else ["text", "label"])
        for number in range(count):
            text, good = sentence(rng), number % 2 == 0
            row: list[Any] = [f"{text} {'fine' if good else 'poor'}"]
            if task == "classification":
                row.append("good" if good else "bad")
            elif task == "multi_label":
                row.append("|".join([*["good"] * good, *["third"] * (number % 3 == 0)]))
            elif task == "regression":
                row.append(round(rng.random() + good, 3))
            writer.writerow(row)


def sentence(rng: random.Random) -> str:
    words = ("the", "film", "was", "very", "good", "bad", "long", "short", "a", "book", "and")
    return " ".join(rng.choice(words) for _ in range(rng.randint(3, 20)))


if __name__ == "__main__":
    raise SystemExit(main())
