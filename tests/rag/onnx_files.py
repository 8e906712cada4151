"""The smallest cross-encoder there is, written by hand: its score is how often the question's own first word stands in the pair.

An ONNX file is a protobuf message; what is used of it (numbers of fields from onnx.proto, version 1.16) is a dozen fields:

    ModelProto       1 ir_version   7 graph   8 opset_import {2 version}
    GraphProto       1 node   2 name   5 initializer   11 input   12 output
    NodeProto        1 input   2 output   4 op_type   5 attribute {1 name, 3 i, 20 type}
    TensorProto      1 dims   2 data_type   7 int64_data   8 name
    ValueInfoProto   1 name   2 type {1 tensor_type {1 elem_type, 2 shape {1 dim {1 value, 2 name}}}}
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

FLOAT, INT64 = 1, 7


def varint(number: int) -> bytes:
    out = b""
    while True:
        number, low = number >> 7, number & 127
        if not number:
            return out + bytes([low])
        out += bytes([low | 128])


def whole(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


def part(field: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def node(kind: str, inputs: list[str], output: str, **attributes: int) -> bytes:
    given = b"".join(part(5, part(1, name) + whole(3, number) + whole(20, 2)) for name, number in attributes.items())
    return part(1, b"".join(part(1, one) for one in inputs) + part(2, output) + part(4, kind) + given)


def tensor(name: str, *numbers: int) -> bytes:
    return part(5, whole(1, len(numbers)) + whole(2, INT64) + b"".join(whole(7, n) for n in numbers) + part(8, name))


def value(field: int, name: str, kind: int, *shape: str) -> bytes:
    dims = b"".join(part(1, part(2, dim)) for dim in shape)
    return part(field, part(1, name) + part(2, part(1, whole(1, kind) + part(2, dims))))


def cross_encoder(
    folder: Path, outputs: int = 1, words: str = "[UNK] [PAD] [CLS] [SEP] lamp train noon jena made"
) -> str:
    """Counts, in each row, tokens equal to that in place 1 (place 0 is [CLS]); as one number, or as (0, number) for `outputs=2`."""
    last = node("Identity", ["count"], "logits")
    if outputs > 1:
        last = node("Sub", ["count", "count"], "zero") + node(
            "Concat", ["zero"] * (outputs - 1) + ["count"], "logits", axis=1
        )
    graph = (
        node("Gather", ["input_ids", "one"], "first", axis=1)
        + node("Equal", ["input_ids", "first"], "same")
        + node("Cast", ["same"], "numbers", to=FLOAT)
        + node("ReduceSum", ["numbers", "one"], "count", keepdims=1)
        + last
        + part(2, "g")
        + tensor("one", 1)
        + value(11, "input_ids", INT64, "batch", "tokens")
        + value(12, "logits", FLOAT, "batch", "outputs")
    )
    (folder / "model.onnx").write_bytes(whole(1, 8) + part(7, graph) + part(8, whole(2, 13)))
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words.split())}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)
