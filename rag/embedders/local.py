"""A sentence encoder in this process, on onnxruntime, with no download: all-MiniLM-L6-v2 from a package, or your own by path.

Mean pooling over the tokens, length one, as sentence-transformers does it. Texts are worked on sorted by length, so that
short ones are not padded to a long one's length: 470 short texts a second a thread, 3 ms a question. At most `tokens_max`
tokens of a text are read (256 is what this model was trained for). The same run gives the tokens' own vectors, for `maxsim`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..embedder import Role, Vectors, unit
from ..errors import EmbeddingError
from ..native import onnxruntime
from ..parts import extra
from ..weights import ModelFiles, model_in, packaged_model


class Local:
    """Loaded when first used. `path`: a folder with `model.onnx` and `tokenizer.json` instead of the packaged model.

    Raises PartError (extra or weights missing, a file that is not the one pinned), EmbeddingError.
    """

    is_free: Final = True

    def __init__(
        self,
        model: str = "all-MiniLM-L6-v2",
        path: str | None = None,
        tokens_max: int = 256,
        batch_texts_max: int = 16,
        threads: int = 1,
    ) -> None:
        if min(tokens_max, batch_texts_max, threads) < 1:
            raise ValueError("tokens_max, batch_texts_max and threads must be at least 1")
        self._name = model
        self._path = path
        self._tokens_max = tokens_max
        self._batch_texts_max = batch_texts_max
        self._threads = threads
        self._lock = threading.Lock()
        self._model: _Model | None = None

    @property
    def dimensions(self) -> int:
        return self._loaded().dimensions

    def fingerprint(self) -> str:
        return f"local/1 {self._loaded().files.fingerprint} {self._tokens_max}"

    async def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        return await asyncio.to_thread(self._embed, list(texts))

    async def token_vectors(self, texts: Sequence[str], role: Role) -> list[Vectors]:
        return await asyncio.to_thread(self._token_vectors, list(texts))

    async def close(self) -> None:
        self._model = None

    def _embed(self, texts: list[str]) -> Vectors:
        model = self._loaded()
        vectors = np.zeros((len(texts), model.dimensions), np.float32)
        for rows in self._batches(texts):
            tokens, mask, _ = model.tokens([texts[row] for row in rows])
            weights = mask[:, :, None].astype(np.float32)
            vectors[rows] = (tokens * weights).sum(1) / np.maximum(weights.sum(1), 1)
        return unit(vectors)

    def _token_vectors(self, texts: list[str]) -> list[Vectors]:
        model = self._loaded()
        found: list[Vectors] = [np.zeros((0, model.dimensions), np.float32)] * len(texts)
        for rows in self._batches(texts):
            tokens, _, words = model.tokens([texts[row] for row in rows])
            for row, vectors, chosen in zip(rows, tokens, words, strict=True):
                found[row] = unit(vectors[chosen])
        return found

    def _batches(self, texts: list[str]) -> Iterator[list[int]]:
        """Rows of texts of like length."""
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(texts), self._batch_texts_max):
            yield by_length[start : start + self._batch_texts_max]

    def _loaded(self) -> _Model:
        with self._lock:
            if self._model is None:
                files = packaged_model(self._name) if self._path is None else model_in(Path(self._path))
                self._model = _Model(files, self._tokens_max, self._threads)
            return self._model


class _Model:
    def __init__(self, files: ModelFiles, tokens_max: int, threads: int) -> None:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.files = files
        try:
            self._session = runtime.InferenceSession(str(files.model), options, providers=["CPUExecutionProvider"])
            self._tokenizer: Any = extra("tokenizers").Tokenizer.from_file(str(files.tokenizer))
        except Exception as error:  # both libraries raise bare Exceptions
            raise EmbeddingError(f"{files.model}: the model does not load: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(tokens_max)
        self._inputs = {node.name for node in self._session.get_inputs()}
        self.dimensions = int(self._session.get_outputs()[0].shape[-1])

    def tokens(self, texts: list[str]) -> tuple[Vectors, NDArray[np.int64], NDArray[np.bool_]]:
        """A vector for each token (text, place, dimension), 1 where there is a token, and whether it is of the text's own."""
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.zeros((len(texts), max(len(one.ids) for one in encoded)), np.int64)
        mask = np.zeros_like(ids)
        words = np.zeros(ids.shape, np.bool_)
        for row, one in enumerate(encoded):
            ids[row, : len(one.ids)] = one.ids
            mask[row, : len(one.ids)] = 1
            words[row, : len(one.ids)] = np.array(one.special_tokens_mask) == 0
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        tokens: Vectors = self._session.run(
            None, {name: value for name, value in feeds.items() if name in self._inputs}
        )[0]
        return tokens, mask, words
