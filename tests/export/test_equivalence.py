"""The comparison of logits before and after an export."""

from __future__ import annotations

import numpy as np
import pytest

from bertft.errors import MergeError
from bertft.export.equivalence import check_logit_difference


def test_logits_that_are_not_finite_need_another_training_or_checkpoint():
    """The same training would give the same weights."""
    logits = np.array([[1.0, np.nan]])
    with pytest.raises(MergeError, match="NaN or infinity") as error:
        check_logit_difference(logits, logits, "64 validation rows", "adapter", "run")
    assert "lower learning rate" in error.value.hint and "checkpoint=<step>" in error.value.hint


def test_the_difference_is_relative_to_the_largest_logit():
    before = np.array([[100.0, -1.0]])
    rows = "64 validation rows"  # with one label per token, there are more rows of logits
    difference = check_logit_difference(before, before + 0.005, rows, "adapter", "run")
    assert difference == pytest.approx(0.005)
    with pytest.raises(MergeError, match=r"would give different logits: .* on 64 validation rows"):
        check_logit_difference(before / 100, before / 100 + 0.005, rows, "adapter", "run")
