"""Tiny language models as GGUF files: real enough for llama.cpp, and what they say is known beforehand.

Each token's embedding is its own axis and the one layer adds nothing, so what comes next depends on the last token alone (a Markov
chain): after the prompt's last token, the colon, each of the replies with its own log-odds; after a reply the end.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
_SIZE = 320
"""Tokens, and axes of the embeddings; ten heads of 32."""
_SHAPE = {
    "context_length": 2048,
    "embedding_length": _SIZE,
    "block_count": 1,
    "feed_forward_length": 32,
    "attention.head_count": 10,
    "attention.head_count_kv": 10,
    "rope.dimension_count": 32,
}
_BLOCK = ("attn_q", "attn_k", "attn_v", "attn_output")


def gguf(folder: Path, replies: Mapping[str, float], bytes_max: int | None = None) -> str:
    """A model that answers anything with one of the replies, by their log-odds; a bar parts a reply's tokens. Its path."""
    path = folder / "tiny.gguf"
    said = [token.replace(" ", "▁") for text in replies for token in text.split("|")]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), ":", *said]
    kinds = [2, 3, 3, *[6] * 256, 1, *[1] * len(said)]
    tokens += [f"<pad{n}>" for n in range(_SIZE - len(tokens))]
    kinds += [5] * (_SIZE - len(kinds))
    fields = [
        *(("general.architecture", _text("llama")), ("general.name", _text("tiny"))),
        *((f"llama.{name}", _whole(value)) for name, value in _SHAPE.items()),
        ("llama.attention.layer_norm_rms_epsilon", struct.pack("<If", 6, 1e-6)),
        ("tokenizer.ggml.model", _text("llama")),
        ("tokenizer.ggml.tokens", _list(8, b"".join(_string(token) for token in tokens))),
        ("tokenizer.ggml.scores", _list(6, np.zeros(_SIZE, np.float32).tobytes())),
        ("tokenizer.ggml.token_type", _list(5, np.array(kinds, np.int32).tobytes())),
        *((f"tokenizer.ggml.{name}_token_id", _whole(n)) for name, n in (("unknown", 0), ("bos", 1), ("eos", 2))),
        ("tokenizer.ggml.add_bos_token", struct.pack("<I?", 7, True)),
        ("tokenizer.chat_template", _text(_TEMPLATE)),
    ]
    path.write_bytes(_file(fields, _tensors(replies))[:bytes_max])
    return str(path)


def _tensors(replies: Mapping[str, float]) -> dict[str, NDArray[np.float32]]:
    """By name; rows are the outputs."""
    nothing, ones = np.zeros((_SIZE, _SIZE), np.float32), np.ones(_SIZE, np.float32)
    output = np.full((_SIZE, _SIZE), -20.0, np.float32)
    colon = 3 + 256
    number = colon + 1
    for text, odds in replies.items():
        before, sure = colon, odds
        for _ in text.split("|"):
            output[number, before] = sure
            before, number, sure = number, number + 1, 20.0
        output[2, before] = 20.0
    output /= np.sqrt(_SIZE)  # what a normalised axis is long
    narrow = np.zeros((32, _SIZE), np.float32)
    block = {f"blk.0.{name}.weight": nothing for name in _BLOCK} | {
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        "blk.0.ffn_gate.weight": narrow,
        "blk.0.ffn_up.weight": narrow,
        "blk.0.ffn_down.weight": np.ascontiguousarray(narrow.T),
    }
    head = {"output_norm.weight": ones, "output.weight": output}
    return {"token_embd.weight": np.eye(_SIZE, dtype=np.float32)} | block | head


def _file(fields: list[tuple[str, bytes]], tensors: dict[str, NDArray[np.float32]]) -> bytes:
    """Version 3: fields, then where the tensors are, then these, each at a multiple of 32."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    head += b"".join(_string(name) + value for name, value in fields)
    offset, data = 0, b""
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        data += _padded(tensor.tobytes())
        offset = len(data)
    return _padded(head) + data


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 32)


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _text(text: str) -> bytes:
    return struct.pack("<I", 8) + _string(text)


def _whole(number: int) -> bytes:
    return struct.pack("<II", 4, number)


def _list(kind: int, data: bytes) -> bytes:
    return struct.pack("<IIQ", 9, kind, _SIZE) + data
