"""Tests of export.py: every byte of the .bin against the checkpoint, every refusal, a fuzzed
checkpoint directory.

    python3 tests/test_export.py [NAME...]

A line per test, `ok   NAME` or `FAIL NAME: reason`; exit status 1 if one failed. Standard library
only. The .bin is read here by a reader of its own, written from the description of the format.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from typing import Any, Callable, Dict, Iterator, List, Tuple

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
EXPORT = os.path.join(os.path.dirname(HERE), "export.py")
sys.path[:0] = [HERE, os.path.dirname(HERE)]
import export  # noqa: E402
from harness import run_tests  # noqa: E402
from make_checkpoint import QWEN15_TEMPLATE, make_checkpoint  # noqa: E402

# half a second that each export would take
export.unicode_tables = functools.lru_cache(None)(export.unicode_tables)
SCRATCH = ""  # a directory of this test's own
CACHE = ""  # and of this run's
SAID: List[str] = []  # what the last export in this process showed
export.say = lambda *parts: SAID.append(": ".join(parts))
UNICODE_CHECKSUM = "06ce608d54c7fa038d7098a8336500f7611dd245e5cf013227d5a793f5d190f4"

# -- A reader of model.bin -----------------------------------------------

HEADER_FORMAT = "<8sII5QII8IIfdIIIIIIIIIIIIfIfffI32II64s768s4x"
HEADER_FIELDS = (
    "magic version header_size file_size tokenizer_offset tokenizer_size weights_offset "
    "weights_size weight_type group_size dim hidden_dim n_layers n_heads n_kv_heads head_dim "
    "vocab_size max_positions tied rms_eps rope_theta qkv_bias qk_norm kind chatml opening "
    "cuts_reasoning im_start im_end endoftext tokenizer_eos max_new_tokens do_sample temperature "
    "top_k top_p min_p repetition_penalty n_eos "
    + " ".join(f"eos{i}" for i in range(32)) + " system_size name system").split()


def align(n: int) -> int:
    return (n + 63) // 64 * 64


class Bin:
    """A .bin: header fields as attributes, `tokens`, `merges` and so on, `tensors` {name:
    bytes}."""

    def __init__(self, path: str):
        self.data = data = read(path)
        values = struct.unpack(HEADER_FORMAT, data[:1152])
        self.__dict__.update(zip(HEADER_FIELDS, values))
        h: Any = self
        assert h.magic == b"qwen.c\n\0" and (h.version, h.header_size) == (2, 1152)
        assert h.file_size == len(data) and h.weights_offset + h.weights_size == h.file_size
        assert h.tokenizer_offset == 1152 and h.weights_offset == align(1152 + h.tokenizer_size)
        assert not any(data[1148:1152])
        self.used: List[Tuple[int, int]] = [(0, 1152)]
        self.eos = list(values[HEADER_FIELDS.index("eos0") :][: h.n_eos])
        self.system = h.system[: h.system_size].decode()
        assert not any(values[HEADER_FIELDS.index("system")][h.system_size :])
        self.name = h.name.rstrip(b"\0").decode()

        self.at = 1152
        (self.n_vocab, self.n_added, self.n_slots, n_blocks, n_decompositions, n_compositions,
         n_bytes, zero) = self.take("I", 8)
        self.unicode_version = bytes(self.take("B", 16)).rstrip(b"\0").decode()
        assert zero == 0 and not any(self.take("B", 16))
        self.byte_id = self.take("I", 256)
        starts = self.array("I", self.n_vocab + 1)
        flagged = self.array("I", self.n_added)
        self.added = [i & 0x3FFFFFFF for i in flagged]
        self.special = {i & 0x3FFFFFFF for i in flagged if i >> 31}
        self.normalized = {i & 0x3FFFFFFF for i in flagged if i >> 30 & 1}
        self.slots = list(zip(*[iter(self.array("I", 4 * self.n_slots))] * 4))
        self.block = self.array("H", 4352)
        self.chars = self.array("H", 256 * n_blocks)
        self.decompositions = list(zip(*[iter(self.array("I", 3 * n_decompositions))] * 3))
        self.compositions = list(zip(*[iter(self.array("I", 3 * n_compositions))] * 3))
        text = bytes(self.array("B", n_bytes))
        self.tokens = [text[a:b] for a, b in zip(starts, starts[1:])]
        assert starts[0] == 0 and starts[-1] == n_bytes and self.at == 1152 + h.tokenizer_size

        self.at = h.weights_offset
        self.tensors: Dict[str, bytes] = {}
        q_dim, kv_dim = h.n_heads * h.head_dim, h.n_kv_heads * h.head_dim
        self.tensor("model.embed_tokens.weight", h.vocab_size * h.dim, 2)
        for i in range(h.n_layers):
            p = f"model.layers.{i}."
            self.tensor(p + "input_layernorm.weight", h.dim, 4)
            for name, rows in (("q", q_dim), ("k", kv_dim), ("v", kv_dim)):
                self.tensor(f"{p}self_attn.{name}_proj.weight", rows * h.dim, 2)
                if h.qkv_bias:
                    self.tensor(f"{p}self_attn.{name}_proj.bias", rows, 4)
            for name in ("q_norm", "k_norm")[: 2 * h.qk_norm]:
                self.tensor(f"{p}self_attn.{name}.weight", h.head_dim, 4)
            self.tensor(p + "self_attn.o_proj.weight", h.dim * q_dim, 2)
            self.tensor(p + "post_attention_layernorm.weight", h.dim, 4)
            for name in ("gate", "up", "down"):
                self.tensor(f"{p}mlp.{name}_proj.weight", h.hidden_dim * h.dim, 2)
        self.tensor("model.norm.weight", h.dim, 4)
        if not h.tied:
            self.tensor("lm_head.weight", h.vocab_size * h.dim, 2)
        assert self.at == h.file_size
        end = 0  # nothing but zeros lies between what was read
        for start, size in sorted(self.used):
            assert start >= end and not any(data[end:start])
            end = start + size

    def take(self, letter: str, count: int) -> Tuple[int, ...]:
        values = struct.unpack_from(f"<{count}{letter}", self.data, self.at)
        size = struct.calcsize(f"<{count}{letter}")
        self.used.append((self.at, size))
        self.at += size
        return values

    def array(self, letter: str, count: int) -> Tuple[int, ...]:
        self.at = align(self.at)
        return self.take(letter, count)

    def tensor(self, name: str, count: int, width: int) -> None:
        self.tensors[name] = bytes(self.array("B", count * width))

    def merge(self, left: int, right: int) -> Tuple[int, int]:
        """(rank, id) of a merge, searched for as the format says; (-1, -1) if there is none."""
        shift = 32 - (self.n_slots.bit_length() - 1)
        slot = ((left * 0x9E3779B1 + right) * 0x85EBCA6B % 2**32) >> shift
        while self.slots[slot][3] != 0xFFFFFFFF:
            if self.slots[slot][:2] == (left, right):
                return self.slots[slot][2:]
            slot = (slot + 1) % self.n_slots
        return -1, -1

    def properties(self, c: int) -> int:
        return self.chars[self.block[c >> 8] * 256 + (c & 255)]


# -- Helpers -------------------------------------------------------------


def check(condition: Any, reason: str = "") -> None:
    if not condition:
        raise AssertionError(reason or "unexpected")


def equal(got: Any, wanted: Any) -> None:
    if got != wanted:
        raise AssertionError(f"got {str(got)[:200]!r} instead of {str(wanted)[:200]!r}")


def read(*path: str) -> bytes:
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def write(content: bytes, *path: str) -> None:
    with open(os.path.join(*path), "wb") as file:
        file.write(content)


def said(*words: str) -> List[str]:
    """The lines of the last export that hold all the words."""
    return [line for line in SAID if all(word in line for word in words)]


@functools.lru_cache(None)
def made(options: Tuple[Tuple[str, Any], ...]) -> str:
    """A checkpoint of this kind, which is made once and copied by each test that wants one."""
    path = os.path.join(tempfile.mkdtemp(dir=CACHE), "checkpoint")
    make_checkpoint(path, **dict(options))
    return path


def fresh(name: str = "checkpoint", **options: Any) -> str:
    """A new checkpoint directory, by default with dimensions that differ from one another."""
    path = os.path.join(tempfile.mkdtemp(dir=SCRATCH), name)
    options = {**dict(dim=24, heads=6, kv_heads=2, hidden=40, layers=2), **options}
    shutil.copytree(made(tuple(sorted(options.items()))), path)
    return path


def read_json(directory: str, name: str) -> Dict[str, Any]:
    return json.loads(read(directory, name))


def write_json(directory: str, name: str, values: Any) -> None:
    write(json.dumps(values).encode(), directory, name)


def change(directory: str, name: str, **fields: Any) -> None:
    """Sets fields of a JSON file; a field set to ... is removed."""
    values = {**read_json(directory, name), **fields}
    write_json(directory, name, {k: v for k, v in values.items() if v is not ...})


def read_safetensors(path: str) -> Dict[str, Tuple[str, List[int], bytes]]:
    data = read(path)
    start = 8 + int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8:start]), data[start:]
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])])
            for name, t in header.items()}


def with_header(header: Any, data: bytes) -> bytes:
    """A safetensors file."""
    text = header if type(header) is bytes else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_safetensors(path: str, tensors: Dict[str, Tuple[str, List[int], bytes]],
                      reorder: bool = False) -> None:
    """`reorder`: a header in an order unlike that of the data, and data at odd offsets."""
    header, data = {}, b""
    if reorder:
        tensors = {"model.layers.0.self_attn.rotary_emb.inv_freq": ("U8", [1], b"\7"),
                   **dict(sorted(tensors.items(), reverse=True))}
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    write(with_header(dict(sorted(header.items())) if reorder else header, data), path)


def all_tensors(directory: str) -> Dict[str, Tuple[str, List[int], bytes]]:
    found = {}
    for name in os.listdir(directory):
        if name.endswith(".safetensors"):
            found.update(read_safetensors(os.path.join(directory, name)))
    return found


def weights(directory: str) -> str:
    return os.path.join(directory, "model.safetensors")


def run(*args: str, python: Tuple[str, ...] = (), **options: Any) -> Any:
    """Runs export.py; `python` are arguments before its name."""
    return subprocess.run([sys.executable, *python, EXPORT, *args], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=120, **options)


def exported(directory: str, kind: Any = None) -> Bin:
    out = os.path.join(tempfile.mkdtemp(dir=SCRATCH), "out.bin")
    SAID.clear()
    export.export(directory, out, kind)
    equal(os.listdir(os.path.dirname(out)), ["out.bin"])
    return Bin(out)


def refused(directory: str, *words: str) -> str:
    """Exports in this process; the refusal must be one line with all the words, and leave no
    file."""
    out = os.path.join(tempfile.mkdtemp(dir=SCRATCH), "out.bin")
    try:
        export.export(directory, out)
    except export.Refusal as error:
        line = ": ".join(error.args)
    except OSError as error:
        line = f"{error.strerror}: {error.filename}"
    else:
        raise AssertionError("it was not refused")
    finally:
        export.remove_temporary()
    equal(os.listdir(os.path.dirname(out)), [])
    for word in words:
        check(word in line, f"no {word!r} in: {line}")
    return line


def bf16_to_f32(data: bytes) -> bytes:
    return b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2))


def nearest_bf16(x: float) -> int:
    """The bits of the bf16 nearest to x, ties to even: by comparing with its neighbours, not by the
    trick export.py uses."""
    bits = struct.unpack("<I", struct.pack("<f", x))[0] >> 16

    def value(b: int) -> float:
        if b & 0x7FFF == 0x7F80:  # infinity counts as the next power of two
            return 2.0**128 * (-1 if b >> 15 else 1)
        return struct.unpack("<f", struct.pack("<I", b << 16))[0]

    return min((bits, bits + 1), key=lambda b: (abs(value(b) - x), b & 1))


# -- What is written -----------------------------------------------------


def added_ids(directory: str) -> Dict[str, int]:
    return {t["content"]: t["id"] for t in read_json(directory, "tokenizer.json")["added_tokens"]}


def test_header_chat() -> None:
    directory = fresh("Qwen-Tiny", kind="chat", context=512)
    h: Any = exported(directory)
    equal((h.weight_type, h.group_size, h.dim, h.hidden_dim, h.n_layers, h.n_heads, h.n_kv_heads,
           h.head_dim), (0, 0, 24, 40, 2, 6, 2, 4))
    config, ids = read_json(directory, "config.json"), added_ids(directory)
    equal((h.vocab_size, h.max_positions, h.tied), (config["vocab_size"], 512, 1))
    equal((h.rms_eps, h.rope_theta), (struct.unpack("<f", struct.pack("<f", 1e-6))[0], 1e6))
    equal((h.kind, h.chatml, h.name, h.system), (1, 1, "Qwen-Tiny", "You are a helpful assistant"))
    equal((h.im_start, h.im_end, h.endoftext),
          (ids["<|im_start|>"], ids["<|im_end|>"], ids["<|endoftext|>"]))
    equal(h.eos, [ids["<|im_end|>"], ids["<|endoftext|>"]])
    equal((h.do_sample, round(h.temperature, 6), h.top_k, round(h.top_p, 6),
           round(h.repetition_penalty, 6)), (1, 0.7, 20, 0.8, 1.1))


def test_header_base() -> None:
    h: Any = exported(fresh(kind="base", tied=False))
    equal((h.kind, h.chatml, h.tied, h.eos), (0, 1, 0, [h.endoftext]))
    equal((h.do_sample, h.temperature, h.top_k, h.top_p, h.repetition_penalty),
          (0, 1.0, 50, 1.0, 1.0))


def test_kind_override() -> None:
    directory = fresh(kind="chat")
    chat, base = exported(directory), exported(directory, "base")
    equal([i for i in range(len(chat.data)) if chat.data[i] != base.data[i]], [120])
    equal(exported(fresh(kind="base"), "chat").kind, 1)


def test_generation_defaults() -> None:
    directory = fresh(kind="chat")
    os.remove(os.path.join(directory, "generation_config.json"))
    h: Any = exported(directory)
    equal((h.eos, h.kind), ([h.im_end], 1))  # eos from config.json
    equal((h.do_sample, h.temperature, h.top_k, h.top_p, h.repetition_penalty),
          (0, 1.0, 50, 1.0, 1.0))
    write_json(directory, "generation_config.json",
               {"do_sample": True, "top_p": 0.25, "eos_token_id": None, "temperature": 2})
    h = exported(directory)  # null in a file that is there: no stop, as in transformers
    equal((h.eos, h.do_sample, h.temperature, h.top_k, h.top_p), ([], 1, 2.0, 50, 0.25))
    check(said("note: eos_token_id is None", "base mode"), SAID)


def test_stop_tokens() -> None:
    """Those that exist, up to 32 of them, each once; a note tells of the others."""
    size = read_json(fresh(), "config.json")["vocab_size"]
    for listed, kept, noted in (([9, 8, 7, 6, 5, 4, 3, 2], [9, 8, 7, 6, 5, 4, 3, 2], False),
                                (5, [5], False), ([7, 7, 7], [7], False),
                                (list(range(40)), list(range(32)), True),
                                ([3, size, 10**30, -1], [3], True), (size, [], True),
                                ([], [], True), (-1, [], True), (None, [], True)):
        directory = fresh()
        change(directory, "generation_config.json", eos_token_id=listed)
        h: Any = exported(directory)
        equal((listed, h.eos, h.kind), (listed, kept, 0))
        equal((listed, bool(said("note: eos_token_id"))), (listed, noted))


def test_kind_is_that_of_any_stop_token() -> None:
    directory = fresh(kind="chat")
    eos = read_json(directory, "generation_config.json")["eos_token_id"]
    change(directory, "generation_config.json", eos_token_id=eos[::-1])
    equal(exported(directory).kind, 1)
    change(directory, "generation_config.json", eos_token_id=eos[1:])
    equal(exported(directory).kind, 0)


def test_tokenizer_eos() -> None:
    """eos_token, and a note where the program would not stop there, with the flag that settles
    it."""
    directory = fresh(kind="base")
    ids = added_ids(directory)
    for token, name, settles in (("<|endoftext|>", "<|endoftext|>", ""),
                                 ({"content": "<|im_end|>"}, "<|im_end|>", "--kind chat"),
                                 ("<|im_start|>", "<|im_start|>", "--kind chat"), (None, "", ""),
                                 ("none", "", ""), (7, "", ""), ({}, "", ""), ([], "", "")):
        change(directory, "tokenizer_config.json", eos_token=token)
        h: Any = exported(directory)
        equal((token, h.tokenizer_eos), (token, ids.get(name, 0xFFFFFFFF)))
        check(bool(said("note: eos_token ")) == bool(settles), str(SAID))
        equal(said("note: eos_token ", settles), said("note: eos_token "))
    change(directory, "tokenizer_config.json", eos_token="<|im_end|>")
    exported(directory, "chat")
    equal(said("eos_token"), [])


def test_settings() -> None:
    """What is applied lands in the header; what is not is named in one note, unless it is
    neutral."""
    directory = fresh()
    change(directory, "generation_config.json", min_p=0.25, max_new_tokens=77, top_k=-1)
    h: Any = exported(directory)
    equal((h.min_p, h.max_new_tokens, h.top_k), (0.25, 77, 0))
    equal(said("does not apply"), [])
    neutral = dict(suppress_tokens=[], bad_words_ids=None, typical_p=1.0, num_beams=1,
                   num_beam_groups=1, no_repeat_ngram_size=0, guidance_scale=1, min_length=0,
                   encoder_repetition_penalty=1.0, epsilon_cutoff=0.0, eta_cutoff=0,
                   penalty_alpha=0, diversity_penalty=0.0, max_length=20,
                   remove_invalid_values=False, forced_bos_token_id=None, min_new_tokens=None,
                   use_cache=True)
    change(directory, "generation_config.json", **neutral)
    exported(directory)
    equal(said("does not apply"), [])
    applied = dict(suppress_tokens=[1], begin_suppress_tokens=[2], bad_words_ids=[[3]],
                   sequence_bias=[[[4], 1.0]], encoder_repetition_penalty=1.2,
                   no_repeat_ngram_size=3, min_new_tokens=4, min_length=5, typical_p=0.9,
                   epsilon_cutoff=0.1, eta_cutoff=0.1, num_beams=4, num_beam_groups=2,
                   penalty_alpha=0.6, diversity_penalty=0.5, forced_bos_token_id=0,
                   forced_eos_token_id=7, exponential_decay_length_penalty=[5, 1.1],
                   guidance_scale=1.5, max_length=100, stop_strings=["x"],
                   encoder_no_repeat_ngram_size=2, top_h=0.4)
    for name, value in applied.items():
        directory = fresh()
        change(directory, "generation_config.json", **{name: value})
        exported(directory)
        notes = said("does not apply")
        check(notes and notes[0].split(": ")[1].endswith(f" {name}"), f"{name}: {notes}")
    change(directory, "generation_config.json", **applied)
    exported(directory)
    notes = said("does not apply")
    equal((len(notes), [n for n in applied if n not in notes[0]]), (1, []))


def test_names() -> None:
    for long, name in (("模" * 40, "模" * 21), ("ab" + "模" * 40, "ab" + "模" * 20),
                       ("a" * 70, "a" * 63)):
        # 63 bytes at most, and no part of a character
        equal(exported(fresh(long)).name, name)
    directory = fresh("plain")
    equal(exported(directory + "/").name, "plain")
    here = os.getcwd()
    os.chdir(directory)
    try:
        equal(exported(".").name, "plain")
    finally:
        os.chdir(here)


def same_weights(directory: str) -> None:
    h = exported(directory)
    for name, data in h.tensors.items():
        dtype, shape, wanted = all_tensors(directory)[name]
        check(data == (wanted if len(shape) == 2 else bf16_to_f32(wanted)), name)


def test_weights_bf16() -> None:
    same_weights(fresh())
    same_weights(fresh(tied=False, heads=4, kv_heads=4, layers=3, seed=2))
    same_weights(fresh(head_dim=14, dim=40, heads=3, kv_heads=1))
    same_weights(fresh(shards=5, tied=False))
    same_weights(fresh(vocab=2999, dim=2048, heads=2, kv_heads=1, layers=1))  # of two chunks


def test_weights_reordered_at_odd_offsets() -> None:
    directory = fresh(tied=False)
    before = exported(directory).data
    write_safetensors(weights(directory), all_tensors(directory), reorder=True)
    check(exported(directory).data == before, "another file")


def test_tied() -> None:
    """The tensors that are stored decide, as in transformers 5.24; a difference is noted."""
    directory = fresh("same", tied=True)
    before = exported(directory).data
    tensors = all_tensors(directory)
    embedding = dtype, shape, data = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = embedding
    write_safetensors(weights(directory), tensors)
    check(exported(directory).data == before, "another file")
    chunk, export.CHUNK = export.CHUNK, 1000  # so that the tensors have several
    for at in (0, len(data) // 2, len(data) - 1):
        other = bytearray(data)
        other[at] ^= 1
        write_safetensors(weights(directory),
                          {**tensors, "lm_head.weight": (dtype, shape, bytes(other))})
        h: Any = exported(directory)
        check(h.tied == 0 and h.tensors["lm_head.weight"] == other, "lm_head")
        check(h.tensors["model.embed_tokens.weight"] == data and said("lm_head"), SAID)
    export.CHUNK = chunk
    del tensors["model.embed_tokens.weight"]
    write_safetensors(weights(directory), tensors)
    check(exported(directory).data == before, "only lm_head")
    change(directory, "config.json", tie_word_embeddings=False)
    refused(directory, "embed_tokens.weight", "missing")


def test_tensor_names() -> None:
    """With `model.`, without, with it twice; a lone shard without an index, and all shards."""
    directory = fresh("same", tied=False)
    before, tensors = exported(directory).data, all_tensors(directory)
    for prefix in ("", "model.model."):
        write_safetensors(weights(directory), {
            name.replace("model.", prefix) if "lm_head" not in name else name: tensor
            for name, tensor in tensors.items()})
        check(exported(directory).data == before, prefix)
    write_safetensors(weights(directory), {**tensors, "norm.weight": tensors["model.norm.weight"]})
    refused(directory, "norm.weight")
    write_safetensors(weights(directory), tensors)
    os.rename(weights(directory), os.path.join(directory, "model-00001-of-00001.safetensors"))
    check(exported(directory).data == before, "lone shard")
    directory = fresh("same", tied=False, shards=3)
    os.remove(os.path.join(directory, "model.safetensors.index.json"))
    check(exported(directory).data == before, "shards without an index")
    os.remove(os.path.join(directory, "model-00002-of-00003.safetensors"))
    refused(directory, "no model.safetensors")


def test_qwen3() -> None:
    """Norms of q and k, no biases, head_dim of its own (128 where the field is missing)."""
    for options in (dict(head_dim=128), dict(tied=False, head_dim=12)):
        directory = fresh(architecture="qwen3", **options)
        h: Any = exported(directory)
        equal((h.qkv_bias, h.qk_norm, h.head_dim), (0, 1, options["head_dim"]))
        check("model.layers.1.self_attn.k_norm.weight" in h.tensors, "k_norm")
        same_weights(directory)
    directory = fresh(architecture="qwen3", head_dim=128)
    change(directory, "config.json", head_dim=...)
    equal(exported(directory).head_dim, 128)
    change(directory, "config.json", attention_bias=True)
    refused(directory, "attention_bias", "config.json")
    change(directory, "config.json", attention_bias=False, head_dim=128,
           architectures=["Qwen2ForCausalLM"])
    equal(exported(directory).qk_norm, 0)  # as transformers: norms left out, with a note
    check(said("no part of the architecture"), SAID)


def test_qwen2_without_biases() -> None:
    """attention_bias is no field of Qwen2: the tensors decide, all or none."""
    directory = fresh()
    tensors = all_tensors(directory)
    change(directory, "config.json", attention_bias=False)
    equal(exported(directory).qkv_bias, 1)
    write_safetensors(weights(directory), {k: v for k, v in tensors.items() if "bias" not in k})
    equal(exported(directory).qkv_bias, 0)
    write_safetensors(weights(directory), {k: v for k, v in tensors.items()
                                           if "0.self_attn.k_proj.bias" not in k})
    refused(directory, "k_proj.bias", "missing")


def rounded(dtype: str, values: List[float], letter: str) -> None:
    """A checkpoint of this dtype with these values spread over its weights: matrices nearest bf16,
    norms exact."""
    directory = fresh(dtype=dtype.lower())
    tensors = all_tensors(directory)
    for k, (name, (kind, shape, data)) in enumerate(tensors.items()):
        n = len(data) // struct.calcsize(letter)
        part = [values[(i + 97 * k) % len(values)] for i in range(n)]
        tensors[name] = kind, shape, struct.pack(f"<{n}{letter}", *part)
    write_safetensors(weights(directory), tensors)
    for name, data in exported(directory).tensors.items():
        _, shape, source = tensors[name]
        exact = struct.unpack(f"<{len(source) // struct.calcsize(letter)}{letter}", source)
        if len(shape) == 2:
            check(struct.unpack(f"<{len(exact)}H", data) == tuple(map(nearest_bf16, exact)), name)
        else:
            check(data == struct.pack(f"<{len(exact)}f", *exact), name)


def test_weights_f32() -> None:
    generator = random.Random(1)

    def number(bits: int) -> float:
        return struct.unpack("<f", struct.pack("<I", bits))[0]

    values = [number(generator.getrandbits(32)) for _ in range(20000)]
    values += [number(high << 16 | low)
               for high in (0x3F80, 0x3F81, 0, 1, 0x7F7E, 0xBF80, 0x8000, 0x807F, 0xFF7E)
               for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    rounded("F32", [v for v in values if abs(v) < 3.38e38], "f")


def test_weights_f16() -> None:
    values = struct.unpack("<65536e", struct.pack("<65536H", *range(65536)))
    rounded("F16", [v for v in values if abs(v) < 7e4], "e")


def test_rounding_is_said() -> None:
    directory = fresh(dtype="f32")
    result = run(directory, os.path.join(SCRATCH, "said.bin"))
    check(result.returncode == 0 and "F32" in result.stderr and "rounded" in result.stderr,
          result.stderr)
    check("rounded" not in run(fresh(), os.path.join(SCRATCH, "said.bin")).stderr)


def test_new_spellings() -> None:
    old, new = fresh("same"), fresh("same", new_names=True)
    equal({"rope_theta", "torch_dtype"} & set(read_json(new, "config.json")), set())
    check(type(read_json(new, "tokenizer.json")["model"]["merges"][0]) is list)
    check(exported(old).data == exported(new).data, "another file")
    change(new, "config.json", layer_types=["full_attention"] * 2, rope_scaling=None)
    check(exported(old).data == exported(new).data, "another file")


# -- The tokenizer section -----------------------------------------------


def test_tokens_and_merges() -> None:
    directory = fresh()
    tokenizer = read_json(directory, "tokenizer.json")
    size = len(tokenizer["model"]["vocab"])
    # a gap before it
    tokenizer["added_tokens"] += [
        dict(tokenizer["added_tokens"][0], id=size + 4, content="<|im_end|>!"),
        # also in vocab
        dict(tokenizer["added_tokens"][0], id=65, content="A"),
    ]
    write_json(directory, "tokenizer.json", tokenizer)
    h = exported(directory)
    # The stand-ins by their definition in GPT-2's encoder: printable bytes
    # are themselves, the others count up from 256.
    stand_in, n = {}, 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            stand_in[chr(byte)] = byte
        else:
            stand_in[chr(256 + n)], n = byte, n + 1
    vocab = tokenizer["model"]["vocab"]
    for text, i in vocab.items():
        equal(h.tokens[i], bytes(stand_in[c] for c in text))
    equal([h.tokens[i] for i in h.byte_id], [bytes([b]) for b in range(256)])
    equal([h.tokens[i] for i in h.added],
          [b"<|endoftext|>", b"<|im_start|>", b"<|im_end|>!", b"<|im_end|>", b"A"])
    equal((h.n_vocab, h.tokens[size + 3]), (size + 5, b""))
    equal((h.special, h.normalized), (set(h.added), set()))
    tokenizer["added_tokens"][-1].update(special=False, normalized=True)
    tokenizer["added_tokens"][-2].update(special=False)
    write_json(directory, "tokenizer.json", tokenizer)
    h = exported(directory)
    equal((h.special, h.normalized), (set(h.added) - {65, size + 4}, {65}))
    merges = [m.split(" ") for m in tokenizer["model"]["merges"]]
    for rank, (a, b) in enumerate(merges):
        equal(h.merge(vocab[a], vocab[b]), (rank, vocab[a + b]))
    equal(sum(s[3] != 0xFFFFFFFF for s in h.slots), len(merges))
    equal(h.merge(vocab["a"], vocab["~"]), (-1, -1))
    check(all(s == (0, 0, 0, 0xFFFFFFFF) for s in h.slots if s[3] == 0xFFFFFFFF))
    check(h.n_slots >= 1.5 * len(merges) > h.n_slots / 2)


def test_no_merges() -> None:
    directory = fresh()
    tokenizer = read_json(directory, "tokenizer.json")
    tokenizer["model"]["merges"] = []
    write_json(directory, "tokenizer.json", tokenizer)
    equal(exported(directory).n_slots, 2)


def test_unicode_tables() -> None:
    """They are those of Unicode 16.0, whatever this Python has: the checksum was made with
    unicodedata2 16.0.0 by tests/unicode_tables.py. What this Python knows it agrees with."""
    h = exported(fresh())
    equal(h.unicode_version, "16.0.0")
    table = b"".join(struct.pack("<H", h.properties(c)) for c in range(0x110000))
    equal(hashlib.sha256(table).hexdigest(), UNICODE_CHECKSUM)
    white = {9, 10, 11, 12, 13, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
             0x202F, 0x205F, 0x3000}
    seconds = {second for _, second, _ in h.compositions}
    later = float(unicodedata.unidata_version[:2]) > 16
    for c in range(0x110000):
        p, char = h.properties(c), chr(c)
        category = unicodedata.category(char)
        if category == "Cn" or later:
            continue
        equal((c, p & 255), (c, unicodedata.combining(char)))
        kind = 3 if c in white else {"L": 1, "N": 2}.get(category[0], 0)
        equal((hex(c), p >> 8 & 3), (hex(c), kind))
        jamo = 0x1160 <= c < 0x1200 or 0xD7B0 <= c < 0xD800
        changes = (unicodedata.normalize("NFC", char) != char or unicodedata.combining(char) != 0
                   or c in seconds or jamo)
        equal((hex(c), p >> 10 & 1), (hex(c), int(changes)))
    check(h.decompositions == sorted(h.decompositions, key=lambda d: d[2]))
    check(h.compositions == sorted(h.compositions))


def nfc(h: Bin, parts: Dict[int, Tuple[int, int]], pairs: Dict[Tuple[int, int], int],
        text: str) -> str:
    """Normalisation (Unicode Standard Annex 15) by nothing but the tables of the .bin."""

    def decompose(c: int) -> Iterator[int]:
        if c in parts:
            yield from decompose(parts[c][0])
            if parts[c][1]:
                yield parts[c][1]
        else:
            yield c

    chars = [d for c in text for d in decompose(ord(c))]
    cc = [h.properties(c) & 255 for c in chars]
    i = 0
    while i < len(chars):  # canonical order: a stable sort of each run of marks
        j = i
        while j < len(chars) and cc[j]:
            j += 1
        run_of_marks = sorted(zip(cc[i:j], chars[i:j]), key=lambda m: m[0])
        cc[i:j], chars[i:j] = [m[0] for m in run_of_marks], [m[1] for m in run_of_marks]
        i = j + 1
    out: List[int] = []
    starter, last = -1, 0
    for c in chars:
        cls = h.properties(c) & 255
        adjacent = starter >= 0 and (last < cls or starter == len(out) - 1)
        joined = pairs.get((out[starter], c), 0) if adjacent else 0
        if joined:
            out[starter] = joined
            continue
        if cls == 0:
            starter = len(out)
        last = cls
        out.append(c)
    return "".join(map(chr, out))


def test_nfc_from_tables() -> None:
    h = exported(fresh())
    parts = {c: (a, b) for a, b, c in h.decompositions}
    pairs = {(a, b): c for a, b, c in h.compositions}
    generator = random.Random(3)
    interesting = [c for c in range(0x110000) if h.properties(c) >> 10 & 1]
    interesting += [c for c, _, _ in h.compositions if not 0xAC00 <= c < 0xD7A4]
    interesting += [*range(0x1100, 0x1200), *range(0xAC00, 0xD7A4, 7)]
    interesting = [c for c in interesting if unicodedata.category(chr(c)) != "Cn"]
    for c in interesting:
        equal(nfc(h, parts, pairs, chr(c)), unicodedata.normalize("NFC", chr(c)))
    for _ in range(20000):
        text = "".join(chr(generator.choice(interesting)) for _ in range(generator.randrange(1, 7)))
        equal(nfc(h, parts, pairs, text), unicodedata.normalize("NFC", text))


# -- The chat template ---------------------------------------------------

NOT_FOLLOWED = "macro", "unknown and", "for with else"      # though the framing is right


def golden_templates() -> List[Dict[str, Any]]:
    return json.loads(read(HERE, "template_golden.json"))["cases"]


QWEN25_TEMPLATE = next(c["template"] for c in golden_templates() if c["name"] == "qwen2.5")


def test_golden_templates() -> None:
    """The header says what transformers makes of chats, or a note says that it does not."""
    directory, framed_right = fresh(), 0
    cuts = {"qwen1.5": 0, "qwen2.5": 0, "qwen3": 1, "qwq": 1, "none": 0}
    words = {"trim": "trims", "strip": "trims", "not ChatML": "not ChatML", "macro": "not followed",
             "another generation prompt": "Sure!", "roles one by one": "of a chat"}
    for case in golden_templates():
        name, rendered = case["name"], case["rendered"]
        change(directory, "tokenizer_config.json", chat_template=case["template"])
        h: Any = exported(directory)
        framed = [export.frame(chat, h.system, h.opening, h.cuts_reasoning)
                  for chat in export.CHATS]
        notes = said("note: the chat template")
        check(not name.startswith("qw") or not notes, str(notes))
        equal((name, len(notes)), (name, int(framed != rendered or name in NOT_FOLLOWED)))
        check(words.get(name, "") in "".join(notes), str(notes))
        equal(h.cuts_reasoning, cuts.get(name, h.cuts_reasoning))
        framed_right += not notes
    equal(framed_right, 27)


def test_renderings() -> None:
    """What a template is said to make of a chat is what transformers makes of it."""
    followed = 0
    for case in golden_templates():
        template = case["template"]
        for old, new in export.WHITE_SPACE:
            template = re.sub(old, new, template)
        for chat, rendered in zip(export.CHATS, case["rendered"]):
            text = export.render(template, chat, {})
            check(None in (text, rendered) or text == rendered, f"{case['name']}: {text!r}")
            followed += text is not None
    equal(followed, 179)


def system_of(template: Any, jinja: Any = None) -> Tuple[int, str]:
    directory = fresh()
    change(directory, "tokenizer_config.json", chat_template=template)
    if jinja is not None:
        write(jinja.encode(), directory, "chat_template.jinja")
    h: Any = exported(directory)
    return h.chatml, h.system


def test_chat_templates() -> None:
    qwen15, long = (1, "You are a helpful assistant"), "é" * 380
    qwen25 = (1, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
    named = [{"name": "tool_use", "template": "x"},
             {"name": "default", "template": QWEN25_TEMPLATE}]
    for template, jinja, wanted in (
            (QWEN15_TEMPLATE, None, qwen15), (QWEN25_TEMPLATE, None, qwen25), (named, None, qwen25),
            (QWEN15_TEMPLATE, QWEN25_TEMPLATE, qwen25),     # the file of its own comes first
            (..., QWEN15_TEMPLATE, qwen15), (..., None, (1, "")),
            ("{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + "
             "'<|im_end|>' + '\n'}}{% endfor %}", None, (1, "")),
            ("{% if messages %}\n<|im_start|>system\nBe brief, don't lie.<|im_end|>\n{% endif %}",
             None, (1, "Be brief, don't lie.")),
            (r"""{{ "<|im_start|>system\nIt's \"é\"\t\u82f9<|im_end|>\n" }}""", None,
             (1, 'It\'s "é"\t苹')),
            ("{{ '[INST] ' + messages[0]['content'] + ' [/INST]' }}", None, (0, "")),
            (QWEN15_TEMPLATE.replace("a helpful assistant", long), None, (1, "You are " + long))):
        equal((template, system_of(template, jinja)), (template, wanted))


def test_framing_of_chats() -> None:
    """Chats of several turns and roles are compared, too."""
    loop = (
        "{% for m in messages %}{% if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + "
        "m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}{{ '<|im_start|>assistant\n' }}"
    )
    answer = "(m.content.{} if m.role == 'assistant' else m.content)"
    every = loop.replace("m.role != 'system'", "true")
    for template, words in (
        (loop, "of a chat"),
        (every.replace("m.content", answer.format("strip('A')")), "of a chat"),
        (every.replace("m.content", answer.format("upper()")), "['user', 'assistant', 'user']"),
        (loop.replace("m.role != 'system'", "m.role != 'system' or raise_exception('no')"),
         "['system', 'user']"),
        (every, ""),
        # what is not followed matters where it is reached
        ("{% if tools %}{% for k, v in tools.items() %}{{ {k: v} }}{% endfor %}{% call f(1) %}"
         "{% endcall %}{% endif %}" + every, ""),
        (QWEN15_TEMPLATE, ""),
    ):
        directory = fresh()
        change(directory, "tokenizer_config.json", chat_template=template)
        exported(directory)
        notes = said("note: the chat template")
        equal([words for note in notes if words in note], [words] * (words != ""))


def test_hostile_templates() -> None:
    """They end in a note, soon and without an exception."""
    chatml, directory = "<|im_start|><|im_end|>", fresh()
    for text in ("{% set x = 'aaaa' %}" + "{% set x = x + x %}" * 60, "{{ '%999999999d' % 1 }}",
                 "{% if " + "not " * 500 + "x %}{% endif %}", "{% endif %}{% else %}{% elif a %}",
                 "{{ " + "(" * 5000 + " }}", "{{ " + "x|" * 3000 + "trim }}", "{{ 1 % 0 }}",
                 "{{ 'a'.__class__.__mro__ }}", "{% for %}{% set %}{% if %}", "{{ '\\x' }}",
                 "{% for x in 7 %}{% endfor %}", "{{ 'a' * 9 ** 9 ** 9 }}", "{{ 9 | default }}",
                 "{% set messages = 1 %}{{ messages[0].role }}", "\ud800", "{%" * 3000,
                 "{{'" * 3000, "{{ }}", "{% for a in messages %}" * 25,
                 "{% if a %}{% elif a %}" * 999,
                 "{% if a %}" + "{% elif a %}" * 4000 + "{% endif %}", "{% if a %}" * 200,
                 "{% set x = messages %}" + "{% set x = x + x %}" * 60,
                 "{% set f = {} %}", "{{ [].append }}", "{{ (lambda: 1)() }}",
                 "{% set __x__ = 1 %}",
                 "{% for a in messages %}{% for b in a.content %}" * 4 + "{{ 'aaaaaaaa' }}",
                 "{{ messages.__class__ }}", "{{ namespace.__globals__ }}", "{{ ''.format(1) }}"):
        change(directory, "tokenizer_config.json", chat_template=chatml + text)
        equal(exported(directory).chatml, 1)
        equal((text[:40], len(said("note: the chat template"))), (text[:40], 1))


def test_template_notes() -> None:
    directory = fresh()
    change(directory, "tokenizer_config.json", chat_template=...)
    check("no chat template" in run(directory, os.path.join(SCRATCH, "n.bin")).stderr)
    change(directory, "tokenizer_config.json", chat_template="[INST]")
    check("not ChatML" in run(directory, os.path.join(SCRATCH, "n.bin")).stderr)


# -- Refusals ------------------------------------------------------------


def test_refuses_config() -> None:
    for words, fields in (
        (["architectures", "LlamaForCausalLM"], dict(architectures=["LlamaForCausalLM"])),
        (["architectures", "Qwen2MoeForCausalLM"],
         dict(architectures=["Qwen2MoeForCausalLM"], model_type="qwen2_moe")),
        (["architectures", "Qwen3MoeForCausalLM"], dict(architectures=["Qwen3MoeForCausalLM"])),
        (["architectures"], dict(architectures=...)),
        (["architectures"], dict(architectures="Qwen2ForCausalLM")),
        (["rope_scaling"], dict(rope_scaling={"type": "yarn", "factor": 4.0})),
        (["rope_type", "yarn"],
         dict(rope_parameters={"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0})),
        (["rope_scaling", "linear"], dict(rope_scaling={"type": "linear", "factor": 2.0})),
        (["rope_parameters"],
         dict(rope_parameters={"rope_theta": 1e6, "partial_rotary_factor": 0.5})),
        (["rope_theta", "missing"], dict(rope_theta=..., rope_parameters={"rope_type": "default"})),
        (["rope_parameters"], dict(rope_parameters=[1])),
        (["use_sliding_window"],
         dict(use_sliding_window=True, max_window_layers=1, sliding_window=16)),
        (["use_sliding_window"], dict(use_sliding_window="yes")),
        (["layer_types"], dict(layer_types=["chunked_attention"] * 2, use_sliding_window=True)),
        (["layer_types"], dict(layer_types=["full_attention", "sliding_attention"],
                               use_sliding_window=True, sliding_window=16)),
        (["layer_types"], dict(layer_types=["full_attention", "sliding_attention"])),
        (["quantization_config", "gptq"],
         dict(quantization_config={"quant_method": "gptq", "bits": 4})),
        (["hidden_act", "gelu"], dict(hidden_act="gelu")),
        (["attention_bias"], dict(attention_bias="yes")),
        (["quantization", "group_size"], dict(quantization={"group_size": 64, "bits": 4})),
        (["rope_theta"], dict(rope_theta=10**400)),
        (["rope_theta"], dict(rope_theta=-(10**400))),
        (["rms_norm_eps"], dict(rms_norm_eps=10**400)),
        (["hidden_size", "missing"], dict(hidden_size=...)),
        (["hidden_size", "missing"], dict(hidden_size=None)),
        (["hidden_size", "24.0"], dict(hidden_size=24.0)),
        (["hidden_size", "True"], dict(hidden_size=True)),
        (["hidden_size", "-24"], dict(hidden_size=-24)),
        (["hidden_size"], dict(hidden_size=25)),
        (["hidden_size"], dict(hidden_size=6 * 3)),
        (["head_dim"], dict(head_dim=5)),
        (["num_attention_heads", "0"], dict(num_attention_heads=0)),
        (["num_attention_heads"], dict(num_attention_heads=2**40)),
        (["num_key_value_heads"], dict(num_key_value_heads=4)),
        (["num_key_value_heads"], dict(num_key_value_heads=12)),
        (["num_hidden_layers"], dict(num_hidden_layers=10**9)),
        (["intermediate_size"], dict(intermediate_size="40")),
        (["vocab_size"], dict(vocab_size=10**30)),
        (["embed_tokens", "[300, 24]"], dict(vocab_size=300)),
        (["max_position_embeddings", "missing"], dict(max_position_embeddings=...)),
        (["rms_norm_eps"], dict(rms_norm_eps=0)),
        (["rms_norm_eps"], dict(rms_norm_eps=float("nan"))),
        (["rope_theta", "missing"], dict(rope_theta=...)),
        (["rope_theta"], dict(rope_theta=float("inf"))),
        (["rope_theta"], dict(rope_theta=-1)),
        (["tie_word_embeddings"], dict(tie_word_embeddings="yes")),
    ):
        directory = fresh()
        change(directory, "config.json", **fields)
        refused(directory, *words, "config.json")


def test_refuses_numbers_of_any_length() -> None:
    for name, old, field in (("config.json", '"hidden_size": 24', "hidden_size"),
                             ("generation_config.json", '"top_k": 20', "top_k")):
        for digits in ("9" * 5000, "-" + "9" * 5000):
            directory = fresh()
            text = read(directory, name).replace(old.encode(), f'"{field}": {digits}'.encode())
            write(text, directory, name)
            refused(directory, name, field, "between")


def test_accepts_by_effect() -> None:
    """Settings that cannot change a logit give the same file."""
    plain = exported(fresh("same")).data
    for fields in (
        dict(rope_scaling={"rope_type": "default"}),
        dict(rope_scaling={"type": "default"}),
        dict(rope_scaling={}),
        dict(rope_scaling={"type": "linear", "factor": 1.0}),
        dict(rope_parameters={"rope_theta": 1e6, "factor": 4.0}),
        dict(rope_parameters={"rope_type": "default"}),
        dict(rope_parameters={"rope_type": "default", "rope_theta": 1e6}, rope_theta=5.0),
        dict(rope_parameters={"rope_theta": 1e6, "partial_rotary_factor": 1.0}),
        dict(use_sliding_window=True),
        dict(use_sliding_window=True, sliding_window=None),
        dict(use_sliding_window=True, sliding_window=32768, max_window_layers=0),
        dict(use_sliding_window=False, sliding_window=16, max_window_layers=0),
        dict(use_sliding_window=True, sliding_window=16, layer_types=["full_attention"] * 2),
        dict(use_sliding_window=True, layer_types=["full_attention", "sliding_attention"]),
        dict(attention_bias=False),
        dict(attention_bias=True),
        dict(hidden_act="swish"),
        dict(hidden_act=...),
        dict(quantization_config={}),
        dict(quantization_config=None),
    ):
        directory = fresh("same")
        change(directory, "config.json", **fields)
        check(exported(directory).data == plain, str(fields))


def test_refuses_generation_config() -> None:
    for fields in (dict(eos_token_id=["x"]), dict(eos_token_id=True), dict(eos_token_id=[[1]]),
                   dict(do_sample=1), dict(temperature=-0.5), dict(temperature="hot"),
                   dict(top_k=-2), dict(min_p=2), dict(max_new_tokens=-1),
                   dict(max_new_tokens=10**400), dict(temperature=10**400), dict(top_k=2.5),
                   dict(top_p=1.5), dict(repetition_penalty=0),
                   dict(repetition_penalty=float("nan"))):
        directory = fresh()
        change(directory, "generation_config.json", **fields)
        refused(directory, *fields, "generation_config.json")
    os.remove(os.path.join(directory, "generation_config.json"))
    change(directory, "config.json", eos_token_id=...)
    equal(exported(directory).n_eos, 0)
    check(said("note: eos_token_id", "config.json"), SAID)


def test_refuses_tokenizer() -> None:
    def edit(change_tokenizer: Callable[[Dict[str, Any]], Any], *words: str) -> None:
        tokenizer = copy.deepcopy(original)
        change_tokenizer(tokenizer)
        write_json(directory, "tokenizer.json", tokenizer)
        refused(directory, "tokenizer.json", *words)

    directory = fresh()
    original = read_json(directory, "tokenizer.json")
    edit(lambda t: t.update(normalizer=None), "normalizer")
    edit(lambda t: t.update(normalizer={"type": "NFKC"}), "normalizer", "NFKC")
    edit(lambda t: t.update(pre_tokenizer=None), "pre_tokenizer")
    edit(lambda t: t["pre_tokenizer"]["pretokenizers"].pop(), "pre_tokenizer")
    edit(lambda t: t["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="\\s+"),
         "pre_tokenizer")
    edit(lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"),
         "pre_tokenizer")
    edit(lambda t: t["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
         "pre_tokenizer")
    edit(lambda t: t["pre_tokenizer"].update(pretokenizers=[1]), "pre_tokenizer")
    edit(lambda t: t.update(decoder={"type": "WordPiece"}), "decoder")
    edit(lambda t: t.update(post_processor={"type": "TemplateProcessing"}), "post_processor")
    edit(lambda t: t["model"].update(type="WordPiece"), "type", "WordPiece")
    edit(lambda t: t["model"].update(byte_fallback=True), "byte_fallback")
    edit(lambda t: t["model"].update(ignore_merges=True), "ignore_merges")
    edit(lambda t: t["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix")
    edit(lambda t: t["model"].update(dropout=0.1), "dropout")
    edit(lambda t: t.pop("model"), "model")
    edit(lambda t: t["model"].pop("vocab"), "vocab")
    edit(lambda t: t["model"].pop("merges"), "merges")
    edit(lambda t: t["model"]["vocab"].pop("a"), "single bytes")
    edit(lambda t: t["model"]["vocab"].update(b=t["model"]["vocab"]["a"]), "one id to two tokens")
    edit(lambda t: t["model"]["vocab"].update({"a b": 299}), "alphabet")
    edit(lambda t: t["model"]["vocab"].update({"": 299}), "alphabet")
    edit(lambda t: t["model"]["vocab"].update(a=-1), "'a'", "-1")
    edit(lambda t: t["model"]["vocab"].update(a=1.0), "'a'")
    edit(lambda t: t["model"]["vocab"].update(a=10**12), "vocab_size")
    edit(lambda t: t["model"]["merges"].append("a"), "merge")
    edit(lambda t: t["model"]["merges"].append("a b c"), "merge")
    edit(lambda t: t["model"]["merges"].append("a ~"), "merge")
    edit(lambda t: t["model"]["merges"].append(["a", 1]), "merge")
    edit(lambda t: t["model"]["merges"].append([["a"], "b"]), "merge")
    edit(lambda t: t["model"]["merges"].append(None), "merge")
    edit(lambda t: t["model"]["merges"].append(t["model"]["merges"][0]), "merge")
    for i, text in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>")):
        edit(lambda t: t["added_tokens"].pop(i), text)
    for flag in ("lstrip", "rstrip", "single_word"):
        edit(lambda t: t["added_tokens"][2].update({flag: True}), "<|im_end|>", flag)
    edit(lambda t: t["added_tokens"][2].update(content="e\u0301", normalized=True), "NFC")
    edit(lambda t: t["added_tokens"][2].update(content="\ud800"), "NFC")
    edit(lambda t: t["added_tokens"][2].update(special=1), "special")
    edit(lambda t: t["added_tokens"].append(7), "content")
    edit(lambda t: t["added_tokens"].append(t["added_tokens"][0]), "<|endoftext|>")
    edit(lambda t: t["added_tokens"][0].update(id=3), "<|endoftext|>")
    edit(lambda t: t["added_tokens"][0].update(content="a"), "'a'")
    edit(lambda t: t["added_tokens"][0].update(id=10**9), "id")
    edit(lambda t: t["added_tokens"][0].update(content=""), "empty")
    directory = fresh(vocab=300)
    refused(directory, "vocab_size")


def test_refuses_template() -> None:
    directory = fresh()
    change(directory, "tokenizer_config.json",
           chat_template=QWEN15_TEMPLATE.replace("helpful", "h" * 749))
    refused(directory, "system message", "769", "768")
    change(directory, "tokenizer_config.json", chat_template=7)
    refused(directory, "chat_template", "tokenizer_config.json")


def test_refuses_broken_files() -> None:
    pointer = (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"7" * 64
               + b"\nsize 3988014264\n")
    for name in ("config.json", "generation_config.json", "tokenizer.json",
                 "tokenizer_config.json"):
        for content, words in ((b"", ["JSON"]), (b"{", ["JSON"]), (b"[1]", ["JSON object"]),
                               (b"\xff\xfe{}", ["JSON"]), (b'{"a": 1, "a": 2}', ["'a'", "twice"]),
                               (b"[" * 100000, ["JSON"]), (b"1" * 5000, ["JSON"]),
                               (pointer, ["Git LFS", "git lfs pull"])):
            directory = fresh()
            write(content, directory, name)
            refused(directory, name, *words)
    for name in ("config.json", "tokenizer.json"):
        directory = fresh()
        os.remove(os.path.join(directory, name))
        refused(directory, name)
    for shards, name in ((1, "model.safetensors"), (2, "model-00002-of-00002.safetensors")):
        directory = fresh(shards=shards)
        write(pointer, directory, name)
        refused(directory, name, "Git LFS", "git lfs pull")
    os.remove(os.path.join(directory, "model.safetensors.index.json"))
    refused(directory, name, "Git LFS", "git lfs pull")
    for name in ("generation_config.json", "chat_template.jinja", "model.safetensors"):
        # missing, not absent
        directory = fresh()
        path = os.path.join(directory, name)
        if os.path.exists(path):
            os.remove(path)
        os.symlink("nowhere", path)
        refused(directory, name, "No such file")


def test_refuses_no_safetensors() -> None:
    directory = fresh()
    os.rename(weights(directory), os.path.join(directory, "pytorch_model.bin"))
    refused(directory, "pickled", "safetensors")
    os.remove(os.path.join(directory, "pytorch_model.bin"))
    refused(directory, "no model.safetensors")
    refused(os.path.join(directory, "nowhere"), "nowhere")


def test_refuses_safetensors() -> None:
    def edit(change_header: Callable[[Dict[str, Any]], Any], *words: str) -> None:
        header = json.loads(text)
        change_header(header)
        content(with_header(header, data), *words)

    def content(whole: bytes, *words: str) -> None:
        write(whole, weights(directory))
        refused(directory, "model.safetensors", *words)

    directory = fresh()
    intact = all_tensors(directory)
    norm = "model.norm.weight"
    whole = read(weights(directory))
    start = 8 + int.from_bytes(whole[:8], "little")
    text, data = whole[8:start], whole[start:]
    last = list(json.loads(text))[-1]
    equal(last, norm)
    for size in (0, 7, 8, 100, start - 1, start, len(whole) - 1):
        content(whole[:size], "truncated")
    content(whole + b"\0", "damaged")
    for length in (0, 1, len(text) - 1, len(text) + 1, len(whole), 2**63, 2**64 - 1):
        content(struct.pack("<Q", length) + whole[8:])
    content(b"<!DOCTYPE html><html>" + whole, "not a safetensors file")
    edit(lambda h: h.update({norm: 7}), norm)
    edit(lambda h: h[norm].pop("dtype"), norm, "dtype")
    edit(lambda h: h[norm].pop("shape"), norm, "shape")
    edit(lambda h: h[norm].update(dtype="F64"), norm)
    edit(lambda h: h[norm].update(dtype="F32"), norm)
    edit(lambda h: h[norm].update(shape=[23]), norm, "24")
    edit(lambda h: h[norm].update(shape=[1, 24]), norm)
    edit(lambda h: h[norm].update(shape=[-24]), norm)
    edit(lambda h: h[norm].update(shape=[10**30]), norm)
    edit(lambda h: h[norm].update(shape="24"), norm)
    edit(lambda h: h[norm].update(shape=[24.0]), norm)
    edit(lambda h: h[norm].update(data_offsets=[0, 48]), "overlap")
    edit(lambda h: h[norm].update(data_offsets=[0]), norm)
    edit(lambda h: h[norm]["data_offsets"].reverse())
    edit(lambda h: h[norm].update(data_offsets=[h[norm]["data_offsets"][0], 10**20]), "bytes")
    edit(lambda h: h[norm].update(data_offsets=[-48, 0]), norm)
    end = json.loads(text)[norm]["data_offsets"][1]  # one tensor of -48 bytes after all others
    header = {**json.loads(text), "junk": dict(dtype="U8", shape=[], data_offsets=[end, end - 48])}
    content(with_header(header, data[:-48]), "junk", "overlap")
    edit(lambda h: h.pop(norm))
    write_safetensors(weights(directory), {k: v for k, v in intact.items() if k != norm})
    refused(directory, norm, "missing")
    again = json.dumps({norm: json.loads(text)[norm]}).encode()
    content(with_header(text.rstrip()[:-1] + b"," + again[1:], data), norm, "twice")


def test_refuses_shards() -> None:
    def write_map(changed: Dict[str, Any]) -> None:
        write_json(directory, name, {**index, "weight_map": changed})

    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    name = "model.safetensors.index.json"
    directory = fresh(shards=2)
    os.remove(os.path.join(directory, second))
    refused(directory, second)
    directory = fresh(shards=2)
    index = read_json(directory, name)
    shard_of = index["weight_map"]
    for shard in (7, "", "../x", "a\0b", "a\nb", "\ud800", None):
        write_map({**shard_of, "model.norm.weight": shard})
        refused(directory, name, "weight_map")
    write_map({**shard_of, "model.norm.weight": first})
    refused(directory, "model.norm.weight")
    write_json(directory, name, {"metadata": {}})
    refused(directory, name, "weight_map", "missing")
    write_map({**shard_of, "model.layers.9.x": second})
    check(exported(directory).n_layers == 2)  # a name too many does no harm
    write_map({k: v for k, v in shard_of.items() if v == first})
    refused(directory, "missing")
    write_json(directory, name, index)
    embedding = "model.embed_tokens.weight"
    tensors = read_safetensors(os.path.join(directory, second))
    tensors[embedding] = all_tensors(directory)[embedding]
    write_safetensors(os.path.join(directory, second), tensors)
    refused(directory, embedding, second)


def test_refuses_a_short_read() -> None:
    """A file that shrank between the check of its header and the reading of its data."""
    config = export.read_config(export.read_json(fresh(), "config.json"))
    tensor = export.choose_tensors(config, fresh())[1][0]
    os.truncate(tensor.path, tensor.offset + tensor.size - 1)
    try:
        for _ in export.convert_tensors([tensor]):
            pass
        check(False, "it was not refused")
    except export.Refusal as error:
        check("shrank" in error.args[0], str(error))


def test_refuses_nan_and_infinity() -> None:
    names = "model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.k_proj.bias"
    for dtype, letter, wrong in (
            ("bf16", "H", (0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F81)),
            ("f16", "H", (0x7C00, 0xFC00, 0x7E00, 0xFFFF)),
            ("f32", "I", (0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001, 0x7F7FFFFF))):
        for k, bits in enumerate(wrong):
            name = names[k % 2 if bits != 0x7F7FFFFF else 0]
            directory = fresh(dtype=dtype)
            tensors = all_tensors(directory)
            kind, shape, data = tensors[name]
            data = bytearray(data)
            struct.pack_into("<" + letter, data, (len(data) // 3) // 4 * 4, bits)
            write_safetensors(weights(directory), {**tensors, name: (kind, shape, data)})
            refused(directory, name, "too large" if bits == 0x7F7FFFFF else "NaN or infinity")
    for bits in (0x7F7F, 0xFF7F, 0x7F00):  # the largest that are finite
        check(not export.has_nonfinite(struct.pack("<3H", 0x80, bits, 0x3FFF), 2))


def test_refuses_stand_ins() -> None:
    """What is no regular file, the text of a link, a link that leads nowhere, foreign encodings."""
    link = b"../../blobs/6a1b2c3d4e5f\n"
    for name in ("config.json", "tokenizer.json", "generation_config.json",
                 "chat_template.jinja", "tokenizer_config.json", "model.safetensors"):
        for make, words in ((lambda path: os.symlink("/dev/zero", path), ["not a regular file"]),
                            (os.mkfifo, ["not a regular file"]), (os.mkdir, ["Is a directory"]),
                            (lambda path: write(link, path), ["text of a link"])):
            directory = fresh()
            path = os.path.join(directory, name)
            if os.path.lexists(path):
                os.remove(path)
            make(path)
            refused(directory, name, *words)
    for name in ("config.json", "tokenizer_config.json"):
        directory = fresh("same")
        before, path = exported(directory).data, os.path.join(directory, name)
        text = read(path)
        write(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"), path)
        check(exported(directory).data == before, "a byte-order mark")
        write(text.decode().encode("utf-16"), path)
        refused(directory, name, "UTF-8", "save it as UTF-8")
    os.truncate(path, 65 << 20)
    refused(directory, name, "larger than 64 MB")


def test_advice() -> None:
    directory = fresh()
    tensors = all_tensors(directory)
    for name in ("model.layers.0.mlp.up_proj.qweight", "model.layers.0.mlp.up_proj.scales",
                 "model.layers.0.mlp.up_proj.weight_scale_inv"):
        write_safetensors(weights(directory), {**tensors, name: ("U8", [1], b"0")})
        refused(directory, "quantised")
    change(directory, "config.json", rope_scaling={"type": "yarn", "factor": 4.0})
    check("short texts" in refused(directory, "rope_scaling", "yarn"))
    os.remove(os.path.join(directory, "tokenizer.json"))
    for name in ("vocab.json", "merges.txt"):
        write(b"{}", directory, name)
    change(directory, "config.json", rope_scaling=None)
    write_safetensors(weights(directory), tensors)
    refused(directory, "vocab.json", "AutoTokenizer", "save_pretrained")
    directory = fresh()
    os.remove(weights(directory))
    os.symlink("nowhere", weights(directory))
    one_line(run(directory, os.path.join(SCRATCH, "a.bin")), 1, "link leads nowhere")


# -- The program ---------------------------------------------------------


def one_line(result: Any, status: int, *words: str) -> None:
    equal((result.returncode, result.stdout), (status, ""))
    lines = result.stderr.splitlines()
    check(len(lines) == 1 and lines[0].startswith("export.py: ")
          and all(w in lines[0] for w in words), result.stderr)


def test_messages() -> None:
    directory, out = fresh("ok"), os.path.join(SCRATCH, "messages.bin")
    one_line(run(directory, out), 0, "messages.bin", "ok", "chat", "413")
    one_line(run("--kind", "base", directory, out), 0, "base")
    equal(Bin(out).kind, 0)
    os.remove(weights(directory))
    one_line(run(directory, out), 1, "no model.safetensors", directory)
    equal(Bin(out).kind, 0)  # what was there before stays
    one_line(run("nowhere", out), 1, "nowhere", "No such file")
    change(directory, "config.json", hidden_act="\x1b[31m\n\u202e")
    one_line(run(directory, out), 1, "hidden_act")


def test_command_line() -> None:
    for args in ((), ("a",), ("a", "b", "c"), ("--kind", "other", "a", "b"),
                 ("--wrong", "a", "b"), ("--k", "base", "a", "b")):
        result = run(*args)
        equal((args, result.returncode, result.stdout), (args, 2, ""))
        check("Traceback" not in result.stderr and "export.py: " in result.stderr, result.stderr)
    result = run("--help")
    check(result.returncode == 0 and "CHECKPOINT_DIR" in result.stdout)


def test_output_paths() -> None:
    directory = fresh()
    one_line(run(directory, SCRATCH), 1, "not a regular file", SCRATCH)
    one_line(run(directory, "/dev/null"), 1, "not a regular file")
    one_line(run(directory, os.path.join(SCRATCH, "no", "such.bin")), 1, "such.bin")
    one_line(run(directory, weights(directory)), 1, "checkpoint itself")
    read_safetensors(weights(directory))
    one_line(run(weights(directory), os.path.join(SCRATCH, "x.bin")), 1, "Not a directory")
    before, inside = set(os.listdir(directory)), os.path.join(directory, "model.bin")
    one_line(run(directory, inside), 0)
    one_line(run(directory, inside), 0)
    equal(sorted(set(os.listdir(directory)) - before), ["model.bin"])


def test_no_file_is_lost() -> None:
    """OUT that is a file of the checkpoint under any name is refused, and stays as it is."""
    directory, place = fresh("lost", shards=2), tempfile.mkdtemp(dir=SCRATCH)
    shard = os.path.join(directory, "model-00002-of-00002.safetensors")
    write(b"pickled", directory, "pytorch_model.bin")
    before = {entry.path: entry.stat().st_mtime_ns for entry in os.scandir(directory)}
    os.symlink(shard, os.path.join(place, "symbolic"))
    os.link(shard, os.path.join(place, "hard"))
    os.symlink(directory, os.path.join(place, "same"))
    names = [*before, *(os.path.join(place, name) for name in ("symbolic", "hard"))]
    names += [os.path.join(place, "same", os.path.basename(shard)), directory + "/./config.json"]
    for out in names:
        one_line(run(directory, out), 1, "checkpoint itself")
    equal({entry.path: entry.stat().st_mtime_ns for entry in os.scandir(directory)}, before)
    outside = os.path.join(place, "shard")  # a shard may be a link, as in the Hub's cache
    os.rename(shard, outside)
    os.symlink(outside, shard)
    one_line(run(directory, outside), 1, "checkpoint itself")
    one_line(run(directory, os.path.join(place, "hard")), 1, "checkpoint itself")
    victim = os.path.join(place, "victim")
    write(b"mine", victim)
    os.symlink(victim, os.path.join(place, "out.bin"))
    for name in ("out.bin.tmp", "out.tmp"):  # names that a temporary file could have
        os.symlink(victim, os.path.join(place, name))
    one_line(run(directory, os.path.join(place, "out.bin")), 0)
    check(read(victim) == b"mine" and not os.path.islink(os.path.join(place, "out.bin")),
          "victim")


def test_two_at_once() -> None:
    """Two exports to one OUT: the result is one of the two, whole, and nothing else is left."""
    one, two, place = (fresh("one", vocab=9000, dim=240),
                       fresh("two", vocab=9000, dim=240, seed=2), tempfile.mkdtemp(dir=SCRATCH))
    whole = [exported(directory).data for directory in (one, two)]
    out = os.path.join(place, "out.bin")
    for _ in range(3):
        started = [subprocess.Popen([sys.executable, EXPORT, directory, out],
                                    stderr=subprocess.PIPE) for directory in (one, two)]
        for process in started:
            process.communicate(timeout=60)
        equal([process.returncode for process in started], [0, 0])
        equal(os.listdir(place), ["out.bin"])
        check(read(out) in whole, "a mixture")


def test_temporary_that_exists() -> None:
    """A name that somebody has is refused, also as a link, and stays."""
    place, directory = tempfile.mkdtemp(dir=SCRATCH), fresh()
    victim, name = os.path.join(place, "victim"), os.path.join(place, f"export-{'00' * 6}.tmp")
    write(b"mine", victim)
    urandom, os.urandom = os.urandom, lambda n: bytes(n)
    try:
        for make in (lambda: os.symlink(victim, name), lambda: os.link(victim, name),
                     lambda: os.symlink("nowhere", name)):
            make()
            try:
                export.export(directory, os.path.join(place, "out.bin"))
                check(False, "it was not refused")
            except FileExistsError:
                export.remove_temporary()
            check(os.path.lexists(name) and read(victim) == b"mine", "lost")
            os.remove(name)
    finally:
        os.urandom = urandom


def test_mode_of_the_file() -> None:
    directory, out = fresh(), os.path.join(SCRATCH, "mode.bin")
    for mask in (0o022, 0o077):
        old = os.umask(mask)
        try:
            one_line(run(directory, out), 0)
        finally:
            os.umask(old)
        equal(os.stat(out).st_mode & 0o777, 0o666 & ~mask)


def test_standard_error_closed_or_full() -> None:
    directory, out = fresh(), os.path.join(SCRATCH, "quiet.bin")
    for redirection in ("2>&-", "2>/dev/full" if os.path.exists("/dev/full") else "2>&-",
                        ">&- 2>&- <&-"):
        if os.path.exists(out):
            os.remove(out)
        command = f'exec "{sys.executable}" "{EXPORT}" "{directory}" "{out}" {redirection}'
        equal(subprocess.run(["sh", "-c", command], timeout=60).returncode, 0)
        Bin(out)


def test_warns_nothing() -> None:
    """A template with escapes that Python would warn of, with warnings as errors."""
    directory = fresh()
    change(directory, "tokenizer_config.json",
           chat_template=QWEN15_TEMPLATE.replace("a help", r"a \q\d help"))
    out = os.path.join(SCRATCH, "w.bin")
    one_line(run(directory, out, python=("-W", "error")), 0)
    equal(Bin(out).system, r"You are a \q\d helpful assistant")


def test_read_only_directory() -> None:
    directory, place = fresh(), tempfile.mkdtemp(dir=SCRATCH)
    os.chmod(SCRATCH, 0o755)
    os.chmod(os.path.dirname(directory), 0o755)
    os.chmod(place, 0o555)
    user = os.geteuid()
    if user == 0:  # who may write everywhere: be nobody for a while
        os.seteuid(65534)
    try:
        export.export(directory, os.path.join(place, "out.bin"))
        check(False, "it was not refused")
    except PermissionError as error:
        equal(os.path.dirname(error.filename), place)
    finally:
        os.seteuid(user)
        os.chmod(place, 0o755)
    equal(os.listdir(place), [])


def test_full_disk() -> None:
    place = tempfile.mkdtemp(dir=SCRATCH)
    out = os.path.join(place, "out.bin")
    for limit in (0, 1000, 200_000, 5_000_000):  # in the header, the tokenizer, the weights

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        result = run(fresh(vocab=10000, dim=384), out, preexec_fn=limited)
        one_line(result, 1, "out.bin")
        equal(os.listdir(place), [])
    if os.path.exists("/dev/full"):  # the errno of a full disk itself
        program = (
            "import os, runpy, sys\n"
            "sys.argv, real = sys.argv[1:], open\n"
            "def full(path, mode='r', *a, **k):\n"
            "    path = path if 'x' not in mode else '/dev/full'\n"
            "    return real(path, mode.replace('x', 'w'), *a, **k)\n"
            "import builtins; builtins.open = full\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        one_line(run(fresh(), out, python=("-c", program)), 1, "No space left", "free some space")
        equal(os.listdir(place), [])


def wait_for_handler(process: "subprocess.Popen[str]") -> None:
    """Until export.py answers signals itself; before, the Python that loads it does."""
    try:
        while process.poll() is None:
            with open(f"/proc/{process.pid}/status") as file:
                caught = next(int(line.split()[1], 16) for line in file
                              if line.startswith("SigCgt"))
            if caught >> signal.SIGTERM - 1 & 1:
                return
            time.sleep(0.001)
    except (OSError, StopIteration):  # no Linux
        time.sleep(1)


def test_interrupted() -> None:
    directory = fresh(vocab=40000, dim=768)
    place = tempfile.mkdtemp(dir=SCRATCH)
    out = os.path.join(place, "out.bin")
    one_line(run(directory, out), 0)
    before = os.stat(out).st_ino
    seen = set()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for moment in ("early", "file", "weights"):
            process = subprocess.Popen([sys.executable, EXPORT, directory, out],
                                       stderr=subprocess.PIPE, universal_newlines=True)
            wait_for_handler(process)
            while moment != "early" and process.poll() is None:
                others = [os.path.join(place, n) for n in os.listdir(place) if n != "out.bin"]
                if (others and os.path.exists(others[0])
                        and os.path.getsize(others[0]) >= 5_000_000 * (moment == "weights")):
                    break
            process.send_signal(number)
            error = process.communicate(timeout=60)[1]
            if process.returncode == 0:  # it was faster
                before = os.stat(out).st_ino
                continue
            seen.add(number)
            equal((process.returncode, len(error.splitlines())), (128 + number, 1))
            check(error.startswith("export.py: interrupted: "), error)
            equal((os.listdir(place), os.stat(out).st_ino), (["out.bin"], before))
    equal(len(seen), 3)


def test_interrupted_when_done() -> None:
    """A signal after the file has got its name does not say that nothing was written."""
    program = (
        "import os, runpy, signal, sys\n"
        "replace, sys.argv = os.replace, sys.argv[1:]\n"
        "os.replace = lambda old, new: (replace(old, new), os.kill(os.getpid(), signal.SIGINT))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    out = os.path.join(SCRATCH, "out.bin")
    one_line(run(fresh(), out, python=("-c", program)), 0, "out.bin")
    Bin(out)


def on_terminal(directory: str, **environment: str) -> bytes:
    """What an export shows on a terminal."""
    master, slave = pty.openpty()
    names = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen([sys.executable, EXPORT, directory, os.path.join(SCRATCH, "p.bin")],
                               stderr=slave, env={**names, "TERM": "xterm", **environment})
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    equal(process.wait(), 0)
    return shown


def test_progress_only_on_a_terminal() -> None:
    directory = fresh(vocab=40000, dim=768)
    check("\r" not in run(directory, os.path.join(SCRATCH, "p.bin")).stderr)
    shown = on_terminal(directory)
    last = shown.split(b"\r\x1b[K")[-1]
    check(last.startswith(b"export.py: ") and shown.count(b"export.py: ") == 1, repr(shown[-300:]))
    for environment in (dict(TERM="dumb"), dict(NO_COLOR="1")):
        shown = on_terminal(directory, **environment)
        check(b"\x1b" not in shown and shown.startswith(b"export.py: "), repr(shown[:300]))


def test_memory() -> None:
    """Peak memory under 200 MB, with 250 MB of BF16, and with several chunks of what is
    converted."""
    for dtype, vocab in (("bf16", 60000), ("f16", 12000), ("f32", 12000)):
        directory = fresh(vocab=vocab, dim=1024, heads=2, kv_heads=1, hidden=16, dtype=dtype,
                          tied=False)
        # A process between, since a child's peak counts what its parent had when it forked.
        program = ("import resource, subprocess, sys; "
                   "subprocess.run([sys.executable, *sys.argv[1:]], check=True); "
                   "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        result = run(directory, os.path.join(SCRATCH, "m.bin"), python=("-c", program))
        equal(result.returncode, 0)
        peak = int(result.stdout) / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        check(peak < 200, f"{dtype}: {peak:.0f} MB")
        shutil.rmtree(directory)


# -- Fuzzing -------------------------------------------------------------

JUNK = (None, True, False, 0, 1, -1, 2, 3.5, 2**31, 2**32, 2**63, 2**64, 10**400, 1e308,
        float("nan"), float("inf"),
        "", "a", "\0", "\ud800", "<|im_end|>", [], [0], [[]], {}, {"a": 0}, "x" * 10000,
        [[[[[[[[]]]]]]]], -2**70, 0.0, -0.5)


def places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """The paths of all nodes of a JSON value, at most a few of each long list or object."""
    yield path
    if isinstance(value, (dict, list)):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in keys[:12] + keys[-2:]:
            yield from places(value[key], path + (key,))


def mutate(value: Any, generator: random.Random) -> Any:
    value = copy.deepcopy(value)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        path = generator.choice(list(places(value)))
        if not path:
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if generator.random() < 0.2:
            del parent[path[-1]]
        elif generator.random() < 0.1 and isinstance(parent, dict):
            name = generator.choice(("a", "head_dim", "eos_token_id", "__metadata__", ""))
            parent[name] = parent.pop(path[-1])
        else:
            parent[path[-1]] = generator.choice(JUNK)
    return value


def test_fuzz(rounds: int = 1000, seed: int = 5) -> None:
    """Mutated checkpoints are exported or refused in one line: no other exception, no file left."""
    generator = random.Random(seed)
    directory = fresh(shards=2, layers=1, dim=8, heads=2, kv_heads=1, hidden=8)
    out = os.path.join(tempfile.mkdtemp(dir=SCRATCH), "out.bin")
    files = {name: read(directory, name) for name in sorted(os.listdir(directory))}
    tally = {"exported": 0, "refused": 0}
    for i in range(rounds):
        name = generator.choice(sorted(files))
        whole = files[name]
        start = 8 + int.from_bytes(whole[:8], "little") if name.endswith(".safetensors") else 0
        how = generator.random()
        if how < 0.7:  # change its JSON
            new = json.dumps(
                mutate(json.loads(whole[8:start] if start else whole), generator)).encode()
            new = with_header(new, whole[start:]) if start else new
        elif how < 0.9:  # change bytes of it, mostly of its JSON
            new = bytearray(whole)
            for _ in range(generator.choice((1, 2, 8))):
                new[generator.randrange(start or len(new))] = generator.choice(
                    (0, 0xFF, 0x22, 0x30, 0x2C, generator.randrange(256)))
        else:  # cut it
            new = whole[: generator.randrange(len(whole))]
        write(new, directory, name)
        try:
            export.export(directory, out)
            Bin(out)
            os.remove(out)
            tally["exported"] += 1
        except (export.Refusal, OSError) as error:
            check(type(error) is not export.Refusal
                  or len(error.args) == 3 and len(": ".join(error.args)) < 600, repr(error))
            tally["refused"] += 1
        except Exception:
            write(new, tempfile.gettempdir(), "export-fuzz-" + name)
            raise AssertionError(f"round {i}, {name}: {traceback.format_exc()}")
        finally:
            export.remove_temporary()
        equal(os.listdir(os.path.dirname(out)), [])
        write(whole, directory, name)
    check(min(tally.values()) > rounds / 50, str(tally))


def isolated(test: Callable[[], None]) -> Callable[[], None]:
    """The test in a SCRATCH of its own."""

    def run_it() -> None:
        global SCRATCH
        with tempfile.TemporaryDirectory(prefix="test_export.") as SCRATCH:
            test()

    return run_it


def main() -> int:
    global CACHE
    warnings.simplefilter("ignore")     # as main() of export.py does
    chosen = {name: isolated(test) for name, test in globals().items()
              if name.startswith("test_") and name[5:] in (sys.argv[1:] or [name[5:]])}
    with tempfile.TemporaryDirectory(prefix="test_export.") as CACHE:
        return run_tests("export", {**chosen, "__file__": os.path.abspath(__file__)})


if __name__ == "__main__":
    sys.exit(main())
