from __future__ import annotations

import platform

import pytest
import torch

from bertft.report import doctor
from bertft.report.doctor import FAILED, OK

CPU = torch.device("cpu")


def test_versions():
    found = doctor.check_versions().detail
    assert f"torch {torch.__version__}" in found and platform.python_version() in found


@pytest.mark.parametrize(
    ("flags", "says"),
    [({"avx2"}, "fp32"), ({"avx2", "avx512f", "avx512_bf16"}, "bf16"), (set(), "fp32")],
)
def test_what_a_cpu_can_do(flags, says, monkeypatch):
    monkeypatch.setattr(doctor, "cpu_flags", lambda: flags)
    monkeypatch.setattr(doctor, "has_fast_bf16", lambda _: "avx512_bf16" in flags)
    found = doctor.check_cpu()
    assert found.status == OK and says in found.detail + found.advice
    assert all(flag in found.detail for flag in flags)


def test_products_are_timed_and_right():
    found = doctor.check_matmul(CPU, seconds=0.1)
    assert found.status == OK and "float32" in found.detail and "GFLOP/s on cpu" in found.detail


def test_wrong_products_are_a_failure(monkeypatch):
    monkeypatch.setitem(doctor._TOLERANCE, torch.float32, 0.0)
    found = doctor.check_matmul(CPU, seconds=0.1)
    assert found.status == FAILED and "wrong" in found.detail


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_and_what_it_can_do():
    found = next(doctor.check_gpus())
    assert "compute" in found.detail and "bf16" in found.detail
    assert doctor.check_matmul(torch.device("cuda"), seconds=0.2).status == OK
