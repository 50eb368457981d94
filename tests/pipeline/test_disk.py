"""System errors are distinguished from errors of bertft."""

from __future__ import annotations

import pytest

from bertft.errors import SystemResourceError, UsageError
from bertft.utils.atomic_io import convert_write_errors


def test_what_libraries_raise_when_the_disk_is_full(tmp_path):
    with (
        pytest.raises(SystemResourceError, match="Make room on the disk"),
        convert_write_errors(tmp_path),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(SystemResourceError, match="No space left"), convert_write_errors(tmp_path):
        raise RuntimeError("Error: (os error 28)")
    with pytest.raises(ZeroDivisionError), convert_write_errors(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="mine"), convert_write_errors(tmp_path):
        raise UsageError("mine (os error 28)")
