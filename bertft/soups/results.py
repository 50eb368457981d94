"""What a soup reports: lines and a table in the terminal, ``soup.json``, facts of the model card.

soup.json    how, seed of the halves, metric; per run: its folder, method, seed, step, sha256 of
             weights, whether it is averaged, metric on both halves; soup, ensemble, differences
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bertft.config.task_facts import join_words
from bertft.export.model_card import SoupFacts
from bertft.report.compare.bootstrap import Difference
from bertft.soups.scoring import DRAWS, HalfScores
from bertft.soups.selection import Choice, SoupScores
from bertft.soups.sources import SoupSource
from bertft.tasks.report_items import TableCell, TableItem
from bertft.utils.numbers import format_score

__all__ = ["SOUP_FILE", "describe_choice", "scores_table", "soup_facts", "soup_record"]

SOUP_FILE = "soup.json"


def describe_choice(choice: Choice, scores: SoupScores | None, how: str) -> list[str]:
    """Which runs were averaged, selected by ``how``, and what to know about the result."""
    names = [source.name for source in choice.chosen]
    if len(names) == 1:
        lines = [f"no average is better than the best run: {names[0]} is used alone"]
    else:
        lines = [f"averaged {len(names)} of {len(choice.sources)} runs: {join_words(names)}"]
    if any(source.is_calibrated for source in choice.sources):
        lines.append(
            "what was fitted to the outputs of a single run (temperature, thresholds) is not used"
        )
    if choice.reason:
        lines.append(choice.reason)
    if scores is not None and _is_much_worse(scores):
        action = "set how=greedy" if how == "mean" else "use the best run alone"
        lines.append(
            f"the average is worse than the best run: {action}, or average runs of about the same"
            " quality whose heads have the same initial weights (the same seed, or the same trained"
            " head in model.path)"
        )
    return lines


def _is_much_worse(scores: SoupScores) -> bool:
    """Whether the interval of the difference to the best run excludes 0 on the worse side."""
    difference = scores.differences["soup"]
    return difference.low > 0 if scores.lower_is_better else difference.high < 0


def scores_table(choice: Choice, scores: SoupScores) -> TableItem:
    """One row per model: the metric on both halves, and the difference to the best run."""
    chosen, reported = scores.half_sizes
    rows = [_score_row("soup", "", scores.soup, scores.differences.get("soup"))]
    for number, (source, is_member) in enumerate(zip(choice.sources, choice.members, strict=True)):
        notes = [
            *(["best"] if number == scores.best else []),
            *(["averaged"] if is_member else []),
        ]
        rows.append(_score_row(source.name, ", ".join(notes), scores.runs[number], None))
    if scores.ensemble is not None:
        difference = scores.differences.get("ensemble")
        rows.append(_score_row("ensemble", "", scores.ensemble, difference))
    note = (
        f"{scores.metric} on two halves of the validation rows (seed {scores.seed}). Selection"
        f" half: the {chosen:,} rows on which the best run and, with how=greedy, the averaged runs"
        f" were chosen. Held-out half: the other {reported:,} rows, on which the difference to the"
        f" best run is computed, with a 95 % interval of a paired bootstrap ({DRAWS:,} samples)."
        " Ensemble: the mean of the logits of all runs."
    )
    head = ("model", "", "selection half", "held-out half", "difference to best")
    kinds = ("word", "text", "number", "number", "number")
    return TableItem("soup", "Soup", note, head=head, rows=rows, strong=(0,), kinds=kinds)


def _score_row(
    name: str, note: str, scores: HalfScores, difference: Difference | None
) -> list[TableCell]:
    text = ""
    if difference is not None:
        text = f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
    return [name, note, format_score(scores.choosing), format_score(scores.reported), text]


def soup_record(
    choice: Choice, scores: SoupScores | None, how: str, seed: int, adapter: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``soup.json``; ``adapter``: further entries, of a re-factored soup."""
    runs = [
        {**_source_record(source), "averaged": is_member}
        for source, is_member in zip(choice.sources, choice.members, strict=True)
    ]
    record: dict[str, Any] = {"format": 1, "how": how, "runs": runs, **adapter}
    record["base"] = {
        name: choice.sources[0].manifest["base"].get(name) for name in ("name", "sha256")
    }
    if scores is None:
        return record
    for run, run_scores in zip(runs, scores.runs, strict=True):
        run |= _half_record(run_scores)
    record |= {
        "metric": scores.metric,
        "seed": seed,
        "rows": dict(zip(("choosing", "reported"), scores.half_sizes, strict=True)),
        "soup": _half_record(scores.soup),
        "best_run": runs[scores.best]["run"],
        "differences_to_best_run": {
            name: asdict(difference) for name, difference in scores.differences.items()
        },
    }
    if scores.ensemble is not None:
        record["ensemble"] = _half_record(scores.ensemble)
    return record


def _source_record(source: SoupSource) -> dict[str, Any]:
    # Without the parents of the folder, which may contain names of people.
    return {
        "run": source.name,
        "method": source.config.method.name,
        "seed": source.manifest["seeds"].get("run"),
        "step": source.step,
        "weights_sha256": source.digest,
    }


def _half_record(scores: HalfScores) -> dict[str, float]:
    return {"choosing": scores.choosing, "reported": scores.reported}


def soup_facts(
    choice: Choice, scores: SoupScores | None, how: str, notes: Sequence[str] = ()
) -> SoupFacts:
    """What the model card states; ``notes``: further sentences."""
    rows: list[list[TableCell]] = [
        [
            source.name,
            source.config.method.name,
            str(source.manifest["seeds"].get("run")),
            source.step,
            source.digest[:16],
        ]
        for source in choice.chosen
    ]
    head = ("run", "method", "seed", "step", "sha256 of the weights")
    fingerprints = [
        {
            (split, entry["fingerprint"])
            for split, entry in source.manifest["data"]["splits"].items()
        }
        for source in choice.chosen
    ]
    return SoupFacts(
        how,
        len(choice.sources),
        TableItem("sources", "Averaged runs", head=head, rows=rows),
        scores_table(choice, scores) if scores is not None else None,
        tuple(dict.fromkeys(source.config.method.name for source in choice.chosen)),
        frozenset(split for split, _ in set.intersection(*fingerprints)),
        tuple(notes),
    )
