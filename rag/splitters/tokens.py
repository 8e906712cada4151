"""As `recursive`, with chunks measured in tokens: what an embedder reads at most, a model is paid by.

Without a tokenizer, tokens are counted by a rule that needs no files: four letters or digits of a word, or a mark. That is more
than English needs in most vocabularies, and fewer than some languages do. `tokenizer` counts exactly: "all-MiniLM-L6-v2" is
that of the embedder `local` (extra `minilm`), anything else the path of a `tokenizer.json`. Tokens are counted between white
space and added up, which is exact where no token holds white space (WordPiece), and may be off by one a word elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from ..cutting import cut
from ..errors import PartError
from ..parts import extra
from ..splitter import Piece
from ..weights import PACKAGED, packaged_model

_TOKEN = re.compile(r"\w{1,4}|[^\w\s]")


class Tokens:
    """`tokens_max` of one chunk. Raises PartError where the tokenizer is not there."""

    def __init__(self, tokens_max: int = 200, tokenizer: str = "") -> None:
        if tokens_max < 8:
            raise ValueError(f"tokens_max must be at least 8, got {tokens_max}")
        self._tokens_max = tokens_max
        self._tokenizer = tokenizer

    def fingerprint(self) -> str:
        return f"tokens/1 {self._tokens_max} {self._file[1]}"

    def split(self, text: str) -> list[Piece]:
        return cut(text, self._tokens_max, self.size)

    @cached_property
    def size(self) -> Callable[[str], int]:
        """Tokens of a text."""
        path = self._file[0]
        if path is None:
            return _about
        tokenizer: Any = extra("tokenizers").Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _file(self) -> tuple[Path | None, str]:
        """The tokenizer's file, and what tells it from others."""
        if not self._tokenizer:
            return None, "about"
        if self._tokenizer in PACKAGED:
            files = packaged_model(self._tokenizer)
            return files.tokenizer, files.fingerprint
        path = Path(self._tokenizer)
        if not path.is_file():
            known = ", ".join(PACKAGED)
            raise PartError(f"no tokenizer {self._tokenizer!r}: expected {known}, or the path of a tokenizer.json")
        return path, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _about(text: str) -> int:
    return sum(1 for _ in _TOKEN.finditer(text))
