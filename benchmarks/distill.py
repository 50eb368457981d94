"""A student of half the layers, with its teacher and without, on SST-2; and what a step costs.

    python -m benchmarks.distill --data $BERTFT_DATA/sst2 --out outputs/distill
    python -m benchmarks.distill --data $BERTFT_DATA/sst2 --overhead

MiniLM-L6 is trained in full on ``--rows`` rows (seed 0), then ``--layers`` of its layers become
students, with the teacher (``--weight``) and without (weight 0), mean ± std over the seeds. What
is in ``--out`` already is not run again. Leaves table.md there; rows a second are those of
evaluating teacher and a distilled student in turn. ``--overhead`` times steps with
remembered answers against steps of the same student without a teacher, interleaved.
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

import numpy as np
import torch

from benchmarks.rounds import Stopwatch, Turn, Work, interleave, machine
from bertft.config.data import DataConfig
from bertft.config.method import MethodConfig
from bertft.config.method_components import base, distill
from bertft.config.model import ModelConfig
from bertft.config.trainer import TrainerConfig
from bertft.data.batch import LengthGroupedSampler, collate
from bertft.data.features import FeatureTable, featurize
from bertft.data.splits import load_splits
from bertft.distill import Distillation
from bertft.distill.cached_logits import CachedLogits
from bertft.distill.teachers import CachedTeacher
from bertft.methods import build_components, collect_param_groups
from bertft.models.families import encoder_family, encoder_layers
from bertft.models.precision import choose_precision
from bertft.models.source import find_model_source
from bertft.models.tokenizer import load_tokenizer
from bertft.pipeline.model import build_task_model
from bertft.pipeline.open_model import open_model
from bertft.tasks.feature_tables import build_features
from bertft.tasks.task import build_task
from bertft.training import optim as adamw
from bertft.training.evaluate import predict_logits
from bertft.training.step import TrainStep, set_learning_rates

__all__ = ["main"]

_MODEL = ModelConfig(name="minilm", path="all-MiniLM-L6-v2")


def _words(data: Path, rows: int) -> list[str]:
    return [
        "data=files", f"data.train={data / 'train.tsv'}", f"data.validation={data / 'dev.tsv'}",
        "data.text=sentence", f"data.max_train_rows={rows}", "quiet=true",
    ]  # fmt: skip


def _bertft(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "bertft", "train", *words], check=True)


def _experiment(args: argparse.Namespace) -> str:
    teacher, words = args.out / "teacher", _words(args.data, args.rows)
    _bertft(*words, "method=full", f"hydra.run.dir={teacher}", "resume=auto")
    _bertft(
        "-m", *words, "method=distill", f"method.distill.teacher={teacher}",
        f"method.distill.student_layers={args.layers}", f"method.distill.weight=0,{args.weight:g}",
        f"method.distill.temperature={args.temperature:g}", f"seed={args.seeds}",
        f"trainer.epochs={args.epochs:g}",
        f"hydra.sweep.dir={args.out / 'students'}",
    )  # fmt: skip
    return _table(teacher, args.out / "students")


def _table(teacher: Path, students: Path) -> str:
    scores: dict[str, list[float]] = defaultdict(list)
    distilled: dict[str, Path] = {}
    agreed: list[float] = []
    metrics = json.loads((teacher / "metrics.json").read_text())
    name = f"teacher, {metrics['parameters']['total']:,} parameters"
    scores[name] = [metrics["best"]["value"]]
    for file in sorted(students.glob("*/metrics.json")):
        metrics = json.loads(file.read_text())
        both = metrics.get("distillation")
        kind = "distilled" if both else "without a teacher"
        kind = f"student {kind}, {metrics['parameters']['total']:,} parameters"
        scores[kind].append(metrics["best"]["value"])
        if both:
            agreed.append(both["agreement"])
            distilled[kind] = file.parent
    speeds = _speeds({name: teacher, **distilled})
    lines = ["| | dev accuracy | runs | rows/s in evaluation |", "|---|---|---|---|"]
    for kind, values in scores.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        speed = f"{speeds[kind]:,.0f}" if kind in speeds else ""
        mean = statistics.fmean(values)
        lines.append(f"| {kind} | {mean:.4f} ± {spread:.4f} | {len(values)} | {speed} |")
    if agreed:
        lines += ["", f"Teacher and student agree on {statistics.fmean(agreed):.1%} of dev."]
    return "\n".join(lines)


def _speeds(runs: dict[str, Path], rounds: int = 5) -> dict[str, float]:
    """Rows a second of evaluating each run on its own validation rows, in turn."""

    def contender(run: Path) -> Work:
        saved = open_model(str(run))
        adapted, rows = saved.task_model, load_splits(saved.data, ("validation",)).validation
        assert rows is not None
        tables = build_features(
            {"dev": rows}, adapted.task, adapted.tokenizer, saved.info.max_length, None
        )

        def work(_: int) -> Turn:
            watch = Stopwatch()
            predict_logits(adapted.runner, tables["dev"], adapted.precision)
            return watch.turn(len(rows), int(tables["dev"].lengths.sum()))

        return work

    results = interleave({name: contender(run) for name, run in runs.items()}, rounds)
    return {name: result.median for name, result in results.items()}


def _overhead(args: argparse.Namespace) -> str:
    """Seconds of a step with remembered answers over seconds of a step without a teacher."""
    config = DataConfig(
        name="sst2", train=str(args.data / "train.tsv"), validation=str(args.data / "dev.tsv"),
        text="sentence", max_train_rows=args.rows,
    )  # fmt: skip
    splits = load_splits(config, ("train",))
    assert splits.train is not None
    task, tokenizer = build_task(config, splits.class_names), load_tokenizer(_MODEL)
    table = featurize(splits.train, task.make_encoder(tokenizer, 256), [], None)
    answers = np.random.default_rng(0).normal(size=(len(table), 2)).astype(np.float32)
    work: dict[str, Work] = {}
    for name in ("plain", "distilled"):
        settings = distill.DistillConfig(teacher="t", student_layers=args.layers)
        method = MethodConfig(
            name=name,
            base=base.TrainableBaseConfig(),
            distill=settings if name == "distilled" else None,
        )
        stepper = _stepper(method, task, tokenizer, args.layers, answers)
        work[name] = _steps(stepper, table, args.steps)
    results = interleave(work, args.rounds)
    return json.dumps(
        {
            "step_overhead": results["plain"].over(results["distilled"]),
            "rows_per_second": {name: result.median for name, result in results.items()},
            "machine": machine(),
        },
        indent=1,
    )


def _stepper(method: Any, task: Any, tokenizer: Any, layers: int, answers: np.ndarray) -> TrainStep:
    torch.manual_seed(0)
    precision = choose_precision("fp32", torch.device("cpu"))
    source = find_model_source("all-MiniLM-L6-v2")
    adapted = build_task_model(source, _MODEL, build_components(method), task, tokenizer, precision)
    layer_list = encoder_layers(adapted.model)
    del layer_list[layers:]
    adapted.model.config.num_hidden_layers = layers
    adapted.runner.family = encoder_family(adapted.model)
    for component in adapted.components:
        if isinstance(component, Distillation):
            component.bind_teacher(CachedTeacher(CachedLogits(answers, None, {})), adapted.model)
    optimizer = adamw.build_optimizer(
        collect_param_groups(adapted.components, adapted.model), TrainerConfig()
    )
    adapted.model.train()
    return TrainStep(adapted.runner, task, adapted.components, optimizer, precision, 1.0)


def _steps(stepper: TrainStep, table: FeatureTable, steps: int) -> Work:
    order = LengthGroupedSampler(table.lengths, 32, 0, 50)

    def work(number: int) -> Turn:
        batches = order.epoch_batches(0)
        chosen = [batches[(number * steps + n) % len(batches)] for n in range(steps)]
        set_learning_rates(stepper.optimizer, 1e-3)
        watch, rows, tokens = Stopwatch(), 0, 0
        for indices in chosen:
            batch = collate(table, indices, ("labels",))
            stepper([batch], 1, 100)
            rows, tokens = rows + len(batch), tokens + len(batch.input_ids)
        return watch.turn(rows, tokens)

    return work


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, default=Path("outputs/distill"))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--epochs", type=float, default=3, help="of each student")
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--overhead", action="store_true", help="time steps instead")
    parser.add_argument("--steps", type=int, default=10, help="of a round of --overhead")
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args(argv)
    if args.overhead:
        print(_overhead(args))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    table = _experiment(args)
    (args.out / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
