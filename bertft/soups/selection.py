"""Choose the runs of a soup, and compare the soup with the best run and with an ensemble.

    mean      all runs
    greedy    the best run on the rows that choose; then each other run, in the order of its metric
              there, stays in the average if the metric of the average does not fall

Wortsman et al. 2022, arXiv 2203.05482, recipe 1. The rows that report play no part in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bertft.errors import BertftError
from bertft.pipeline.loaded_model import LoadedModel
from bertft.report.compare.bootstrap import Difference
from bertft.soups.average import WeightMean
from bertft.soups.scoring import HalfScores, RowScorer
from bertft.soups.sources import SoupSource, folded_weights

__all__ = ["Choice", "SoupScores", "choose_runs", "load_weights"]

Open = Callable[[SoupSource], LoadedModel]


@dataclass(frozen=True)
class SoupScores:
    """Scores of a soup and of what it is compared with.

    Attributes:
        best: The index of the best run on the rows that choose.
        ensemble: Of the mean of the logits of all runs; None for a task without logits.
        differences: Name → difference to the best run, on the rows that report.
    """

    metric: str
    half_sizes: tuple[int, int]
    seed: int
    lower_is_better: bool
    runs: Sequence[HalfScores]
    best: int
    soup: HalfScores
    ensemble: HalfScores | None
    differences: dict[str, Difference]


class Choice:
    """The runs that are averaged, and the outputs of all runs.

    Attributes:
        members: Which of the sources are averaged, bool [sources].
        weights: The average of the folded weights of the members.
        reason: Why the runs were not scored; empty if they were.
    """

    def __init__(
        self,
        sources: Sequence[SoupSource],
        members: Sequence[bool],
        weights: dict[str, Tensor],
        scorer: RowScorer | None,
        outputs: Sequence[np.ndarray],
        scores: Sequence[HalfScores],
        reason: str = "",
    ) -> None:
        self.sources, self.members, self.weights = sources, list(members), weights
        self.reason = reason
        self._scorer, self._outputs, self._scores = scorer, outputs, scores

    @property
    def chosen(self) -> list[SoupSource]:
        """The sources that are averaged."""
        return [
            source
            for source, is_member in zip(self.sources, self.members, strict=True)
            if is_member
        ]

    def compare(self, soup: LoadedModel) -> SoupScores | None:
        """The scores of the finished ``soup``; None if the runs were not scored."""
        scorer = self._scorer
        if scorer is None:
            return None
        best = _order(self._scores, scorer)[0]
        scores = {"soup": scorer.score(scorer.outputs(soup))}
        if scorer.averages_logits:
            mean = np.stack(self._outputs).astype(np.float64).mean(0)
            scores["ensemble"] = scorer.score(mean.astype(np.float32))
        return SoupScores(
            scorer.metric,
            scorer.half_sizes,
            scorer.seed,
            not scorer.task.higher_is_better,
            self._scores,
            best,
            scores["soup"],
            scores.get("ensemble"),
            {name: scorer.difference(one, self._scores[best]) for name, one in scores.items()},
        )


def choose_runs(sources: Sequence[SoupSource], how: str, seed: int, open_source: Open) -> Choice:
    """Average all ``sources`` (how=mean), or those that greedy selection keeps.

    Args:
        seed: Seed of the halves of the validation rows.
        open_source: Loads a run.

    Raises:
        UsageError: greedy has no validation rows to choose on (see ``RowScorer``).
        DataError: They have changed since training.
        MergeError: A weight is not finite.
    """
    first = open_source(sources[0])
    scorer, reason = None, ""
    try:
        scorer = RowScorer(sources, first, seed)
    except BertftError as error:
        if how == "greedy":
            raise
        reason = f"the runs are not compared: {error.what}"
    outputs: list[np.ndarray] = []
    scores: list[HalfScores] = []
    total = WeightMean()
    for number, source in enumerate(sources):
        loaded = first if number == 0 else open_source(source)
        if scorer is not None:
            outputs.append(scorer.outputs(loaded))
            try:
                scores.append(scorer.score(outputs[-1]))
            except BertftError as error:
                if how == "greedy":
                    raise
                scorer, reason = None, f"the runs are not compared: {error.what}"
        if how == "mean":
            total.add(folded_weights(loaded, source.name))
        del loaded
    if how == "mean":
        members = [True] * len(sources)
        return Choice(sources, members, total.mean(), scorer, outputs, scores, reason)
    assert scorer is not None
    members, weights = _choose_greedily(sources, scores, scorer, open_source)
    return Choice(sources, members, weights, scorer, outputs, scores)


def _order(scores: Sequence[HalfScores], scorer: RowScorer) -> list[int]:
    """The runs by their metric on the rows that choose, the best first; NaN last."""
    sign = -1 if scorer.task.higher_is_better else 1
    keys = [(math.isnan(one.choosing), sign * one.choosing) for one in scores]
    return sorted(range(len(scores)), key=keys.__getitem__)


def _choose_greedily(
    sources: Sequence[SoupSource],
    scores: Sequence[HalfScores],
    scorer: RowScorer,
    open_source: Open,
) -> tuple[list[bool], dict[str, Tensor]]:
    """Which of ``sources`` are averaged, and the average of their weights."""
    best, *others = _order(scores, scorer)
    members, current = [number == best for number in range(len(sources))], scores[best].choosing
    soup, total = open_source(sources[best]), WeightMean()
    total.add(folded_weights(soup, sources[best].name))
    for number in others:
        candidate = folded_weights(open_source(sources[number]), sources[number].name)
        load_weights(soup, total.mean_with(candidate))
        value = scorer.score(scorer.outputs(soup)).choosing
        if not math.isnan(value) and not scorer.task.is_better(current, value):
            total.add(candidate)
            members[number], current = True, value
    return members, total.mean()


def load_weights(loaded: LoadedModel, weights: dict[str, Tensor]) -> None:
    """Copy ``weights`` into the folded model of ``loaded``."""
    with torch.no_grad():
        loaded.task_model.model.load_state_dict(weights)
