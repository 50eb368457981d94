"""The name of a tensor with NaN or infinity."""

from __future__ import annotations

import pytest
import torch

from bertft.models.check_weights import first_non_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_bad_number_is_named(value, dtype):
    bad = torch.ones(4, 5, dtype=dtype)
    bad[2, 3] = value
    tensors = {"count": torch.tensor(3), "empty": torch.empty(0), "good": torch.ones(2), "bad": bad}
    assert first_non_finite(tensors) == "bad"


def test_large_numbers_are_finite():
    assert first_non_finite({}) is None
    assert first_non_finite({"a": torch.full([9], 3e38), "b": torch.ones(2)}) is None
