"""The .bin file as its description has it: where each field, array and tensor lies."""
from __future__ import annotations

import struct
from typing import Dict, Iterator, List, NamedTuple, Tuple

HEADER_SIZE = 1152
FORMAT = "<8sII5QII8IIfdIIIIIIIIIIIIfIfffI32II64s768s4x"
NAMES = ("magic version header_size file_size tokenizer_offset tokenizer_size weights_offset "
         "weights_size weight_type group_size dim hidden_dim n_layers n_heads n_kv_heads head_dim "
         "vocab_size max_positions tied rms_eps rope_theta qkv_bias qk_norm kind chatml opening "
         "cuts_reasoning im_start im_end endoftext tokenizer_eos max_new_tokens do_sample "
         "temperature top_k top_p min_p repetition_penalty n_eos").split()
OTHERS = ("system_size", "name", "system")      # behind eos[32]
N_EOS = 32


def field_offsets() -> Dict[str, Tuple[int, str]]:
    """{field: (offset, type as in struct)}; eos0 to eos31."""
    fields = [*NAMES, *(f"eos{i}" for i in range(N_EOS)), *OTHERS]
    types: List[str] = []
    count = ""
    for c in FORMAT[1:]:
        if c.isdigit():
            count += c
        elif c in "sx":
            types.append(count + c)
            count = ""
        else:
            types += [c] * int(count or 1)
            count = ""
    offsets, at = {}, 0
    for field, kind in zip(fields, types):
        offsets[field] = (at, kind)
        at += struct.calcsize("<" + kind)
    return offsets


FIELDS = field_offsets()


def get(data: bytes, field: str) -> int:
    offset, kind = FIELDS[field]
    return struct.unpack_from("<" + kind, data, offset)[0]


def with_fields(data: bytes, **values: object) -> bytes:
    """The file with other values in some fields; integers are cut to their size."""
    changed = bytearray(data)
    for field, value in values.items():
        offset, kind = FIELDS[field]
        if kind in "IQ":
            value = int(value) & ((1 << 8 * struct.calcsize(kind)) - 1)
        struct.pack_into("<" + kind, changed, offset, value)
    return bytes(changed)


class Tensor(NamedTuple):
    name: str
    offset: int                         # in the file
    rows: int
    cols: int
    kind: str                           # "bf16", "int8" or "f32"
    row_size: int                       # bytes

    def scales(self) -> int:
        """Where in an int8 row its scales begin, one for each 64 columns."""
        return (self.cols + 3) // 4 * 4


def tensors(data: bytes) -> Iterator[Tensor]:
    """The tensors that the header implies, in the order of the file."""
    kind = "int8" if get(data, "weight_type") == 1 else "bf16"
    offset = get(data, "weights_offset")
    dim, hidden, head_dim = get(data, "dim"), get(data, "hidden_dim"), get(data, "head_dim")
    q_dim, kv_dim = get(data, "n_heads") * head_dim, get(data, "n_kv_heads") * head_dim

    def tensor(name: str, rows: int, cols: int, kind: str) -> Tensor:
        nonlocal offset
        row_size = {"bf16": 2 * cols, "f32": 4 * cols,
                    "int8": (cols + 3) // 4 * 4 + (cols + 63) // 64 * 4}[kind]
        at = (offset + 63) // 64 * 64
        offset = at + rows * row_size
        return Tensor(name, at, rows, cols, kind, row_size)

    yield tensor("embedding", get(data, "vocab_size"), dim, kind)
    for _ in range(get(data, "n_layers")):
        yield tensor("attention_norm", 1, dim, "f32")
        for name, rows in (("q", q_dim), ("k", kv_dim), ("v", kv_dim)):
            yield tensor("w" + name, rows, dim, kind)
            if get(data, "qkv_bias"):
                yield tensor("b" + name, 1, rows, "f32")
        if get(data, "qk_norm"):
            yield tensor("q_norm", 1, head_dim, "f32")
            yield tensor("k_norm", 1, head_dim, "f32")
        yield tensor("wo", dim, q_dim, kind)
        yield tensor("mlp_norm", 1, dim, "f32")
        yield tensor("gate", hidden, dim, kind)
        yield tensor("up", hidden, dim, kind)
        yield tensor("down", dim, hidden, kind)
    yield tensor("norm", 1, dim, "f32")
    if not get(data, "tied"):
        yield tensor("output", get(data, "vocab_size"), dim, kind)


def implied_size(data: bytes) -> int:
    """The size of a file with this header."""
    *_, last = tensors(data)
    return last.offset + last.rows * last.row_size


def resize(data: bytes) -> bytes:
    """The file with as many bytes of weights as its header asks for, and sizes that agree."""
    end, offset = implied_size(data), get(data, "weights_offset")
    data = (data + data[offset:] * (end // (len(data) - offset) + 1))[:end]
    return with_fields(data, file_size=end, weights_size=end - offset)
