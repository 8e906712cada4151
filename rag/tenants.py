"""Whose chunk is whose: the numbers of each tenant, and an index of its own for each large one. Synchronous, in memory only.

    a tenant                a chunk's metadata `tenant`, a string that is not empty; whatever else is there is of no tenant
    up to 5,000 chunks      searched from end to end, by number, in the view's index: exact, and no vector is held twice
    above                   an index of its own, from its first 5,000 chunks on; given up at half of that
    no tenant asked for     the view's index, which holds everything

A search for a tenant looks at that tenant's numbers and at no other: what others have makes it neither slower nor worse, and
none of it can come out. Own indexes are made from what the view holds and are not saved. At most `indexes_max` of them: a tenant
beyond it is searched from end to end whatever its size, right but slower. What this is not: a rule of who may ask for whom.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from .document import Metadata
from .index import Bitmap, Found, Index, Numbers, Vector, Vectors, none_found, top

OWN_CHUNKS_MIN: Final = 5_000
"""Above it a tenant gets an index of its own: gathering so many rows for a search takes about 2 ms."""
_NONE: Final = -1


def tenant_of(metadata: Metadata) -> str | None:
    """Whose chunk it is."""
    tenant: Any = metadata.get("tenant")
    return tenant if isinstance(tenant, str) and tenant else None


class Members:
    """A tenant's numbers; each keeps its place, which is its number in the tenant's own index."""

    def __init__(self) -> None:
        self._at = array("q")
        self._free: list[int] = []
        self.own: Index | None = None

    def __len__(self) -> int:
        return len(self._at) - len(self._free)

    def add(self, number: int) -> int:
        """Its place."""
        if self._free:
            place = self._free.pop()
            self._at[place] = number
            return place
        self._at.append(number)
        return len(self._at) - 1

    def leave(self, place: int) -> None:
        self._at[place] = _NONE
        self._free.append(place)

    def at(self) -> Numbers:
        """The number at each place; -1 where there is none."""
        return np.array(self._at, np.int64)

    def numbers(self) -> Numbers:
        at = self.at()
        numbers: Numbers = at[at != _NONE]
        return numbers


class Tenants:
    """`vectors` and `similarities` are those of the view's index, `new_index` makes an empty one (None: none may be made)."""

    def __init__(
        self,
        vectors: Callable[[Numbers], Vectors],
        similarities: Callable[[Vector, Numbers], Vector],
        new_index: Callable[[], Index] | None,
        *,
        indexes_max: int,
        own_chunks_min: int = OWN_CHUNKS_MIN,
    ) -> None:
        self._vectors = vectors
        self._similarities = similarities
        self._new_index = new_index
        self._indexes_max = indexes_max
        self._own_min = own_chunks_min
        self._members: dict[str, Members] = {}
        self._of: dict[int, tuple[str, int]] = {}
        """Tenant and place, by the view's number."""
        self._owners: set[str] = set()

    def __len__(self) -> int:
        """Tenants that have chunks."""
        return len(self._members)

    def own_indexes(self) -> Iterator[Index]:
        return (own for tenant in sorted(self._owners) if (own := self._members[tenant].own) is not None)

    def members(self, tenant: str) -> Members:
        """Those of a tenant nobody has heard of are none."""
        return self._members.get(tenant) or Members()

    # Updates

    def upsert(self, numbers: Sequence[int], tenants: Sequence[str | None], vectors: Vectors) -> None:
        """After the view's index has them. A number that was another tenant's is that one's no more."""
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, (number, tenant) in enumerate(zip(numbers, tenants, strict=True)):
            if (held := self._of.get(number)) is not None and held[0] != tenant:
                self.remove([number])
            if tenant is not None:
                rows[tenant].append(row)
        for tenant, its in rows.items():
            members = self._members.setdefault(tenant, Members())
            places = [self._place(tenant, members, numbers[row]) for row in its]
            if members.own is not None:
                members.own.upsert(np.array(places, np.int64), vectors[its])
            else:
                self._own_if_large(tenant, members)

    def _place(self, tenant: str, members: Members, number: int) -> int:
        if number not in self._of:
            self._of[number] = (tenant, members.add(number))
        return self._of[number][1]

    def remove(self, numbers: Sequence[int]) -> None:
        """Those that are of no tenant are passed over."""
        left: defaultdict[str, list[int]] = defaultdict(list)
        for number in numbers:
            if (held := self._of.pop(number, None)) is not None:
                tenant, place = held
                self._members[tenant].leave(place)
                left[tenant].append(place)
        for tenant, places in left.items():
            self._left(tenant, self._members[tenant], places)

    def _left(self, tenant: str, members: Members, places: Sequence[int]) -> None:
        if members.own is not None:
            members.own.remove(np.array(places, np.int64))
        if len(members) <= self._own_min // 2:
            members.own = None
            self._owners.discard(tenant)
        if not len(members):
            del self._members[tenant]

    def _own_if_large(self, tenant: str, members: Members) -> None:
        if len(members) <= self._own_min or len(self._owners) >= self._indexes_max or self._new_index is None:
            return
        at = members.at()
        places = np.flatnonzero(at != _NONE)
        members.own = self._new_index()
        members.own.upsert(places, self._vectors(at[places]))
        self._owners.add(tenant)

    # Searches

    def search(self, tenant: str, vector: Vector, k: int, allowed: Bitmap | None = None) -> Found:
        """The k nearest of the tenant's, in the view's numbers; `allowed` as an index takes it."""
        members = self.members(tenant)
        if members.own is None:
            numbers = members.numbers()
            numbers = numbers if allowed is None else numbers[_passes(numbers, allowed)]
            if not len(numbers) or k < 1:
                return none_found()
            return top(numbers, self._similarities(vector, numbers), k)
        at = members.at()
        found = members.own.search(vector, k, None if allowed is None else _passes(at, allowed))
        return top(at[found.numbers], found.similarities, k)


def _passes(numbers: Numbers, allowed: Bitmap) -> Bitmap:
    known = (numbers >= 0) & (numbers < len(allowed))
    known[known] = allowed[numbers[known]]
    return known
