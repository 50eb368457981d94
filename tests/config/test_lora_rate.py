"""The default learning rate of low-rank updates depends on the number of targets."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from bertft.config.compose import ComposeRequest, compose_config
from bertft.errors import UsageError

TARGETS, RATE = "method.low_rank.targets", "method.low_rank.learning_rate"


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        (["method=lora"], 2e-3),
        (["method=lora", f"{TARGETS}=query"], 2e-3),
        (["method=lora", f"{TARGETS}=[query,key,value]"], 1.333e-3),
        (["method=lora", f"{TARGETS}=[all_linear]"], 6.667e-4),
        (["method=lora_prefix", f"{TARGETS}=all_linear"], 6.667e-4),
        (["method=lora", f"{TARGETS}=all_linear", f"{RATE}=5e-3"], 5e-3),
        (["method=svd_lora"], 8e-3),
        (["method=svd_lora", f"{TARGETS}=[query,key,value]"], 8e-3),
        (["method=svd_lora", f"{TARGETS}=all_linear"], 4e-3),
        (["method=svd_lora_prefix", f"{TARGETS}=all_linear"], 4e-3),
    ],
)
def test_the_default_rate(words, rate):
    config = compose_config(ComposeRequest("train", tuple(words)))
    assert OmegaConf.select(config, RATE) == rate


def test_invalid_targets_are_reported_as_such():
    with pytest.raises(UsageError, match=r"method\.low_rank\.targets.*5 is not a list of layers"):
        compose_config(ComposeRequest("train", ("method=lora", f"{TARGETS}=5")))
