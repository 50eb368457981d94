from __future__ import annotations

import platform

import pytest
import torch

from bertft.report import doctor
from bertft.report.doctor import FAILED, OK

CPU = torch.device("cpu")


def test_versions():
    result = doctor.check_versions().detail
    assert f"torch {torch.__version__}" in result and platform.python_version() in result


@pytest.mark.parametrize(
    ("flags", "advice"),
    [({"avx2"}, "fp32"), ({"avx2", "avx512f", "avx512_bf16"}, "bf16"), (set(), "fp32")],
)
def test_capabilities_of_a_cpu(flags, advice, monkeypatch):
    monkeypatch.setattr(doctor, "cpu_flags", lambda: flags)
    monkeypatch.setattr(doctor, "has_fast_bf16", lambda _: "avx512_bf16" in flags)
    result = doctor.check_cpu()
    assert result.status == OK and advice in result.detail + result.advice
    assert all(flag in result.detail for flag in flags)


def test_products_are_timed_and_correct():
    result = doctor.check_matmul(CPU, seconds=0.1)
    assert result.status == OK and "float32" in result.detail and "GFLOP/s on cpu" in result.detail


def test_wrong_products_are_a_failure(monkeypatch):
    monkeypatch.setitem(doctor._TOLERANCE, torch.float32, 0.0)
    result = doctor.check_matmul(CPU, seconds=0.1)
    assert result.status == FAILED and "wrong" in result.detail


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_capabilities_of_a_gpu():
    result = next(doctor.check_gpus())
    assert "compute" in result.detail and "bf16" in result.detail
    assert doctor.check_matmul(torch.device("cuda"), seconds=0.2).status == OK
