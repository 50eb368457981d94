"""The sections of a run's report, in order, each a function from ``Material`` to exhibits.

A section that has nothing to show yields nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bertft.formats.figures import count, duration, size
from bertft.formats.groups import by_group
from bertft.reports.history import Series
from bertft.reports.material import Material
from bertft.runs.exhibits import Cell, Exhibit, Lines, Share, Size, Table

__all__ = ["SECTIONS", "Section"]

_COLUMNS = ("trainable", "kept", "exported")


@dataclass(frozen=True)
class Section:
    """``name`` is its anchor in the page."""

    name: str
    title: str
    exhibits: Callable[[Material], Iterator[Exhibit]]


def _scores(material: Material) -> Iterator[Exhibit]:
    """Every metric of the best checkpoint, the one that chose it first."""
    found = {name: material.metrics.get(name) for name in ("validation", "test")}
    splits = {name: by_group(values)[0] for name, values in found.items() if values}
    if not splits:
        return
    chosen = material.task.metric
    names = dict.fromkeys(name for values in splits.values() for name in values)
    ordered = sorted(names, key=lambda each: each != chosen)
    rows: list[list[Cell]] = [
        [name, *(values.get(name) for values in splits.values())] for name in ordered
    ]
    note = f"{chosen} chose the checkpoint."
    yield Table("scores", "All metrics", note, head=("metric", *splits), rows=rows, strong=(0,))
    told = material.metrics.get("calibration")
    if told is not None:
        yield _fitted(told)


def _fitted(told: Mapping[str, Any]) -> Table:
    """What a temperature and thresholds, fitted after training, changed on validation."""
    notes, rows = [], list[list[Cell]]()
    if "ece" in told:
        notes.append(f"Logits are divided by a temperature of {told['temperature'] or 1.0:.4g}.")
        names = {"ece": "expected calibration error", "loss": "loss"}
        rows += [[text, told[key]["before"], told[key]["after"]] for key, text in names.items()]
    if "tuned" in told:
        tuned, threshold = told["tuned"], told["threshold"]
        notes.append(
            f"The second class is given from a probability of {threshold:.4g}."
            if isinstance(threshold, float)
            else "Each label is given from a probability of its own."
        )
        rows.append([f"{tuned['metric']}, by threshold", tuned["before"], tuned["after"]])
    notes.append("Fitted to these very rows: the test split tells what it is worth.")
    head = ("on validation", "before", "after")
    return Table("calibration", "Fitted after training", " ".join(notes), head=head, rows=rows)


def _curves(material: Material) -> Iterator[Exhibit]:
    history, metric = material.history, material.task.metric
    best = material.metrics["best"]["step"]
    loss = {"validation": history.evaluations.get("loss"), "training": history.loss}
    shown = {name: each for name, each in loss.items() if each is not None and each[0]}
    if shown:
        skipped = f" {history.skipped} steps were not applied." if history.skipped else ""
        yield Lines(
            "loss", "Loss", f"Mean of the steps between two points.{skipped}", series=shown,
            mark=best if "validation" in shown else None,
        )  # fmt: skip
    if metric != "loss" and len(history.evaluations[metric][0]) > 1:  # one is no curve
        yield Lines(
            "metric", metric, "On validation; the ring is the checkpoint that was kept.",
            series={metric: history.evaluations[metric]}, mark=best,
        )  # fmt: skip
    rates = _united(history.rates)
    if rates:
        yield Lines("learning_rate", "Learning rate", "By group of parameters.", series=rates)


def _united(rates: Mapping[str, Series]) -> dict[str, Series]:
    """Groups of one rate share a curve."""
    united: dict[tuple[float, ...], tuple[list[str], Series]] = {}
    for name, series in rates.items():
        names, _ = united.setdefault(tuple(series[1]), ([], series))
        names.append(name.partition("/")[0].replace("_", " "))
    return {", ".join(dict.fromkeys(names)): series for names, series in united.values()}


def _answers(material: Material) -> Iterator[Exhibit]:
    if material.outputs is not None:
        yield from material.task.exhibits(material.outputs, material.validation)
    elif material.without_outputs:
        yield Table("answers", "Answers", material.without_outputs, head=(), rows=())


def _method(material: Material) -> Iterator[Exhibit]:
    for part in material.parts:
        yield from part.exhibits(material.model, material.history.measures)


def _teacher(material: Material) -> Iterator[Exhibit]:
    told = material.metrics.get("distillation")
    if told is None:
        return
    rows: list[list[Cell]] = [
        [
            side, told[side]["value"], told[side]["parameters"], Size(told[side]["bytes"]),
            round(told[side]["rows_per_second"]) if told[side]["rows_per_second"] else None,
        ]
        for side in ("teacher", "student")
    ]  # fmt: skip
    yield Table(
        "distillation_sides", "Teacher and student",
        f"They give the same answer to {told['agreement']:.1%} of validation.",
        head=("", told["metric"], "parameters", "fp32 weights", "rows/s in evaluation"),
        rows=rows, strong=(1,),
    )  # fmt: skip


def _parameters(material: Material) -> Iterator[Exhibit]:
    """As the terminal has them, and what fine-tuning everything would train and store."""
    counts = material.counts
    base, head = counts["base"], counts["head"]
    lines: dict[str, Mapping[str, int]] = {"head and new modules": dict.fromkeys(_COLUMNS, head)}
    lines |= {
        name.replace("_", " "): part for name, part in counts["parts"].items() if name != "head"
    }
    total = {name: sum(line[name] for line in lines.values()) for name in _COLUMNS}
    everything = dict.fromkeys(_COLUMNS, base + head)
    lines |= {"this run": total, "full fine-tuning": everything}
    yield Table(
        "parameters", "Parameters", f"The base has {count(base)}; weights in fp32.",
        head=("", "trainable", "kept after pruning", "exported", "of full", "to store"),
        rows=[
            [
                name, *(line[each] for each in _COLUMNS),
                Share(line["trainable"] / (base + head)), Size(4 * line["exported"]),
            ]
            for name, line in lines.items()
        ],
        strong=(len(lines) - 2,),
    )  # fmt: skip


def _speed(material: Material) -> Iterator[Exhibit]:
    history, train = material.history, material.metrics["train"]
    if len(history.tokens_per_second[0]) > 1:
        yield Lines(
            "throughput", "Throughput", "Tokens a second, forward and backward.",
            series={"tokens/s": history.tokens_per_second},
        )  # fmt: skip
    manifest, padding = material.manifest, material.padding
    hardware = manifest["hardware"]
    rows: list[list[Cell]] = [
        ["steps", count(train["steps"])],
        ["time in steps", duration(train["seconds"])],
        ["rows a second", count(train["rows_per_second"])],
        ["tokens a second", count(train["tokens_per_second"])],
        ["peak memory", size(train["peak_memory_bytes"])],
        ["layout", manifest["layout"]],
        ["cells that hold no token", f"{padding[manifest['layout']]:.1%}"],
        ["the same if padded", f"{padding['padded']:.1%}"],
        ["device", hardware.get("gpu") or hardware["cpu"] or hardware["device"]],
        ["precision", manifest["precision"]],
    ]
    yield Table("speed", "Time and memory", head=("", ""), rows=rows)


def _reasons(split: Mapping[str, Any]) -> str:
    """Why rows of the split, or parts of them, are not used."""
    counts = {**split["skipped"], **split.get("unused", {}), **split.get("dropped", {})}
    return ", ".join(f"{number:,} × {reason}" for reason, number in counts.items() if number)


def _share(value: float | None) -> Cell:
    """A run of an earlier version, or a vocabulary without an unknown token, has none."""
    return "" if value is None else Share(value)


def _data(material: Material) -> Iterator[Exhibit]:
    splits = material.manifest["data"]["splits"]
    yield Table(
        "data", "Rows", "Lengths in tokens a feature.",
        head=(
            "split", "rows read", "used", "skipped", "other splits or not drawn", "median", "90 %",
            "longest", "truncated", "unknown", "reasons",
        ),
        rows=[
            [
                name, each.get("read"), each["rows"], sum(each["skipped"].values()),
                sum(each.get("unused", {}).values()),
                *(round(each["lengths"][q]) for q in ("median", "90 %", "max")),
                Share(each["truncated"]), _share(each.get("unknown")), _reasons(each),
            ]
            for name, each in splits.items()
        ],
    )  # fmt: skip
    base, packages = material.manifest["base"], material.manifest["packages"]
    rows: list[list[Cell]] = [
        ["base", base["name"]],
        ["revision", base.get("revision")],
        ["sha256 of its weights", base.get("sha256")],
        *([f"sha256 of {name}", each["fingerprint"]] for name, each in splits.items()),
        ["seeds", ", ".join(f"{k} {v}" for k, v in material.manifest["seeds"].items())],
        ["bertft", material.manifest["bertft"]],
        *([name, packages[name]] for name in ("torch", "transformers") if name in packages),
    ]
    yield Table("provenance", "Where it came from", head=("", ""), rows=rows)


SECTIONS = (
    Section("scores", "Result", _scores),
    Section("training", "Training", _curves),
    Section("answers", "Answers", _answers),
    Section("teacher", "Teacher", _teacher),
    Section("method", "Method", _method),
    Section("parameters", "Parameters", _parameters),
    Section("speed", "Speed", _speed),
    Section("data", "Data", _data),
)
