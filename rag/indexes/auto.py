"""Exact search while there are few chunks, a graph once there are many; nobody has to choose beforehand.

    exact  -- more than exact_chunks_max --------->  hnsw
    exact  <- at most half of exact_chunks_max ----  hnsw

The other one is built in a thread beside the searches and then takes their place (`rebuilding.py`); until then the one that is
there answers, right and only slower. The gap between the two limits keeps an index near one of them from changing to and fro.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import IndexDamagedError
from ..index import Bitmap, Found, Numbers, Rebuild, Vector, Vectors
from ..rebuilding import Building
from .exact import Exact
from .hnsw import GraphType, Hnsw


class Auto:
    """`exact_chunks_max`: chunks up to which the search is exact (2.9 ms at 50,000 x 384). The other options are those of `hnsw`."""

    def __init__(
        self,
        dimensions: int,
        exact_chunks_max: int = 50_000,
        *,
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 128,
        rebuild_share: float = 0.5,
        dtype: GraphType = "bf16",
    ) -> None:
        if exact_chunks_max < 0:
            raise ValueError(f"exact_chunks_max must not be negative, got {exact_chunks_max}")
        self._dimensions = dimensions
        self._limit = exact_chunks_max
        self._graph: Callable[[], Hnsw] = partial(
            Hnsw, dimensions, connectivity, expansion_add, expansion_search, rebuild_share, dtype=dtype
        )
        self._graph()  # wrong options are told now, not at the change
        self._inner: Exact | Hnsw = Exact(dimensions)
        self._change: _Change | None = None

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def is_exact(self) -> bool:
        """Whether a search looks at everything, now."""
        return isinstance(self._inner, Exact)

    def __len__(self) -> int:
        return len(self._inner)

    def upsert(self, numbers: Numbers, vectors: Vectors) -> None:
        self._inner.upsert(numbers, vectors)
        self._touch(numbers)

    def remove(self, numbers: Numbers) -> None:
        self._inner.remove(numbers)
        self._touch(numbers)

    def _touch(self, numbers: Numbers) -> None:
        if self._change is not None:
            self._change.building.touch(numbers)

    def search(self, vector: Vector, k: int, allowed: Bitmap | None = None) -> Found:
        return self._inner.search(vector, k, allowed)

    def similarities(self, vector: Vector, numbers: Numbers) -> Vector:
        return self._inner.similarities(vector, numbers)

    def vectors(self, numbers: Numbers) -> Vectors:
        return self._inner.vectors(numbers)

    @property
    def wants_rebuild(self) -> bool:
        return self._wants_change or self._inner.wants_rebuild

    @property
    def _wants_change(self) -> bool:
        return len(self) > self._limit if self.is_exact else len(self) <= self._limit // 2

    def begin_rebuild(self) -> Rebuild:
        if not self._wants_change:
            return self._inner.begin_rebuild()
        self._change = _Change(self._inner, self._graph() if self.is_exact else Exact(self._dimensions))
        return self._change

    def finish_rebuild(self, rebuild: Rebuild) -> bool:
        """Raises TypeError for a rebuild of another index."""
        if not isinstance(rebuild, _Change):
            return self._inner.finish_rebuild(rebuild)
        if rebuild is not self._change:
            raise TypeError("finish_rebuild takes what begin_rebuild of this index gave")
        if not rebuild.building.finish():
            return False
        self._inner, self._change = rebuild.other, None
        return True

    def save(self, path: Path) -> None:
        path.unlink(missing_ok=True)  # one of an earlier attempt would say that there is a graph
        self._inner.save(path)

    def load(self, path: Path, numbers: Numbers, vectors: Vectors) -> None:
        self._inner, self._change = Exact(self._dimensions), None
        if path.exists():
            graph = self._graph()
            graph.load(path, numbers, vectors)
            self._inner = graph
        elif len(numbers) > self._limit:
            raise IndexDamagedError(f"{path}: there is no graph of these {len(numbers)} vectors")
        else:
            self._inner.load(path, numbers, vectors)


class _Change:
    """From one kind to the other."""

    def __init__(self, inner: Exact | Hnsw, other: Exact | Hnsw) -> None:
        self.other = other
        self.building = Building(inner.rows, other.upsert, other.remove)

    def run(self) -> None:
        self.building.run()
