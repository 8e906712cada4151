"""Keys as small ints: what is gathered a key is then a column addressed by them (`slots.py`).

The dictionary is the native library's (`native/key_codes.py`), or polars' where that is missing; both give the same codes.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..native.key_codes import TextCodes
from ..native.loader import library
from .window_keys import binary_array

_DEAD_CODES_MIN: Final = 1 << 16  # below this, renewing the dictionary costs more than its memory
_SEED: Final = hash(b"keys of a process of their own")
"""Another one in each process (PYTHONHASHSEED), so that nobody can choose keys that all lie in one place."""


class _Dictionary(Protocol):
    """Codes in order of first sight; the empty text is 0."""

    def codes(self, keys: pl.Series) -> NDArray[np.uint32]: ...

    def texts(self, codes: NDArray[Any]) -> pl.Series: ...

    @property
    def size(self) -> int: ...


class _Native:
    def __init__(self) -> None:
        self._codes = TextCodes(_SEED)
        self.codes(pl.Series([""]))

    def codes(self, keys: pl.Series) -> NDArray[np.uint32]:
        return self._codes.codes(binary_array(keys.cast(pl.Binary)))

    def texts(self, codes: NDArray[Any]) -> pl.Series:
        return pl.Series("key", self._codes.texts(codes))

    @property
    def size(self) -> int:
        return len(self._codes)


class _Polars:
    """Trap: polars frees a dictionary of which no Series lives, and its codes begin again at 0 without a word; `_alive` holds one."""

    def __init__(self) -> None:
        # A name drawn by polars, since two dictionaries of one name in a process are one; it is seen nowhere.
        self._type = pl.Categorical(pl.Categories.random())
        self._alive = pl.Series([""], dtype=self._type)
        self.size = 1

    def codes(self, keys: pl.Series) -> NDArray[np.uint32]:
        coded = keys.cast(self._type)
        self._alive = coded
        codes = coded.to_physical().to_numpy()
        if len(codes):
            self.size = max(self.size, int(codes.max()) + 1)
        return codes

    def texts(self, codes: NDArray[Any]) -> pl.Series:
        return pl.Series("key", codes.astype(np.uint32, copy=False)).cat.to(self._type).cast(pl.String)


class KeyCodes:
    """Key texts as small ints.

    Codes are given in order of first sight and never taken back one by one; when dead ones outnumber the live ones the
    dictionary is renewed (`should_renew`, `renew`).
    """

    def __init__(self) -> None:
        self._new_dictionary()

    def _new_dictionary(self) -> None:
        self._dictionary: _Dictionary = _Polars() if library() is None else _Native()
        self._renew_size = _DEAD_CODES_MIN

    @property
    def size(self) -> int:
        """Codes are below this."""
        return self._dictionary.size

    def codes(self, keys: pl.Series) -> NDArray[np.uint32]:
        """Of a String column without nulls."""
        return self._dictionary.codes(keys)

    def texts(self, codes: NDArray[Any]) -> pl.Series:
        return self._dictionary.texts(codes)

    @property
    def should_renew(self) -> bool:
        """Whether it is worth counting the live codes: so many came since last time as there were then."""
        return self.size >= self._renew_size

    def renew(self, live: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """Forgets the codes that are not live (a mask over all codes) where these are most.

        Gives new codes by old ones (-1: forgotten), or None where everything stays.
        """
        kept = np.flatnonzero(live)
        if 2 * len(kept) > self.size:
            self._renew_size = 2 * self.size
            return None
        old_size, texts = self.size, self.texts(kept)
        self._new_dictionary()
        new_of = np.full(old_size, -1, np.int64)
        new_of[kept] = self.codes(texts)
        self._renew_size = max(_DEAD_CODES_MIN, 2 * self.size)
        return new_of
