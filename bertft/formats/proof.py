"""A model in another form is shown to answer as before, and its card says on what rows."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.saved import LoadedModel
from bertft.assembly.scores import load_check_rows, describe_metric_change, check_logit_difference, score_rows
from bertft.formats.card_of_saved import collect_card_facts
from bertft.formats.model_card import MergeCheck, render_model_card
from bertft.training.evaluate import LogitsModel

__all__ = ["EquivalenceCheck"]


class EquivalenceCheck:
    """What ``loaded`` answers and what it trains, kept before anything is folded into its base."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self.parameter_counts = loaded, loaded.task_model.count_parameters()
        self.rows, self.row_kind = load_check_rows(loaded)
        self.logits, self.metrics = score_rows(loaded, self.rows)

    def write_card(
        self, folder: Path, name: str, exported: LoadedModel, *, what: str, where: str,
        runner: LogitsModel | None = None, form: str = "transformers", prefix_file: str | None = None,
    ) -> str:  # fmt: skip
        """Leave the card in ``folder``, which will be called ``name``; the line that tells of it.

        ``exported`` is the model of the other form, or ``runner`` answers for it. MergeRefused,
        with ``what`` it is and ``where`` it came from, if the answers are others.
        """
        logits, metrics = score_rows(exported, self.rows, runner)
        max_difference = check_logit_difference(self.logits, logits, what, where)
        check = MergeCheck(len(self.rows), max_difference, self.metrics, metrics, self.row_kind)
        facts = collect_card_facts(
            self.loaded, name, check, self.parameter_counts, pair="text_pair" in self.rows.columns,
            form=form, prefix_file=prefix_file,
        )  # fmt: skip
        (folder / "README.md").write_text(render_model_card(facts), encoding="utf-8")
        metric = self.loaded.task_model.task.metric
        return (
            f"max |Δlogit| {max_difference:.1e} on {len(self.rows)} {self.row_kind}"
            f"{describe_metric_change(metric, self.metrics, metrics)}"
        )
