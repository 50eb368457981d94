"""What lies beside a merged model: written and read back, and refused where it does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import DataError
from bertft.pipeline.merged_folder import load_prefix_weights, write_merged_info
from bertft.pipeline.model_info import ModelInfo, read_model_info


class Prefixed(nn.Module):
    def __init__(self, length=3):
        super().__init__()
        self.prefix = nn.Linear(length, 2)
        self.head = nn.Linear(2, 2)


def test_a_prefix_next_to_a_model_comes_back(tmp_path):
    settings = PrefixConfig(length=3, mlp=True)
    torch.manual_seed(0)
    before, after = Prefixed(), Prefixed()
    write_merged_info(tmp_path, 77, settings, before)
    info = read_model_info(tmp_path)
    assert (info.max_length, info.prefix) == (77, settings)
    load_prefix_weights(tmp_path, after)
    assert after.prefix.weight.equal(before.prefix.weight)
    assert not after.head.weight.equal(before.head.weight)
    with pytest.raises(DataError, match="does not match the prefix"):
        load_prefix_weights(tmp_path, Prefixed(length=4))


def test_nothing_next_to_a_model(tmp_path):
    assert read_model_info(tmp_path) == ModelInfo()
    write_merged_info(tmp_path, 12, None, Prefixed())
    assert read_model_info(tmp_path) == ModelInfo(max_length=12)
    assert [path.name for path in tmp_path.iterdir()] == ["bertft.json"]
