from __future__ import annotations

import numpy as np
import pytest
import torch

from bertft.methods.layer_grid import grid_cells, grid_of_names, module_names
from bertft.methods.low_rank.lora import LoRA
from bertft.methods.low_rank.report import effective_rank, singular_values
from bertft.methods.low_rank.svd_lora import SVDLoRA


def test_effective_rank():
    assert effective_rank(np.zeros(4)) == 0.0
    assert effective_rank(np.array([2.0, 0, 0])) == pytest.approx(1.0)
    assert effective_rank(np.ones(5)) == pytest.approx(5.0)
    # p = 3/4, 1/4: exp(0.75 ln 4/3 + 0.25 ln 4)
    assert effective_rank(np.array([3.0, 1.0])) == pytest.approx(1.7548, abs=1e-4)


def test_singular_values_are_those_of_the_update():
    torch.manual_seed(0)
    update = LoRA(torch.randn(7, 5, dtype=torch.float64), 3, scale=0.5)
    with torch.no_grad():
        update.B.normal_()
    wanted = torch.linalg.svdvals(0.5 * update.B @ update.A).detach().numpy()[:3]
    assert singular_values(update) == pytest.approx(wanted)
    pruned = SVDLoRA(torch.randn(7, 5), 3, scale=2.0)
    with torch.no_grad():
        pruned.E.copy_(torch.tensor([-0.5, 0.0, 2.0]))
    assert singular_values(pruned).tolist() == [2.0, 0.5, 0.0]


def test_grid_cells():
    assert grid_cells([("bert.encoder.layer.3.attention.self.query", "query")]) == [("3", "query")]
    assert grid_cells([("a.0.b.1.ffn", "linear")]) == [("0.1", "ffn")]
    twice = [("layers.2.mlp.gate_proj", "ffn_in"), ("layers.2.mlp.up_proj", "ffn_in")]
    assert grid_cells(twice) == [("2", "mlp.gate_proj"), ("2", "mlp.up_proj")]


def test_names_of_modules_give_the_same_grid():
    modules = [
        (f"bert.encoder.layer.{n}.attention.self.{r}", r)
        for n in (0, 1)
        for r in ("query", "value")
    ]
    names = module_names(modules)
    assert names == ["0.query", "0.value", "1.query", "1.value"]
    grid = grid_of_names("rank", "Rank", "", dict(zip(names, [4.0, 2, 0, 8], strict=True)), 0, 16)
    assert (list(grid.rows), list(grid.columns)) == (["0", "1"], ["query", "value"])
    assert grid.values.tolist() == [[4, 2], [0, 8]]
    assert grid.intensity.tolist() == [[0.25, 0.125], [0, 0.5]]
    [(layer, column)] = grid_cells([("albert.attention.query", "query")])  # layers share modules
    assert (layer, column) == ("", "query") and module_names([("a.query", "query")]) == ["query"]
