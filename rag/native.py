"""The one place that loads onnxruntime and usearch, and their order.

With usearch 2.26 loaded first, loading onnxruntime 1.32 ends the process (a segmentation fault, 12 times out of 12); the
other order works. So whoever needs either comes here, and both are always loaded, onnxruntime first, where both are
installed. `tests/rag/test_native.py` holds it in a fresh process; an import contract keeps other modules from going round.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from .parts import extra


def onnxruntime() -> Any:
    """The module. Raises PartError where it is not installed."""
    module = extra("onnxruntime")
    if importlib.util.find_spec("usearch") is not None:
        importlib.import_module("usearch.index")
    return module


def usearch_index() -> Any:
    """The class `usearch.index.Index`. Raises PartError where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is not None:
        importlib.import_module("onnxruntime")
    return extra("usearch.index").Index
