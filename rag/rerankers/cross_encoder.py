"""A cross-encoder in this process, on onnxruntime: question and chunk read together, one score a pair.

`path`: a folder with `model.onnx` and `tokenizer.json`, as exported from a sequence classifier with one output (the relevance)
or two (the second is "relevant"). No package is known to ship such weights, so there is no default. The tokenizer must know how
a pair is put together; most do.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embedder import Embedder
from ..errors import ModelError
from ..llm import LLM
from ..native import onnxruntime
from ..parts import extra
from ..reranker import Candidates, Ranked, ordered
from ..weights import ModelFiles, model_in


class CrossEncoder:
    """Loaded when first used. `tokens_max`: of question and chunk together; the longer is cut. Raises PartError for a wrong path."""

    def __init__(self, path: str, tokens_max: int = 512, batch_chunks_max: int = 8, threads: int = 1) -> None:
        if min(tokens_max, batch_chunks_max, threads) < 1:
            raise ValueError("tokens_max, batch_chunks_max and threads must be at least 1")
        self._files = model_in(Path(path))
        self._tokens_max = tokens_max
        self._batch_chunks_max = batch_chunks_max
        self._threads = threads
        self._lock = threading.Lock()
        self._model: _Model | None = None

    def use(self, embedder: Embedder, llm: LLM) -> None:
        """Needs neither."""

    def fingerprint(self) -> str:
        return f"cross_encoder/1 {self._files.fingerprint} {self._tokens_max}"

    async def rerank(self, candidates: Candidates) -> Ranked:
        if not candidates.hits:
            return Ranked([])
        texts = [hit.chunk.text for hit in candidates.hits]
        return Ranked(ordered(candidates.hits, await asyncio.to_thread(self._scores, candidates.question, texts)))

    async def close(self) -> None:
        self._model = None

    def _scores(self, question: str, texts: list[str]) -> list[float]:
        with self._lock:
            if self._model is None:
                self._model = _Model(self._files, self._tokens_max, self._threads)
            model = self._model
        scores = np.zeros(len(texts), np.float32)
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(texts), self._batch_chunks_max):
            rows = by_length[start : start + self._batch_chunks_max]
            scores[rows] = model.scores(question, [texts[row] for row in rows])
        found: list[float] = scores.tolist()
        return found


class _Model:
    def __init__(self, files: ModelFiles, tokens_max: int, threads: int) -> None:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session = runtime.InferenceSession(str(files.model), options, providers=["CPUExecutionProvider"])
            self._tokenizer: Any = extra("tokenizers").Tokenizer.from_file(str(files.tokenizer))
        except Exception as error:  # both libraries raise bare Exceptions
            raise ModelError(f"{files.model}: the model does not load: {error}") from error
        self._tokenizer.enable_padding()
        self._tokenizer.enable_truncation(tokens_max)
        self._inputs = {node.name for node in self._session.get_inputs()}

    def scores(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch([(question, text) for text in texts])
        feeds = {
            "input_ids": np.array([one.ids for one in encoded], np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
            "token_type_ids": np.array([one.type_ids for one in encoded], np.int64),
        }
        output = np.asarray(self._session.run(None, {name: feeds[name] for name in feeds if name in self._inputs})[0])
        rows = output.reshape(len(texts), -1).astype(np.float32)
        if rows.shape[1] > 2:
            raise ModelError(f"the cross-encoder gives {rows.shape[1]} numbers a pair, expected 1 or 2")
        found: NDArray[np.float32] = rows[:, 0] if rows.shape[1] == 1 else rows[:, 1] - rows[:, 0]
        return found
