"""The values of settings that other code, or a file that a run records, knows too: each list once.

A setting takes its ``choices`` from here, and so does whatever reads the value back, so that a
value that one of them admits is never refused by another. No torch here.
"""

from __future__ import annotations

__all__ = [
    "BAD_ROW_POLICIES",
    "DISPLAY_SETTINGS",
    "FORMER_LAYOUTS",
    "LAYER_MAPS",
    "LAYOUTS",
    "PRECISIONS",
    "QA_SCORERS",
    "SPLITS",
    "TAGGING_SCHEMES",
]


DISPLAY_SETTINGS = ("quiet", "report", "trainer.trackers")


PRECISIONS = ("fp32", "bf16", "fp16")  # what a run records; a setting adds auto
LAYOUTS = ("unpadded", "packed", "padded")  # what a run records; a setting adds auto
FORMER_LAYOUTS = {"stream": "unpadded", "rows": "packed"}  # what runs of 0.1.0 record
SPLITS = ("train", "validation", "test")
TAGGING_SCHEMES = ("io", "iob1", "bio", "bios", "bioes", "biluo", "bmes")
QA_SCORERS = ("squad", "cmrc2018")
BAD_ROW_POLICIES = ("error", "skip")
LAYER_MAPS = ("uniform", "last")
