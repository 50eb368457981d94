"""What lies beside a merged model: written and read back, and refused where it does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import DataError
from bertft.pipeline.merged_folder import load_prefix_weights, read_merged_info, write_merged_info


class Prefixed(nn.Module):
    def __init__(self, length=3):
        super().__init__()
        self.prefix = nn.Linear(length, 2)
        self.head = nn.Linear(2, 2)


def test_a_prefix_beside_a_model_comes_back(tmp_path):
    settings = PrefixConfig(length=3, mlp=True)
    torch.manual_seed(0)
    before, after = Prefixed(), Prefixed()
    write_merged_info(tmp_path, 77, settings, before)
    beside = read_merged_info(tmp_path)
    assert (beside.max_length, beside.prefix) == (77, settings)
    assert beside.method.prefix == settings and beside.method.low_rank is None
    load_prefix_weights(tmp_path, after)
    assert after.prefix.weight.equal(before.prefix.weight)
    assert not after.head.weight.equal(before.head.weight)
    with pytest.raises(DataError, match="does not match the prefix"):
        load_prefix_weights(tmp_path, Prefixed(length=4))


def test_nothing_beside_a_model(tmp_path):
    beside = read_merged_info(tmp_path)
    assert (beside.max_length, beside.prefix, beside.method.prefix) == (None, None, None)
    write_merged_info(tmp_path, 12, None, Prefixed())
    assert read_merged_info(tmp_path).max_length == 12
    assert [path.name for path in tmp_path.iterdir()] == ["bertft.json"]


def test_a_huge_length_is_quoted_in_short(tmp_path):
    (tmp_path / "bertft.json").write_text(f'{{"max_length": {10**400}}}')
    with pytest.raises(DataError, match="max_length is 1000") as caught:
        read_merged_info(tmp_path)
    assert len(caught.value.what) < 200


@pytest.mark.parametrize("content", ["{}", '{"max_length": 1, "prefix": {"odd": 1}}', "[]"])
def test_bertft_json_of_another_form(tmp_path, content):
    (tmp_path / "bertft.json").write_text(content)
    with pytest.raises(DataError, match=r"bertft\.json"):
        read_merged_info(tmp_path)
