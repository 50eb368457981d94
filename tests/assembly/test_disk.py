"""The machine's failures, told from our own."""

from __future__ import annotations

import pytest

from bertft.assembly.disk import writing
from bertft.errors import EnvironmentFailed, UsageError


def test_what_libraries_raise_when_the_disk_is_full(tmp_path):
    with pytest.raises(EnvironmentFailed, match="Make room on the disk"), writing(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(EnvironmentFailed, match="No space left"), writing(tmp_path):
        raise RuntimeError("Error: (os error 28)")
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="mine"), writing(tmp_path):
        raise UsageError("mine (os error 28)")
