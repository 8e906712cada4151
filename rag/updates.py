"""Records of `index-updates`: one chunk and its vector.

    key      UTF-8   <document id>#<chunk id>                     (the chunk id has 32 hexadecimal digits, no '#')
    value    u32     length of the header in bytes, little-endian
             bytes   header, JSON: {"document", "chunk", "text", "metadata", "position", "place", "parent", "embedding_model",
                     "dimensions", "dtype": "f16" | "f32", "version"}
             bytes   vector, `dimensions` little-endian floats of `dtype`, length (L2) one
    null             the chunk is gone

f16 halves the topic and costs nothing in ranking (a cosine's error is below 0.001 at 384 dimensions). A reader in any language
needs four bytes, a JSON parser and a view of the rest. What this is not: a place for several vectors a chunk.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from .document import ID_HEX, Chunk
from .errors import MessageError
from .fields import Fields, json_object

VectorType = Literal["f16", "f32"]
Vector = NDArray[np.float32]

DTYPES: Final[dict[str, np.dtype[Any]]] = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4")}
DIMENSIONS_MAX: Final = 65_536
_CHUNK_ID = re.compile(f"[0-9a-f]{{{ID_HEX}}}")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """A chunk that is there, with its vector."""

    chunk: Chunk
    model: str
    """Fingerprint of the embedder; vectors of two models are not comparable."""
    vector: Vector


def split_key(key: bytes | None) -> tuple[str, str]:
    """Document id and chunk id. Raises MessageError."""
    try:
        document, mark, chunk = (key or b"").decode().rpartition("#")
    except UnicodeDecodeError:
        raise MessageError(f"index-updates: the key is not UTF-8: {(key or b'')[:40]!r}") from None
    if not mark or not document or not _CHUNK_ID.fullmatch(chunk):
        raise MessageError(f"index-updates: expected the key <document id>#<chunk id>, got {key!r}")
    return document, chunk


def vector_bytes(vector: Vector, dtype: VectorType) -> bytes:
    return vector.astype(DTYPES[dtype]).tobytes()


def vector_of(data: bytes, dtype: VectorType) -> Vector:
    return np.frombuffer(data, DTYPES[dtype]).astype(np.float32)


def write_update(chunk: Chunk, vector: bytes, model: str, dtype: VectorType) -> bytes:
    """`vector`: as `vector_bytes` gives it."""
    header = orjson.dumps(
        {
            "document": chunk.document,
            "chunk": chunk.id,
            "text": chunk.text,
            "metadata": dict(chunk.metadata),
            "position": chunk.position,
            "place": dict(chunk.place),
            "parent": chunk.parent or None,
            "embedding_model": model,
            "dimensions": len(vector) // DTYPES[dtype].itemsize,
            "dtype": dtype,
            "version": chunk.version,
        }
    )
    return b"".join((_LENGTH.pack(len(header)), header, vector))


def read_update(key: bytes | None, value: bytes) -> Update:
    """Raises MessageError naming what is wrong: a key that belongs to another chunk, a vector of another length, NaN."""
    document, chunk = split_key(key)
    header, rest = _parts(value)
    fields = Fields(json_object(header, "index-updates"), "index-updates")
    if (fields.required_text("document"), fields.required_text("chunk")) != (document, chunk):
        raise MessageError(f"index-updates: the header belongs to another chunk than the key {key!r}")
    text = fields.text("text")
    if text is None:
        raise fields.wrong("text", "string")
    return Update(
        Chunk(
            chunk,
            document,
            text,
            fields.object("metadata"),
            fields.whole("position", 0, 0, 1 << 31),
            fields.text_or_whole("version"),
            fields.object("place"),
            fields.text("parent") or "",
        ),
        fields.required_text("embedding_model"),
        _vector(fields, rest),
    )


def _parts(value: bytes) -> tuple[bytes, bytes]:
    if len(value) < _LENGTH.size:
        raise MessageError(f"index-updates: the value has {len(value)} bytes, too few for a header")
    length = _LENGTH.unpack_from(value)[0]
    if length > len(value) - _LENGTH.size:
        raise MessageError(f"index-updates: a header of {length} bytes does not fit a value of {len(value)} bytes")
    return value[_LENGTH.size : _LENGTH.size + length], value[_LENGTH.size + length :]


def _vector(fields: Fields, data: bytes) -> Vector:
    dtype = DTYPES[fields.one_of("dtype", "f16", tuple(DTYPES))]
    dimensions = fields.whole("dimensions", 0, 1, DIMENSIONS_MAX)
    if dimensions == 0 or len(data) != dimensions * dtype.itemsize:
        raise MessageError(
            f"index-updates: {len(data)} bytes of vector, expected {dimensions} x {dtype.itemsize} - at $.dimensions"
        )
    vector = np.frombuffer(data, dtype).astype(np.float32)
    if not np.isfinite(vector).all():
        raise MessageError("index-updates: the vector holds a NaN or an infinity")
    return vector
