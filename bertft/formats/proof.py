"""A model in another form is shown to answer as before, and its card says on what rows."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.saved import Saved
from bertft.assembly.scores import check_rows, compared, difference, score
from bertft.formats.card_of_saved import card_facts
from bertft.formats.model_card import MergeCheck, model_card
from bertft.training.evaluate import Answering

__all__ = ["Proof"]


class Proof:
    """What ``saved`` answers and what it trains, kept before anything is folded into its base."""

    def __init__(self, saved: Saved) -> None:
        self.saved, self.counts = saved, saved.adapted.counts()
        self.rows, self.kind = check_rows(saved)
        self.logits, self.metrics = score(saved, self.rows)

    def write(
        self, folder: Path, name: str, written: Saved, *, what: str, where: str,
        runner: Answering | None = None, form: str = "transformers", beside: str | None = None,
    ) -> str:  # fmt: skip
        """Leave the card in ``folder``, which will be called ``name``; the line that tells of it.

        ``written`` is the model of the other form, or ``runner`` answers for it. MergeRefused,
        with ``what`` it is and ``where`` it came from, if the answers are others.
        """
        logits, metrics = score(written, self.rows, runner)
        change = difference(self.logits, logits, what, where)
        check = MergeCheck(len(self.rows), change, self.metrics, metrics, self.kind)
        facts = card_facts(
            self.saved, name, check, self.counts, pair="text_pair" in self.rows.columns,
            form=form, beside=beside,
        )  # fmt: skip
        (folder / "README.md").write_text(model_card(facts), encoding="utf-8")
        metric = self.saved.adapted.task.metric
        return (
            f"max |Δlogit| {change:.1e} on {len(self.rows)} {self.kind}"
            f"{compared(metric, self.metrics, metrics)}"
        )
