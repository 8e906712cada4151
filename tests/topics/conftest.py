"""The hot path has two ways, the native library and Python: what holds for one must hold for the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millstream.native.loader import SWITCH, library


@pytest.fixture(scope="module", params=["native", "python"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """`pytestmark = pytest.mark.usefixtures("way")` runs a module's tests both ways."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setenv(SWITCH, "0")
        library.cache_clear()
        assert (library() is not None) == (request.param == "native")
        yield request.param
    library.cache_clear()
