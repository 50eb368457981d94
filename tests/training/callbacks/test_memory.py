"""The memory that is shown is that of the run's own device."""

from __future__ import annotations

import torch

from bertft.training.memory import PeakMemory, memory_in_use


def test_a_run_on_the_cpu_next_to_a_gpu_shows_its_resident_set(monkeypatch):
    mine = memory_in_use()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    assert memory_in_use() > 0.5 * mine > 1 << 20
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 12_345)
    assert memory_in_use() == 12_345


def test_a_peak_is_started_again_without_calling_on_a_gpu(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: calls.append("reset"))
    with PeakMemory():
        assert calls == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with PeakMemory():
        assert calls == ["reset"]
