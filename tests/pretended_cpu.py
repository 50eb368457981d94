"""Which CPU the tests see, so that ``precision=auto`` gives the same on every machine.

    BERTFT_TEST_CPU=fp32    a CPU without bf16 (the default)
    BERTFT_TEST_CPU=bf16    one that multiplies bf16
    BERTFT_TEST_CPU=real    the machine's own

Only tests read the variable, bertft does not. torch computes bf16 on any CPU, only slower where the
hardware has no instructions for it. Each method and task runs in both precisions by
``end_to_end/test_every_choice.py``; with this variable any test does.
"""

from __future__ import annotations

import os

from bertft.models import precision

_BF16 = {"avx512_bf16", "amx_bf16"}


def pretend() -> None:
    """Let this process see the CPU that BERTFT_TEST_CPU names."""
    kind = os.environ.get("BERTFT_TEST_CPU", "fp32")
    assert kind in ("fp32", "bf16", "real"), f"BERTFT_TEST_CPU={kind}"
    real_flags = precision.cpu_flags
    if kind != "real":
        precision.cpu_flags = lambda: real_flags() - _BF16 | (_BF16 if kind == "bf16" else set())
