"""`import millstream`: light, whole, and it tells a reader where to start."""

from __future__ import annotations

import subprocess
import sys

import pytest

import millstream

_HEAVY = (
    "polars",
    "numpy",
    "pyarrow",
    "aiokafka",
    "rocksdict",
    "yaml",
    "rich",
    "typer",
    "prometheus_client",
    "asyncio",
)


def test_importing_it_imports_nothing_else() -> None:
    """Not even our own layers: `import millstream` is a few milliseconds, whatever is installed."""
    probe = (
        "import sys; before = set(sys.modules); import millstream\n"
        "print(sorted(name for name in set(sys.modules) - before if name.partition('.')[0] in sys.argv[1].split(',')))"
    )
    heavy = ",".join((*_HEAVY, "millstream"))
    done = subprocess.run([sys.executable, "-c", probe, heavy], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['millstream']"


def test_all_is_sorted_and_whole() -> None:
    assert millstream.__all__ == sorted(set(millstream.__all__))
    assert set(millstream.__all__) == set(millstream._WHERE)
    assert set(millstream.__all__) <= set(dir(millstream))


@pytest.mark.parametrize("name", millstream.__all__)
def test_every_name_is_there(name: str) -> None:
    """And it is the object that its own module defines."""
    found = getattr(millstream, name)
    assert found.__module__ == f"millstream.{millstream._WHERE[name].partition(':')[0]}"


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(
        AttributeError, match="has no attribute 'Stream'; public names are AggregateFunction, App, Driver"
    ):
        millstream.Stream  # noqa: B018


def test_it_ends_with_where_to_start() -> None:
    """The last paragraph of the docstring is for who reads the code, and the files it names exist."""
    last = (millstream.__doc__ or "").strip().split("\n\n")[-1]
    assert last.startswith("If you are here to read the code, start with ")
