"""Training speed on a GPU against HF Trainer + peft, interleaved in one process.

    python -m benchmarks.gpu --data $BERTFT_DATA [--shape base large] [--batch 8 32 128]
                             [--rows sst2 squad] [--precision bf16] [--quick] [--json FILE]

BERT-base's and BERT-large's shape with random weights, sentences of SST-2 and windows of SQuAD v2.
Peers: LoRA r=8 by peft and full fine-tuning under HF Trainer, dynamic padding, SDPA. Ours: lora in
every layout, svd_lora_prefix and full, ``bertft train``'s own loop body, on the same rows. With
``--device cpu --shape narrow --precision fp32``: the cost of a step next to its products, which is
what bounds small batches on a GPU.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import squad, sst2
from benchmarks.contenders import Contest, ours, peer
from benchmarks.rounds import Work, arguments, ceiling, interleave, machine, tell

__all__ = ["main"]

_SHAPES = {
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
    "narrow": (12, 32, 2, 64),  # products cost next to nothing: what is left is the host's work
}


def _contenders(against: Contest, precision: str, steps: int) -> dict[str, Work]:
    made = {
        "peer_lora": peer(against, "lora", "longest", precision, steps),
        "peer_full": peer(against, "full", "longest", precision, steps),
        "bertft_svd_lora_prefix": ours(against, "svd_lora_prefix", precision, steps),
        "bertft_full": ours(against, "full", precision, steps),
    }
    for layout in ("unpadded", "packed", "padded"):
        made[f"bertft_lora_{layout}"] = ours(against, "lora", precision, steps, layout=layout)
    return {name: train for name, (train, _) in made.items()}


def _measure(
    against: Contest, shape: str, precision: str, steps: int, rounds: int
) -> dict[str, Any]:
    results = interleave(_contenders(against, precision, steps), rounds)
    layers, width, _, inner = _SHAPES[shape]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    peak = ceiling(dtype, (8192, width, inner), against.device)
    tokens = statistics.median(results["bertft_lora_unpadded"].tokens)
    return {
        "ratios": {
            name: result.over(results["peer_full" if name == "bertft_full" else "peer_lora"])
            for name, result in results.items()
            if name.startswith("bertft")
        },
        "samples_per_second": {name: result.summary() for name, result in results.items()},
        # Forward and the gradients of activations: 4 operations a parameter and real token, as if
        # the top layer went on for all of them.
        "mfu": 4 * layers * (4 * width**2 + 2 * width * inner) * tokens / peak,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "six minutes")
    parser.add_argument("--shape", nargs="+", choices=_SHAPES, default=["base", "large"])
    parser.add_argument("--batch", nargs="+", type=int, default=[8, 32, 128])
    parser.add_argument("--rows", nargs="+", choices=["sst2", "squad"], default=["sst2", "squad"])
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("give --data, the folder with sst2, squad_v2 and vocab")
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --device cpu --shape narrow tries the script")
    steps, rounds = (4, 2) if args.quick else (10, 5)
    results = {}
    for shape in args.shape:
        layers, width, heads, inner = _SHAPES[shape]
        with tempfile.TemporaryDirectory() as folder:
            squad.save_base(
                Path(folder), args.data / "vocab" / "bert-base-uncased", num_hidden_layers=layers,
                hidden_size=width, num_attention_heads=heads, intermediate_size=inner,
            )  # fmt: skip
            for rows in args.rows:
                if rows == "sst2":
                    made = sst2.contest(args.data / "sst2", folder)
                else:
                    made = squad.contest(args.data, Path(folder))
                for batch in args.batch:
                    against = dataclasses.replace(made, batch_size=batch, device=device)
                    name = f"{shape}, {rows}, batch {batch}"
                    results[name] = _measure(against, shape, args.precision, steps, rounds)
                    tell({name: results[name]}, None)
                    gc.collect()
    tell({"results": results, "machine": machine()}, args.json)


if __name__ == "__main__":
    main()
