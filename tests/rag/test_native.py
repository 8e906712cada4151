"""onnxruntime before usearch, whoever asks first: the other order ends the process."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("first", ["onnxruntime", "usearch_index"])
def test_both_load_in_either_order_of_asking(first: str) -> None:
    second = {"onnxruntime": "usearch_index", "usearch_index": "onnxruntime"}[first]
    script = (
        f"from millstream.rag import native; native.{first}(); native.{second}(); import sys; "
        "order = [name for name in sys.modules if name in ('onnxruntime', 'usearch')]; print(*order)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "onnxruntime usearch"), done.stderr
