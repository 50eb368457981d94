"""A checkpoint: what trains, and the facts to use it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from torch import nn

from bertft.errors import DataError
from bertft.pipeline.base_model import read_tokenizer_files
from bertft.pipeline.checkpoint import (
    CheckpointInfo,
    checkpoint_writer,
    is_checkpoint,
    read_checkpoint_info,
    read_trained_weights,
)


def test_a_checkpoint_holds_what_trains_and_its_facts(tmp_path):
    model = nn.ModuleDict({"trained": nn.Linear(3, 2), "frozen": nn.Linear(2, 2)})
    model["frozen"].requires_grad_(False)
    nothing = SimpleNamespace(save_pretrained=lambda folder: None)
    model.config = nothing
    facts = CheckpointInfo("classification", ["a", "好"], 64, 12)
    checkpoint_writer(SimpleNamespace(model=model), {"vocab.txt": b"[PAD]"}, facts, None)(tmp_path)
    assert read_tokenizer_files(tmp_path) == {"vocab.txt": b"[PAD]"}
    assert set(read_trained_weights(tmp_path)) == {"trained.weight", "trained.bias"}
    assert read_checkpoint_info(tmp_path) == facts and is_checkpoint(tmp_path)
    assert "好" in (tmp_path / "bertft.json").read_text(encoding="utf-8")
    (tmp_path / "bertft.json").write_text(json.dumps({"task": "x"}))
    with pytest.raises(DataError, match="has no 'max_length'"):
        read_checkpoint_info(tmp_path)
    (tmp_path / "adapter.safetensors").unlink()
    assert not is_checkpoint(tmp_path)
