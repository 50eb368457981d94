"""Checks that an exported model gives the same logits as before, and writes its model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bertft.data.rows import Rows
from bertft.errors import MergeError
from bertft.export.card_facts import collect_card_facts
from bertft.export.model_card import MergeCheck, SoupFacts, render_model_card
from bertft.pipeline.check_rows import read_check_rows, sample_check_rows
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.open_model import OpenSettings, open_from_settings, open_model
from bertft.runs.manifest import read_manifest
from bertft.tasks.feature_tables import build_features, build_unlabelled_features
from bertft.training.evaluate import LogitsModel, evaluate, evaluation_transform, predict_logits
from bertft.utils.status import show_status

__all__ = ["NOT_FINITE_HINT", "EquivalenceCheck", "check_logit_difference", "score_rows"]

# Training again with the same settings would give the same weights.
NOT_FINITE_HINT = (
    "Train again with a lower learning rate, or use an earlier checkpoint: checkpoint=<step>"
)

_TOLERANCE = 1e-4  # relative to the largest |logit|, or to 1 if that is smaller


class EquivalenceCheck:
    """The logits and parameter counts of ``loaded`` before anything is folded into its base."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.parameter_counts = loaded.task_model.count_parameters()
        self.rows, self.row_kind = _load_check_rows(loaded)
        show_status("computing the logits before the export")
        self.logits, self.metrics = score_rows(loaded, self.rows)

    def reopen(self, folder: Path, settings: OpenSettings) -> LoadedModel:
        """Load the exported ``folder`` in fp32, with the device and the trust of ``settings``."""
        return open_model(
            str(folder),
            precision="fp32",
            device=settings.device,
            data=self.loaded.data,
            trust_remote_code=settings.trust_remote_code,
        )

    def write_card(
        self,
        folder: Path,
        name: str,
        exported: LoadedModel,
        *,
        what: str,
        where: str,
        runner: LogitsModel | None = None,
        library: str = "transformers",
        prefix_file: str | None = None,
        soup: SoupFacts | None = None,
    ) -> str:
        """Compare the logits, then write README.md.

        Args:
            folder: Where README.md is written, a temporary folder.
            name: Final name of the folder.
            exported: The model after export.
            what: The kind of export, for error messages: "merged model".
            where: The run or folder that was exported, for error messages.
            runner: Computes the logits in place of ``exported``.
            library: The library that loads the folder: "transformers", "peft" or "onnx".
            prefix_file: File or folder of the prefix, if it is not part of the model.
            soup: What was averaged, if the model is the average of several runs.

        Returns:
            One line on the difference, for the terminal.

        Raises:
            MergeError: If the logits differ.
        """
        show_status("computing the logits after the export")
        logits, metrics = score_rows(exported, self.rows, runner)
        rows = f"{len(self.rows)} {self.row_kind}"
        max_difference = check_logit_difference(self.logits, logits, rows, what, where)
        check = MergeCheck(len(self.rows), max_difference, self.metrics, metrics, self.row_kind)
        facts = collect_card_facts(
            self.loaded,
            name,
            check,
            self.parameter_counts,
            pair="text_pair" in self.rows.columns,
            library=library,
            prefix_file=prefix_file,
            soup=soup,
        )
        (folder / "README.md").write_text(render_model_card(facts), encoding="utf-8")
        metric = self.loaded.task_model.task.metric
        line = f"max |Δlogit| {max_difference:.1e} on {rows}"
        return line + _describe_metric_change(metric, self.metrics, metrics)

    def precision_notes(self, settings: OpenSettings, out: str) -> list[str]:
        """How far the logits of the export are from those of a run in bf16 or fp16.

        A run is used in the precision of its training, and any other folder in fp32.

        Args:
            settings: The settings with which the run was opened.
            out: Name of the exported folder.

        Returns:
            One line; none for a run in fp32 and a model that is not a run.
        """
        if self.loaded.run is None:
            return []
        precision = read_manifest(self.loaded.run)["precision"]
        if precision == "fp32":
            return []
        line = f"the run was trained and predicts in {precision}, {out} predicts in fp32"
        if precision == "fp16" and self.loaded.task_model.precision.device.type != "cuda":
            return [line]
        logits, _ = score_rows(open_from_settings(settings), self.rows)
        difference = float(np.abs(logits - self.logits).max())
        return [f"{line}: max |Δlogit| {difference:.1e} between them on these rows"]


def _load_check_rows(loaded: LoadedModel) -> tuple[Rows, str]:
    """Rows to compare on and their kind: validation rows of the run, otherwise sample rows."""
    if loaded.run is not None:
        digest = read_manifest(loaded.run).get("check_rows")
        return read_check_rows(loaded.run.check_rows_path, loaded.data, digest), "validation rows"
    return sample_check_rows(loaded.info.task), "sample rows"


def score_rows(
    loaded: LoadedModel, rows: Rows, runner: LogitsModel | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """fp32 logits in the order of ``rows``, and the task's metrics if the rows have labels.

    ``runner`` computes the logits in place of the loaded model.
    """
    task_model, task, length = loaded.task_model, loaded.task_model.task, loaded.info.max_length
    runner = task_model.runner if runner is None else runner
    if task.needs_labels and not rows.has_labels:
        table = build_unlabelled_features(rows, task, task_model.tokenizer, length, None)
        transform = task.predict_transform
        return predict_logits(runner, table, task_model.precision, transform=transform), {}
    table = build_features({"check": rows}, task, task_model.tokenizer, length, None)["check"]
    logits = predict_logits(
        runner,
        table,
        task_model.precision,
        transform=evaluation_transform(task),
        columns=task.label_columns,
    )
    if task.has_fixed_inputs:
        return logits, task.compute_all_metrics(logits, table)
    return logits, evaluate(runner, task, table, task_model.precision)


def check_logit_difference(
    before: np.ndarray, after: np.ndarray, rows: str, what: str, where: str
) -> float:
    """max |Δlogit| on ``rows``. MergeError unless it is at most 1e-4 · max(1, max |logit|).

    A token-level task has a row of logits per token, so that their number is not that of ``rows``.
    """
    if not np.isfinite(before).all():
        raise MergeError(
            f"the logits contain NaN or infinity before the {what} is written",
            where=where,
            hint=f"Nothing was written. The weights are too large. {NOT_FINITE_HINT}",
        )
    max_difference = float(np.abs(after - before).max())
    max_logit = float(np.abs(before).max())
    if not max_difference <= _TOLERANCE * max(1.0, max_logit):  # also true for NaN
        raise MergeError(
            f"the {what} would give different logits: max |Δlogit| = {max_difference:.2e} on"
            f" {rows}, where |logit| is up to {max_logit:.3g}",
            where=where,
            hint="Nothing was written. Please report this as a bug",
        )
    return max_difference


def _describe_metric_change(
    metric: str, before: Mapping[str, float], after: Mapping[str, float]
) -> str:
    """``; accuracy 0.9123 before, 0.9123 after``. Empty for rows without labels."""
    if metric not in before:
        return ""
    return f"; {metric} {before[metric]:.4f} before, {after[metric]:.4f} after"
