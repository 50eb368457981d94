"""Names of parameter groups in messages: the setting that changes their learning rate."""

from __future__ import annotations

import pytest

from bertft.config.schema import find_setting, settings_tree
from bertft.pipeline.training_run import _learning_rate_setting


@pytest.mark.parametrize(
    ("group", "place", "setting"),
    [
        ("low_rank", "method.low_rank", "method.low_rank.learning_rate"),
        ("low_rank_b", "method.low_rank", "method.low_rank.learning_rate"),
        ("base/no_decay", "method.base", "method.base.learning_rate"),
        ("distill", "method.distill", "method.distill.learning_rate"),
        ("head/no_decay", "task head", "method.head_learning_rate"),
    ],
)
def test_the_setting_of_a_group_exists(group, place, setting):
    assert _learning_rate_setting(group, None) == (place, setting)
    assert find_setting(settings_tree("train"), setting)[0] is not None
    assert _learning_rate_setting(group, 1e-3) == (place, "trainer.learning_rate")
