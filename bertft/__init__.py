"""bertft: fine-tune BERT-family encoders from one command, exactly and fast.

``bertft.train``, ``bertft.load`` and ``bertft.compare`` are the Python API (``bertft.api``).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertft.api import Predictor, Report, Run, compare, load, train

__version__ = "0.2.0"
__all__ = ["Predictor", "Report", "Run", "__version__", "compare", "load", "train"]


def __getattr__(name: str) -> Any:
    """The API is imported when it is first used: the command line starts without it."""
    if name in __all__:
        return getattr(importlib.import_module("bertft.api"), name)
    raise AttributeError(f"module 'bertft' has no attribute {name!r}")
