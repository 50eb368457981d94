"""Score a run, an adapter, a merged or a plain transformers folder on labelled rows."""

from __future__ import annotations

import numpy as np

from bertft.config.command_configs import EvalRequest
from bertft.config.resume import metric_code_error
from bertft.config.task_facts import is_metric_function
from bertft.errors import UsageError
from bertft.pipeline.open_model import open_from_settings
from bertft.pipeline.recorded_rows import load_split
from bertft.report.eval_report import Evaluation
from bertft.report.intervals import metric_intervals
from bertft.tasks.shared.metric_function import load_metric_function
from bertft.utils.numbers import format_count
from bertft.utils.status import show_status
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["score_run"]


def score_run(config: EvalRequest) -> Evaluation:
    """Evaluate the model that ``config`` selects. Raises UsageError and DataError."""
    loaded = open_from_settings(
        config, config.precision, config.data, print_warning, accepts_onnx=True
    )
    if loaded.run is None and config.data is None:
        raise UsageError(
            f"{config.adapter or config.run} is not a run folder and records no data",
            where="data",
            hint="Set data=files data.validation=<file>, or data=<preset>",
        )
    show_status("reading data")
    rows = load_split(loaded, config.split, print_escaped, config.explicit_settings)
    for note in rows.bad.notes:
        print_warning(f"{rows.source}: {note}")
    task_model, task = loaded.task_model, loaded.task_model.task
    if is_metric_function(task.metric):
        if "data.metric" not in config.explicit_settings:
            raise metric_code_error(loaded.folder, task.metric)
        task.metric_function = load_metric_function(task.metric)
    features = loaded.build_features(config.split, rows)
    show_status("evaluating", total=len(features))
    outputs: list[np.ndarray] = []
    metrics = loaded.evaluate(features, outputs.append)
    show_status("computing confidence intervals", brief=True)
    facts = {"Checkpoint": f"step {format_count(loaded.info.step)}"} if loaded.run else {}
    facts["Base model"] = task_model.source.name
    facts["Precision"] = task_model.precision.name
    return Evaluation(
        str(config.adapter or config.run),
        config.split,
        task,
        metrics,
        {"source": rows.source, **rows.accounting()},
        outputs[0],
        features,
        metric_intervals(task, outputs[0], features),
        facts,
    )
