"""A student of half the layers, trained in several ways, on SST-2; and what a step costs.

    python -m benchmarks.distill --data $BERTFT_DATA/sst2 --out outputs/distill
    python -m benchmarks.distill --data $BERTFT_DATA/sst2 --ways teacher,copies --seeds 0
    python -m benchmarks.distill --data $BERTFT_DATA/sst2 --overhead

MiniLM-L6 is trained in full on ``--rows`` rows, once per seed. Its layers become students of
``--layers`` layers, trained in the ways of ``_ways``. Students with augmented copies see
``--copies`` + 1 times as many rows per epoch. The ways ``*_long`` train as many steps without
copies, so that copies are compared at equal training time.

Each finished run is a line of ``<out>/results.jsonl``, and is not run again: the command can be
stopped and repeated, with more seeds or ways, until the table is complete. It leaves table.md
there; rows per second are those of evaluating teacher and student in turn, if their folders are
still in ``--out``. ``--overhead`` times steps with cached teacher outputs against steps of the same
student without a teacher, interleaved.
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
from bertft.pipeline.open_model import open_model
from bertft.pipeline.task_model import build_task_model
from bertft.tasks.feature_tables import build_features
from bertft.tasks.task import build_task
from bertft.training import optim as adamw
from bertft.training.evaluate import predict_logits
from bertft.training.step import TrainStep, set_learning_rates

__all__ = ["main"]

_TEACHER = "teacher_of_6"  # its name in the results
_ENSEMBLE = (0, 1, 2)  # seeds of the teachers of ensemble_copies
_MODEL = ModelConfig(name="minilm", path="all-MiniLM-L6-v2")


def _ways(args: argparse.Namespace) -> dict[str, list[str]]:
    """Name → settings of each way to train a student."""
    soft = [f"method.distill.weight={args.weight:g}"]
    soft += [f"method.distill.temperature={args.temperature:g}"]
    stages = [
        "method.distill.hidden_weight=1", "method.distill.attention_weight=1",
        "method.distill.inner_fraction=0.5",
    ]  # fmt: skip
    copies = [f"method.distill.augment={args.copies}"]
    short, long = [
        f"trainer.epochs={epochs:g}" for epochs in (args.epochs, args.epochs * (args.copies + 1))
    ]
    return {
        "alone": ["method.distill.weight=0", short],
        "teacher": [*soft, short],
        "alone_long": ["method.distill.weight=0", long],
        "teacher_long": [*soft, long],
        "copies": [*soft, *copies, short],
        "stages_long": [*soft, *stages, long],
        "stages_copies": [*soft, *stages, *copies, short],
        "ensemble_copies": [*soft, *copies, short],
    }


def _common_settings(args: argparse.Namespace) -> list[str]:
    return [
        "data=files", f"data.train={args.data / 'train.tsv'}",
        f"data.validation={args.data / 'dev.tsv'}", "data.text=sentence",
        f"data.max_train_rows={args.rows}", f"trainer.precision={args.precision}", "quiet=true",
        "report=false",
    ]  # fmt: skip


def _experiment(args: argparse.Namespace) -> str:
    ways, results = _ways(args), args.out / "results.jsonl"
    unknown = set(args.ways.split(",")) - ways.keys() if args.ways else set()
    if unknown:
        raise SystemExit(f"unknown ways {sorted(unknown)}; choose from {', '.join(ways)}")
    seeds = [int(seed) for seed in args.seeds.split(",")]
    common = _common_settings(args)
    chosen = args.ways.split(",") if args.ways else list(ways)
    for seed in dict.fromkeys([*seeds, *(_ENSEMBLE if "ensemble_copies" in chosen else ())]):
        teacher = _folder(args, _TEACHER, seed)
        _run(results, _TEACHER, seed, teacher, [*common, "method=full", f"seed={seed}"])
    for name in chosen:
        for seed in seeds:
            names = [str(_folder(args, _TEACHER, seed))]
            if name == "ensemble_copies":  # the teacher of the student's seed is the first
                others = [number for number in _ENSEMBLE if number != seed][:2]
                names += [str(_folder(args, _TEACHER, number)) for number in others]
            _run(results, name, seed, _folder(args, name, seed), [
                *common, "method=distill", f"method.distill.teacher=[{','.join(names)}]",
                f"method.distill.student_layers={args.layers}", f"seed={seed}", *ways[name],
            ])  # fmt: skip
    return _table(args, results)


def _folder(args: argparse.Namespace, name: str, seed: int) -> Path:
    path: Path = args.out / f"{name}-{seed}"
    return path


def _run(results: Path, name: str, seed: int, folder: Path, settings: list[str]) -> None:
    """Train, or continue, the run in ``folder`` and add its line, unless ``results`` has it."""
    recorded = [word for word in settings if word.startswith(("method", "trainer", "data.max"))]
    for line in _read(results):
        if line["way"] == name and line["seed"] == seed:
            if line["settings"] != recorded:
                raise SystemExit(f"{results}: {name}, seed {seed} has other settings. Set --out")
            return
    command = [sys.executable, "-m", "bertft", "train", *settings]
    subprocess.run([*command, f"hydra.run.dir={folder}", "resume=auto"], check=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    line = {
        "way": name,
        "seed": seed,
        "accuracy": metrics["best"]["value"],
        "best_step": metrics["best"]["step"],
        "steps": metrics["train"]["steps"],
        "seconds": metrics["train"]["seconds"],
        "parameters": metrics["parameters"]["total"],
        "agreement": metrics.get("distillation", {}).get("agreement"),
        "settings": recorded,
    }
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _read(results: Path) -> list[dict[str, Any]]:
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def _table(args: argparse.Namespace, results: Path) -> str:
    """Mean and standard deviation over the seeds, and the paired difference to the teacher."""
    by_way: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for line in _read(results):
        by_way[line["way"]][line["seed"]] = line
    teachers = by_way[_TEACHER]
    rows = [
        "| | dev accuracy | minus its teacher | agreement | steps | runs |",
        "|---|---|---|---|---|---|",
    ]
    for name, lines in by_way.items():
        values = [line["accuracy"] for line in lines.values()]
        gaps = [line["accuracy"] - teachers[seed]["accuracy"] for seed, line in lines.items()]
        agreed = [line["agreement"] for line in lines.values() if line["agreement"] is not None]
        agreement = f"{statistics.fmean(agreed):.1%}" if agreed else ""
        steps = next(iter(lines.values()))["steps"]
        rows.append(
            f"| {name} | {_mean_and_spread(values)} | {statistics.fmean(gaps):+.4f} | {agreement} |"
            f" {steps:,} | {len(lines)} |"
        )
    folders = [_folder(args, name, seed) for name, lines in by_way.items() for seed in lines]
    students = [path for path in folders if not path.name.startswith(_TEACHER)]
    runs = {"teacher": folders[0], "student": students[0]} if students else {}
    if runs and all((path / "metrics.json").is_file() for path in runs.values()):
        speeds = _speeds(runs)
        rows += [
            "",
            f"Rows per second in evaluation: teacher {speeds['teacher']:,.0f}, student"
            f" {speeds['student']:,.0f} ({speeds['student'] / speeds['teacher']:.2f} ×).",
        ]
    return "\n".join(rows)


def _mean_and_spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


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
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--copies", type=int, default=4, help="augmented copies per row")
    parser.add_argument("--ways", help="only these, separated by commas")
    parser.add_argument("--precision", default="auto", help="of all runs")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--epochs", type=float, default=3, help="of a student without copies")
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
