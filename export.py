"""A Hugging Face checkpoint directory of Qwen1.5, Qwen2 or Qwen2.5 -> the one .bin file that ./qwen maps.

Everything the C program needs ends up in it: shape, special ids, generation defaults, default system message,
the tokenizer with the Unicode tables it uses, the weights; README.md says where each byte lies. Standard library
only, Python 3.8 or newer. The weights are streamed, so memory does not grow with the model.
"""
from __future__ import annotations

import os
import signal
import sys

temporary = ""                          # the unfinished file
complete = False                        # it is whole: too late to interrupt


def say(*parts: str) -> None:
    """One line on standard error, in the place of a progress bar."""
    erase = "\r\x1b[K" if sys.stderr.isatty() else ""
    line = "".join(c if c.isprintable() else "?" for c in ": ".join(("export.py",) + parts))
    print(erase + line, file=sys.stderr, flush=True)


def remove_temporary() -> None:
    try:
        os.unlink(temporary)
    except OSError:
        pass


def interrupted(number: int, frame: object) -> None:
    if complete:
        return
    remove_temporary()
    say("interrupted", "nothing was written", "run it again")
    os._exit(128 + number)


if __name__ == "__main__":              # this early, since Ctrl-C may come while the modules below are loaded
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)

import argparse
import errno
import itertools
import json
import math
import re
import reprlib
import struct
import time
import unicodedata
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple

ALIGN = 64                              # bytes; sections, arrays and tensors start at multiples of it
CHUNK = 8 << 20                         # bytes of weights read at a time
MAX_TENSOR_LIST = 16 << 20              # bytes; the header of a safetensors file (110B: 0.1 MB)
DTYPE_SIZE = {"BF16": 2, "F16": 2, "F32": 4}
SETTINGS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
            "model.safetensors.index.json")
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")
AGAIN = "download it again"
UNSUPPORTED = "only Qwen1.5, Qwen2 and Qwen2.5 as published are supported"

# The model's shape in the order of the header; where a tensor lies (offset and size in bytes) and what it is.
Config = namedtuple("Config", "dim hidden_dim n_layers n_heads n_kv_heads head_dim vocab_size max_positions "
                              "tied rms_eps rope_theta")
Tensor = namedtuple("Tensor", "path name dtype shape offset size")

brief = reprlib.Repr()                  # values inside messages: whatever a file holds, a few words
brief.maxstring = brief.maxother = 80


class Refusal(Exception):
    """Refusal(what is wrong, in which file, what to do)."""


# -- JSON ----------------------------------------------------------------------------------------------------

class Settings:
    """A JSON object that knows its file, so that every refusal names it."""

    def __init__(self, path: str, values: Dict[str, Any]):
        self.path, self.values = path, values

    def refuse(self, name: str, advice: str = UNSUPPORTED) -> NoReturn:
        raise Refusal(f"{name} is {brief.repr(self.values.get(name))}", self.path, advice)

    def get(self, name: str, kind: type, default: Any = None, low: float = 0, high: float = 1e6) -> Any:
        """The field `name`, of the type `kind`; a number must lie within low..high. null counts as missing, and a
        missing field without a default is refused."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise Refusal(f"{name} is missing", self.path, AGAIN)
            return default
        if kind is float and type(value) is int:
            value = float(min(value, 1 << 64))
        if type(value) is not kind:
            self.refuse(name, f"it should be of type {kind.__name__}")
        if kind in (int, float) and not low <= value <= high:
            self.refuse(name, f"it should be between {low} and {high}")
        return value

    def inside(self, name: str) -> Settings:
        return Settings(f"{self.path}, {name}", self.get(name, dict))


def parse_json(data: bytes, path: str) -> Settings:
    """`data`, the contents of `path`, as a JSON object in which no name stands twice."""
    def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise ValueError(f"{brief.repr(name)} stands there twice")
        return values

    if data.startswith(b"version https://git-lfs"):
        raise Refusal("a Git LFS pointer instead of the file", path, "run `git lfs pull` in its directory")
    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"broken JSON, {error}", path, AGAIN) from None
    if type(values) is not dict:
        raise Refusal("not a JSON object", path, AGAIN)
    return Settings(path, values)


def read_json(path: str, optional: bool = False) -> Settings:
    if optional and not os.path.lexists(path):      # a link that leads nowhere is not the same as no file
        return Settings(path, {})
    with open(path, "rb") as file:
        return parse_json(file.read(), path)


# -- config.json, generation_config.json, the chat template --------------------------------------------------

def read_config(config: Settings) -> Config:
    """The shape from config.json. Refuses every setting that would have ./qwen compute something else."""
    if config.values.get("architectures") != ["Qwen2ForCausalLM"]:
        config.refuse("architectures")
    for name, usual in (("quantization_config", None), ("rope_scaling", None), ("use_sliding_window", False),
                        ("hidden_act", "silu"), ("attention_bias", True)):
        if config.values.get(name) not in (None, usual):
            config.refuse(name, f"only {usual} is supported")
    if any(kind != "full_attention" for kind in config.get("layer_types", list, [])):
        config.refuse("layer_types", "only full_attention is supported")
    rope = config                       # the older spelling: rope_theta beside the other fields
    if config.values.get("rope_parameters") is not None:
        rope = config.inside("rope_parameters")
        for name, value in rope.values.items():
            if name != "rope_theta" and value not in (None, "default", 1.0):
                rope.refuse(name, "only rope_type default is supported")

    def size(name: str, most: int, default: Optional[int] = None) -> int:
        return config.get(name, int, default, 1, most)

    dim, n_heads = size("hidden_size", 1 << 20), size("num_attention_heads", 1 << 12)
    c = Config(dim, size("intermediate_size", 1 << 20), size("num_hidden_layers", 1 << 12), n_heads,
               size("num_key_value_heads", n_heads, n_heads), size("head_dim", 1 << 12, dim // n_heads),
               size("vocab_size", 1 << 24), size("max_position_embeddings", 1 << 24),
               config.get("tie_word_embeddings", bool, False), config.get("rms_norm_eps", float, None, 1e-30, 0.1),
               rope.get("rope_theta", float, None, 1.0, 1e15))
    if config.values.get("head_dim") is None and dim % n_heads or c.head_dim % 2 or not c.head_dim:
        config.refuse("hidden_size", f"it should be num_attention_heads {n_heads} times an even head_dim")
    if n_heads % c.n_kv_heads:
        config.refuse("num_key_value_heads", f"it should divide num_attention_heads {n_heads}")
    return c


def read_generation(directory: str, config: Settings, vocab_size: int) -> Tuple[List[int], Tuple[Any, ...], int]:
    """Returns (eos ids, (do_sample, temperature, top_k, top_p, repetition_penalty)): generation_config.json,
    completed by config.json and by the defaults of `transformers`."""
    generation = read_json(os.path.join(directory, "generation_config.json"), optional=True)
    source = config if generation.values.get("eos_token_id") is None else generation
    eos = source.values.get("eos_token_id")
    eos = eos if type(eos) is list else [eos]
    if not 1 <= len(eos) <= 8 or not all(type(i) is int and 0 <= i < vocab_size for i in eos):
        source.refuse("eos_token_id", f"it should be one to eight ids below vocab_size {vocab_size}")
    return eos, (generation.get("do_sample", bool, False), generation.get("temperature", float, 1.0),
                 generation.get("top_k", int, 50), generation.get("top_p", float, 1.0, 0, 1),
                 generation.get("min_p", float, 0.0, 0, 1),
                 generation.get("repetition_penalty", float, 1.0, 1e-6)), generation.get("max_new_tokens", int, 0)


def read_chat_template(directory: str) -> Optional[str]:
    """The Jinja source: chat_template.jinja, or else the field of tokenizer_config.json, a text or a list of named
    ones. None if there is neither."""
    path = os.path.join(directory, "chat_template.jinja")
    if os.path.lexists(path):
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    config = read_json(os.path.join(directory, "tokenizer_config.json"), optional=True)
    template = config.values.get("chat_template")
    if type(template) is list:
        named = [t for t in template if type(t) is dict and t.get("name") == "default"]
        template = named[0].get("template") if named else template
    if template is not None and type(template) is not str:
        config.refuse("chat_template", "it should be a text, or a list with one named default")
    return template


def default_system(template: str) -> str:
    """The system message that a ChatML template adds by itself, "" if none: what stands between
    `<|im_start|>system` and `<|im_end|>` within one string literal, or one stretch of text outside of {{ }}, {% %}."""
    literal = re.search(r"""(?s)(['"])<\|im_start\|>system(?:\n|\\n)((?:(?!\1)[^\\]|\\.)*?)<\|im_end\|>""", template)
    if literal:                         # its escapes undone as Jinja undoes them
        return literal[2].encode("ascii", "backslashreplace").decode("unicode-escape", "replace")
    plain = re.search(r"(?:^|\})\s*<\|im_start\|>system\n([^{}]*?)<\|im_end\|>", template)
    return plain[1] if plain else ""


def read_system(directory: str) -> Tuple[bool, bytes]:
    """Returns (whether chats are framed as ChatML, the default system message)."""
    template = read_chat_template(directory)
    if template is None:
        say("note: no chat template, chats will be ChatML without a default system message", directory)
        return True, b""
    if "<|im_start|>" not in template or "<|im_end|>" not in template:
        say("note: the chat template is not ChatML, ./qwen will refuse to chat", directory)
        return False, b""
    system = default_system(template).encode("utf-8", "replace")
    if len(system) > 768:
        raise Refusal(f"the default system message has {len(system)} bytes", directory,
                      "shorten it to 768 in the chat template")
    return True, system


# -- The tokenizer section -----------------------------------------------------------------------------------

def byte_alphabet() -> Dict[int, int]:
    """{code point: byte}: the printable characters by which byte-level BPE writes the 256 bytes, as GPT-2 did."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: byte for byte in printable}, **{256 + i: byte for i, byte in enumerate(others)}}


def check_pipeline(tokenizer: Settings, model: Settings) -> None:
    """Refuses a tokenizer.json that does anything but NFC, the Qwen split and byte-level BPE."""
    split = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    steps = tokenizer.inside("pre_tokenizer").get("pretokenizers", list, [])
    steps = [{k: v for k, v in step.items() if k != "trim_offsets"} if type(step) is dict else step for step in steps]
    if steps != [split, byte_level]:
        tokenizer.refuse("pre_tokenizer")
    if tokenizer.inside("normalizer").values != {"type": "NFC"}:
        tokenizer.refuse("normalizer")
    if tokenizer.inside("decoder").values.get("type") != "ByteLevel":
        tokenizer.refuse("decoder")
    if tokenizer.get("post_processor", dict, {}).get("type", "ByteLevel") != "ByteLevel":
        tokenizer.refuse("post_processor")
    if model.values.get("type", "BPE") != "BPE":
        model.refuse("type")
    for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                 "ignore_merges"):
        if model.values.get(name):
            model.refuse(name)


def read_tokens(tokenizer: Settings, model: Settings, vocab_size: int) -> Tuple[Dict[int, bytes], Dict[str, int]]:
    """Returns ({id: bytes} of all tokens, {text: id} of the added ones)."""
    def refuse(what: str) -> NoReturn:
        raise Refusal(what, tokenizer.path, UNSUPPORTED)

    vocab, alphabet = model.get("vocab", dict), byte_alphabet()
    for text, i in vocab.items():
        if type(i) is not int or not 0 <= i < vocab_size:
            refuse(f"vocab gives {brief.repr(text)} the id {brief.repr(i)}, vocab_size is {vocab_size}")
    if "" in vocab or not set(map(ord, set().union(*vocab))) <= set(alphabet):
        refuse("vocab has a token that is not made of the byte-level alphabet")
    tokens = {i: text.translate(alphabet).encode("latin-1") for text, i in vocab.items()}
    if len(tokens) != len(vocab):
        refuse("vocab gives one id to two tokens")
    if not {bytes([byte]) for byte in range(256)} <= set(tokens.values()):
        refuse("vocab lacks some of the 256 single bytes")

    added: Dict[str, int] = {}
    for entry in tokenizer.get("added_tokens", list):
        token = Settings(f"{tokenizer.path}, added_tokens", entry if type(entry) is dict else {})
        text, i = token.get("content", str), token.get("id", int, None, 0, vocab_size - 1)
        if any(token.get(flag, bool, False) for flag in ("single_word", "lstrip", "rstrip")):
            refuse(f"the added token {brief.repr(text)} has one of single_word, lstrip, rstrip, normalized")
        if not text or text in added or vocab.get(text, i) != i or i in tokens and text not in vocab:
            refuse(f"the added token {brief.repr(text)} with id {i} is empty or contradicts another token")
        added[text], tokens[i] = i, text.encode("utf-8", "surrogatepass")
    for text in SPECIAL:
        if text not in added:
            refuse(f"added_tokens lacks {text}")
    return tokens, added


def merge_table(model: Settings) -> bytes:
    """The merges as an open-addressing hash table, four u32 a slot: left, right, rank, id of the joined token."""
    vocab, merges = model.values["vocab"], model.get("merges", list)
    bits = 1
    while 2 << bits < 3 * len(merges):              # at most two thirds full
        bits += 1
    empty = (0, 0, 0, 0xFFFFFFFF)
    slots, seen = [empty] * (1 << bits), set()
    for rank, merge in enumerate(merges):
        try:                                        # "a b", or ["a", "b"] in newer files
            a, b = merge.split(" ") if type(merge) is str else merge
            pair, joined = (vocab[a], vocab[b]), vocab[a + b]
        except (TypeError, ValueError, KeyError):
            pair = None
        if pair is None or pair in seen:
            raise Refusal(f"merge {rank}, {brief.repr(merge)}, is a repetition, or not two tokens that join to one",
                          model.path, AGAIN)
        seen.add(pair)
        slot = ((pair[0] * 0x9E3779B1 + pair[1]) * 0x85EBCA6B & 0xFFFFFFFF) >> (32 - bits)
        while slots[slot] is not empty:
            slot = (slot + 1) % (1 << bits)
        slots[slot] = (*pair, rank, joined)
    return struct.pack(f"<{4 << bits}I", *itertools.chain.from_iterable(slots))


def unicode_tables() -> Tuple[List[int], List[int], List[int], List[int]]:
    """Returns block [4352], chars [n_blocks * 256], decompositions [3 * n], compositions [3 * n]: see README.md."""
    # Planes 4 to 13 are empty, 15 and 16 private: the 256 characters from U+40000 on stand for them all.
    used = [*range(0x40100), *range(0xE0000, 0xF0000)]
    decompositions = []
    for c in used:
        parts = unicodedata.decomposition(chr(c))
        if parts and not parts.startswith("<"):     # <...> is a compatibility decomposition, none of NFC's
            first, second = (parts.split() + ["0"])[:2]
            decompositions.append((int(first, 16), int(second, 16), c))
    # What NFC does not leave alone is excluded from composition.
    compositions = sorted(d for d in decompositions if d[1] and unicodedata.is_normalized("NFC", chr(d[2])))
    seconds = {second for _, second, _ in compositions}

    def properties(c: int) -> int:
        char = chr(c)
        category, combining = unicodedata.category(char), unicodedata.combining(char)
        white_space = char.isspace() and not 0x1C <= c <= 0x1F          # Unicode's White_Space
        kind = 1 if category[0] == "L" else 2 if category[0] == "N" else 3 if white_space else 0
        jamo = 0x1160 <= c <= 0x11FF or 0xD7B0 <= c <= 0xD7FF           # Hangul vowels and final consonants
        changes = combining or jamo or c in seconds or not unicodedata.is_normalized("NFC", char)
        narrow = category == "Cn" or unicodedata.east_asian_width(char) not in "WF"
        columns = 0 if jamo or category in ("Mn", "Me", "Cf") and c != 0xAD else 1 if narrow else 2
        return combining | kind << 8 | bool(changes) << 10 | columns << 11

    numbers: Dict[Tuple[int, ...], int] = {}        # equal blocks are stored once
    number_of = {start: numbers.setdefault(tuple(map(properties, range(start, start + 256))), len(numbers))
                 for start in used[::256]}
    block = [number_of.get(start, number_of[0x40000]) for start in range(0, 0x110000, 256)]
    flat = itertools.chain.from_iterable
    return block, [*flat(numbers)], [*flat(decompositions)], [*flat(compositions)]


def tokenizer_section(tokenizer: Settings, vocab_size: int) -> Tuple[bytes, Dict[str, int]]:
    """Returns (the section, {text: id} of the added tokens)."""
    def array(letter: str, values: List[int]) -> bytes:
        return struct.pack(f"<{len(values)}{letter}", *values)

    model = tokenizer.inside("model")
    check_pipeline(tokenizer, model)
    tokens, added = read_tokens(tokenizer, model, vocab_size)
    texts = [tokens.get(i, b"") for i in range(max(tokens) + 1)]
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text))
    flags = {entry["id"]: bool(entry.get("special")) << 31 | bool(entry.get("normalized")) << 30
             for entry in tokenizer.values["added_tokens"]}
    longest_first = [i | flags[i] for i in sorted(added.values(), key=lambda i: (-len(tokens[i]), i))]
    byte_ids = {byte: model.values["vocab"][chr(c)] for c, byte in byte_alphabet().items()}
    merges = merge_table(model)
    block, chars, decompositions, compositions = unicode_tables()

    section = bytearray(struct.pack(
        "<8I16s16x", len(texts), len(added), len(merges) // 16, len(chars) // 256, len(decompositions) // 3,
        len(compositions) // 3, starts[-1], 0, unicodedata.unidata_version.encode()))
    section += array("I", [byte_ids[byte] for byte in range(256)])
    for data in (array("I", starts), array("I", longest_first), merges, array("H", block), array("H", chars),
                 array("I", decompositions), array("I", compositions), b"".join(texts)):
        section += bytes(-len(section) % ALIGN) + data
    return bytes(section), added


# -- safetensors ---------------------------------------------------------------------------------------------

def read_tensor_list(path: str) -> Dict[str, Tensor]:
    """The tensors of one file: u64 length of the header, JSON {name: {dtype, shape, data_offsets}}, data without gaps."""
    with open(path, "rb") as file:
        file_size, head = os.fstat(file.fileno()).st_size, file.read(64)
        start = 8 + int.from_bytes(head[:8], "little")
        if head.startswith(b"version "):
            parse_json(head, path)      # refuses a Git LFS pointer
        if not 8 < start <= min(file_size, MAX_TENSOR_LIST):
            raise Refusal("not a safetensors file, or truncated", path, AGAIN)
        file.seek(8)
        header = parse_json(file.read(start - 8), path)
    tensors = {}
    for name in header.values.keys() - {"__metadata__"}:
        entry = header.inside(name)
        shape, offsets = entry.get("shape", list), entry.get("data_offsets", list)
        if len(offsets) != 2 or not all(type(n) is int and n >= 0 for n in shape + offsets):
            raise Refusal("malformed shape or data_offsets", entry.path, AGAIN)
        begin, size = start + offsets[0], offsets[1] - offsets[0]
        tensors[name] = Tensor(path, name, entry.get("dtype", str), shape, begin, size)
    end = start
    for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.size)):
        if tensor.offset != end or tensor.size < 0:
            raise Refusal(f"data_offsets of {brief.repr(tensor.name)} leave a gap or overlap", path, AGAIN)
        end += tensor.size
    if end != file_size:
        raise Refusal(f"truncated or damaged, {file_size} bytes instead of {end}", path, AGAIN)
    return tensors


def find_tensors(directory: str) -> Dict[str, Tensor]:
    """All tensors of model.safetensors, or else of the shards that model.safetensors.index.json names."""
    single = os.path.join(directory, "model.safetensors")
    if os.path.lexists(single):
        return read_tensor_list(single)
    if not os.path.lexists(single + ".index.json"):
        for name in sorted(os.listdir(directory)):
            if name.endswith(".safetensors"):
                read_tensor_list(os.path.join(directory, name))         # refuses a Git LFS pointer
        pickled = any(name.startswith("pytorch_model") for name in os.listdir(directory))
        raise Refusal("no model.safetensors" + (", only pickled weights" if pickled else ""), directory,
                      "take a checkpoint with weights in safetensors files")
    index = read_json(single + ".index.json")
    weight_map = index.get("weight_map", dict)
    tensors: Dict[str, Tensor] = {}
    for name, shard in weight_map.items():
        if type(shard) is not str or not shard.isprintable() or os.path.basename(shard) != shard or not shard:
            raise Refusal(f"weight_map has {brief.repr(shard)} instead of a file name", index.path, AGAIN)
    for shard in sorted(set(weight_map.values())):
        for name, tensor in read_tensor_list(os.path.join(directory, shard)).items():
            if name in tensors or weight_map.get(name) != shard:
                raise Refusal(f"{brief.repr(name)} is in {shard}, which weight_map does not say", index.path, AGAIN)
            tensors[name] = tensor
    return tensors


def tensor_shapes(c: Config) -> Iterator[Tuple[str, List[int]]]:
    """(name, shape) of every tensor of the .bin, in the order in which the forward pass meets them."""
    q_dim, kv_dim = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    yield "model.embed_tokens.weight", [c.vocab_size, c.dim]
    for layer in (f"model.layers.{i}." for i in range(c.n_layers)):
        yield layer + "input_layernorm.weight", [c.dim]
        for name, rows in (("q_proj", q_dim), ("k_proj", kv_dim), ("v_proj", kv_dim)):
            yield layer + f"self_attn.{name}.weight", [rows, c.dim]
            yield layer + f"self_attn.{name}.bias", [rows]
        yield layer + "self_attn.o_proj.weight", [c.dim, q_dim]
        yield layer + "post_attention_layernorm.weight", [c.dim]
        yield layer + "mlp.gate_proj.weight", [c.hidden_dim, c.dim]
        yield layer + "mlp.up_proj.weight", [c.hidden_dim, c.dim]
        yield layer + "mlp.down_proj.weight", [c.dim, c.hidden_dim]
    yield "model.norm.weight", [c.dim]
    if not c.tied:
        yield "lm_head.weight", [c.vocab_size, c.dim]


def choose_tensors(c: Config, directory: str) -> List[Tensor]:
    """The tensors of the .bin in its order, each of the right shape and of a type that can be converted."""
    found, chosen = find_tensors(directory), []
    for name, shape in tensor_shapes(c):
        if name not in found:
            raise Refusal(f"tensor {name} is missing", directory, AGAIN)
        tensor = found.pop(name)
        if tensor.shape != shape or tensor.size != math.prod(shape) * DTYPE_SIZE.get(tensor.dtype, 0):
            raise Refusal(f"tensor {name} has the dtype {brief.repr(tensor.dtype)}, the shape {brief.repr(tensor.shape)} "
                          f"and {tensor.size} bytes", tensor.path,
                          f"by config.json it should have the shape {shape}, in BF16, F16 or F32")
        chosen.append(tensor)
    unused = sorted(name for name in found if name != "lm_head.weight" and not name.endswith(".inv_freq"))
    if unused:                          # beyond these two, which are often there and of no use
        say(f"note: {len(unused)} tensors are no part of the architecture and left out, {brief.repr(unused[0])} first")
    return chosen


# -- Weights -------------------------------------------------------------------------------------------------

def has_nonfinite(data: bytes, width: int) -> bool:
    """Whether little-endian BF16 (width 2) or F32 (4) hold an infinity or a NaN: an exponent of all ones. It shows as a
    top byte of 0x7F or 0xFF, which no number below 2^127 has, so a fast search settles it for real weights."""
    top = data[width - 1::width]
    return (0x7F in top or 0xFF in top) and any(
        high & 0x7F == 0x7F and low & 0x80 for high, low in zip(top, data[width - 2::width]))


def f16_to_f32(data: bytes) -> bytes:
    n = len(data) // 2
    return struct.pack(f"<{n}f", *struct.unpack(f"<{n}e", data))


def bf16_to_f32(data: bytes) -> bytes:
    """A bf16 is the upper half of a float."""
    wide = bytearray(2 * len(data))
    wide[2::4], wide[3::4] = data[::2], data[1::2]
    return wide


def f32_to_bf16(data: bytes) -> bytes:
    """To nearest, ties to even: the upper half of x + 0x7FFF + (the last bit that stays). All numbers at once, as one
    long integer, since no finite float carries into its neighbour."""
    x = int.from_bytes(data, "little")
    ones = int.from_bytes(b"\1\0\0\0" * (len(data) // 4), "little")
    rounded = (x + 0x7FFF * ones + (x >> 16 & ones)).to_bytes(len(data), "little")
    narrow = bytearray(len(data) // 2)
    narrow[::2], narrow[1::2] = rounded[2::4], rounded[3::4]
    return narrow


def convert_tensors(tensors: List[Tensor]) -> Iterator[bytes]:
    """The weights section piece by piece: matrices as BF16, norms and biases as F32, each tensor aligned. The contents
    of a piece hold until the next but one is asked for."""
    buffers, end = [bytearray(CHUNK), bytearray(CHUNK)], 0
    for tensor in tensors:
        yield bytes(-end % ALIGN)
        end += -end % ALIGN
        step = CHUNK if tensor.dtype == "BF16" else CHUNK // 16         # conversions take many times their input
        with open(tensor.path, "rb") as file:
            file.seek(tensor.offset)
            for done in range(0, tensor.size, step):
                size, dtype = min(step, tensor.size - done), tensor.dtype
                data = buffers[0] if size == CHUNK else bytearray(size)
                buffers.reverse()
                if file.readinto(data) != size:
                    raise Refusal("the file shrank while it was read", tensor.path, "run the export again")
                if dtype == "F16":
                    data, dtype = f16_to_f32(data), "F32"
                if has_nonfinite(data, DTYPE_SIZE[dtype]):
                    raise Refusal(f"tensor {tensor.name} holds NaN or infinity", tensor.path, AGAIN)
                if len(tensor.shape) == 1 and dtype == "BF16":
                    data = bf16_to_f32(data)
                if len(tensor.shape) == 2 and dtype == "F32":
                    data = f32_to_bf16(data)
                    if has_nonfinite(data, 2):
                        raise Refusal(f"tensor {tensor.name} holds a number too large for bf16", tensor.path, AGAIN)
                yield data
                end += len(data)


def write_behind(out: Any, pieces: Iterator[bytes], total: int) -> None:
    """Writes each piece in a second thread while the next one is made. Draws a progress bar on a terminal."""
    start = shown = time.monotonic()
    done = 0
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(int)
        for piece in pieces:
            written.result()
            written = writer.submit(out.write, piece)
            done, now = done + len(piece), time.monotonic()
            if sys.stderr.isatty() and now - shown > 0.1:
                shown = now
                print(f"\r[{'#' * (30 * done // total):30}] {done / 1e9:.2f} of {total / 1e9:.2f} GB, "
                      f"{done / 1e6 / (now - start):.0f} MB/s\x1b[K", end="", file=sys.stderr, flush=True)
        written.result()


# -- The file ------------------------------------------------------------------------------------------------

def tokenizer_eos(directory: str, added: Dict[str, int]) -> int:
    config = read_json(os.path.join(directory, "tokenizer_config.json"), optional=True)
    token = config.values.get("eos_token")
    token = token.get("content") if type(token) is dict else token
    return added.get(token, 0xFFFFFFFF) if type(token) is str else 0xFFFFFFFF


def export(directory: str, out_path: str, kind: Optional[str] = None) -> None:
    """Writes the checkpoint in `directory` to `out_path`. `kind`, "base" or "chat", overrides what the checkpoint
    says of itself. Raises Refusal or OSError, and then the unfinished file is `temporary`."""
    global temporary, complete
    if os.path.exists(out_path) and not os.path.isfile(out_path):
        raise Refusal("not a regular file", out_path, "give the name of a file to write")
    config = read_json(os.path.join(directory, "config.json"))
    c = read_config(config)
    eos, generation, max_new_tokens = read_generation(directory, config, c.vocab_size)
    tensors = choose_tensors(c, directory)
    own = {t.path for t in tensors} | {os.path.join(directory, name) for name in SETTINGS}
    if os.path.exists(out_path) and any(os.path.exists(path) and os.path.samefile(path, out_path) for path in own):
        raise Refusal("this would replace a file of the checkpoint itself", out_path, "choose another name")
    section, added = tokenizer_section(read_json(os.path.join(directory, "tokenizer.json")), c.vocab_size)

    chatml, system = read_system(directory)
    for dtype in sorted({t.dtype for t in tensors if len(t.shape) == 2} - {"BF16"}):
        say(f"note: {dtype} matrices are rounded to the nearest bf16", directory)

    kind = kind or ("chat" if added["<|im_end|>"] in eos else "base")
    name = os.path.basename(os.path.abspath(directory))
    padding = bytes(-len(section) % ALIGN)
    weights_offset = 1152 + len(section + padding)
    file_size = weights_offset
    for tensor in tensors:
        file_size += -file_size % ALIGN + math.prod(tensor.shape) * (2 if len(tensor.shape) == 2 else 4)
    header = struct.pack(
        "<8sII5QII8IIfdIIIIIIIIIIIIfIfffI32II64s768s4x", b"qwen.c\n\0", 2, 1152,
        file_size, 1152, len(section), weights_offset, file_size - weights_offset, 0, 0, *c, 1, 0,
        kind == "chat", chatml, 1, 0, *(added[text] for text in SPECIAL), tokenizer_eos(directory, added),
        max_new_tokens, *generation, len(eos), *(eos + [0] * 32)[:32],
        len(system), name.encode("utf-8", "replace")[:63].decode("utf-8", "ignore").encode(), system)

    temporary = out_path + ".tmp"
    with open(temporary, "wb") as out:
        out.write(header + section + padding)
        write_behind(out, convert_tensors(tensors), file_size - weights_offset)
    complete = True
    os.replace(temporary, out_path)
    temporary = ""
    say(out_path, f"{name}, {kind}, {c.n_layers} layers of {c.dim}, vocabulary {c.vocab_size}, "
                  f"{file_size / 1e6:.1f} MB")


class Parser(argparse.ArgumentParser):
    """With errors of one line."""

    def error(self, message: str) -> NoReturn:
        say(message, "see --help")
        sys.exit(2)


def main() -> int:
    parser = Parser(prog="export.py", allow_abbrev=False, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("directory", metavar="CHECKPOINT_DIR", help="holds config.json, tokenizer.json, model.safetensors")
    parser.add_argument("out", metavar="OUT.bin", help="the file to write")
    parser.add_argument("--kind", choices=("base", "chat"), help="how ./qwen runs it by default, if not as the checkpoint says")
    args = parser.parse_args()
    try:
        export(args.directory, args.out, args.kind)
        return 0
    except Refusal as error:
        say(*error.args)
    except OSError as error:
        say(str(error.strerror), str(error.filename or temporary),
            "free some space" if error.errno == errno.ENOSPC else "check that it exists, and its permissions")
    finally:
        remove_temporary()
    return 1


if __name__ == "__main__":
    sys.exit(main())
