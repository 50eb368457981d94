"""Valid values of settings that are also used outside the schema.

The ``choices`` of a setting and the code that reads recorded values share these lists, so that both
accept the same values. This module does not import torch.
"""

from __future__ import annotations

__all__ = [
    "BAD_ROW_POLICIES",
    "DERIVED_COLUMNS",
    "FORMER_LAYOUTS",
    "LAYER_MAPS",
    "LAYOUTS",
    "MAX_TEXT_COLUMNS",
    "PRECISIONS",
    "QA_SCORERS",
    "SOUPS",
    "SPLITS",
    "TAGGING_SCHEMES",
    "TRACKERS",
]

PRECISIONS = ("fp32", "bf16", "fp16")  # a run records one of these; the setting adds auto
LAYOUTS = ("unpadded", "packed", "padded")  # a run records one of these; the setting adds auto
FORMER_LAYOUTS = {"stream": "unpadded", "rows": "packed"}  # recorded by runs of 0.1.0
SPLITS = ("train", "validation", "test")
TAGGING_SCHEMES = ("io", "iob1", "bio", "bios", "bioes", "biluo", "bmes")
QA_SCORERS = ("squad", "cmrc2018")
SOUPS = ("mean", "greedy")  # how merge and export choose the runs to average
BAD_ROW_POLICIES = ("error", "skip")
DERIVED_COLUMNS = ("@file", "@folder")  # columns from the name of the file, not from its content
MAX_TEXT_COLUMNS = 16
LAYER_MAPS = ("uniform", "last")
TRACKERS = ("mlflow", "tensorboard", "wandb")
