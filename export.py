"""A Hugging Face checkpoint directory of Qwen1.5, Qwen2 or Qwen2.5 -> the one .bin file that ./qwen maps.

    python3 export.py [--kind base|chat] CHECKPOINT_DIR OUT.bin

Everything the C program needs ends up in the file: header (shape, special ids, generation defaults, system
message), tokenizer with the Unicode tables it needs, weights. README.md describes every byte. Standard
library only, Python 3.8 or newer; the weights are streamed, so memory does not grow with the model.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import stat
import struct
import sys
import time
import unicodedata
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

ALIGN = 64                              # bytes; sections, arrays and tensors start at multiples of it
CHUNK = 1 << 20                         # bytes of weights in memory at a time
MAX_SIZE = 1 << 24                      # no dimension of any Qwen comes near; keeps every product within 64 bits
MAX_TENSOR_LIST = 1 << 24               # bytes of a safetensors header; the 110B model has 0.1 MB
DTYPE_SIZE = {"BF16": 2, "F16": 2, "F32": 4}
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")


class Refusal(Exception):
    """What is wrong, where, and what to do about it: one line for the user."""

    def __init__(self, what: str, where: str, advice: str):
        super().__init__(f"{what}: {where}: {advice}")


def say(line: str) -> None:
    """One line on standard error, in place of the progress bar if there is one."""
    clean = "".join(c if c.isprintable() else "?" for c in line)
    print(("\r\x1b[K" if sys.stderr.isatty() else "") + "export.py: " + clean, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------

class Settings:
    """A JSON object that knows where it came from, so that every wrong field can be named."""

    def __init__(self, path: str, values: Dict[str, Any]):
        self.path, self.values = path, values

    def refuse(self, what: str, advice: str = "only unchanged Qwen1.5, Qwen2 and Qwen2.5 settings are supported") -> NoReturn:
        raise Refusal(what, self.path, advice)

    def get(self, name: str, kind: type, default: Any = None, low: float = -math.inf, high: float = math.inf) -> Any:
        """The field, of the type `kind` and within low..high. null counts as missing; without a default
        a missing field is refused."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                self.refuse(f"{name} is missing", "download the file again")
            return default
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < 1 << 64 else math.inf
        if type(value) is not kind:
            self.refuse(f"{name} is {short(value)}", f"it should be of the JSON type of {kind.__name__}")
        if kind in (int, float) and not low <= value <= high:
            self.refuse(f"{name} is {short(value)}", f"it should be between {low:g} and {high:g}")
        return value

    def inside(self, name: str) -> Settings:
        """The object in field `name`."""
        return Settings(f"{self.path}, {name}", self.get(name, dict))


def short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def no_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError("it names " + short(next(n for n in names if names.count(n) > 1)) + " twice")
    return values


def no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_json(data: bytes, path: str) -> Settings:
    """`data`, which was read from `path`, as a JSON object."""
    if data.startswith(b"version https://git-lfs"):
        raise Refusal("a Git LFS pointer instead of the file", path, "run `git lfs pull` in the checkpoint directory")
    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constants)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"broken JSON ({error})", path, "download the file again") from None
    if type(values) is not dict:
        raise Refusal("not a JSON object", path, "download the file again")
    return Settings(path, values)


def read_json(path: str) -> Settings:
    with open(path, "rb") as file:
        return parse_json(file.read(), path)


def read_json_if_any(path: str) -> Settings:
    return read_json(path) if os.path.exists(path) else Settings(path, {})


# ---------------------------------------------------------------------------------------------------------
# config.json, generation_config.json, the chat template
# ---------------------------------------------------------------------------------------------------------

class Config(NamedTuple):
    """The shape of the model."""
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    tied: bool
    rms_eps: float
    rope_theta: float


def read_config(config: Settings) -> Config:
    """The shape from config.json. Refuses every setting that ./qwen does not compute."""
    if config.values.get("architectures") != ["Qwen2ForCausalLM"]:
        config.refuse(f"architectures is {short(config.values.get('architectures'))}",
                      "only [\"Qwen2ForCausalLM\"] is supported: Qwen1.5, Qwen2, Qwen2.5")
    if config.values.get("quantization_config") is not None:
        config.refuse("quantization_config: the weights are quantised", "take the original bf16 checkpoint")
    for name, usual in (("hidden_act", "silu"), ("use_sliding_window", False), ("attention_bias", True)):
        if config.values.get(name, usual) is not usual and config.values[name] != usual:
            config.refuse(f"{name} is {short(config.values[name])}", f"only {short(usual)} is supported")
    if set(config.get("layer_types", list, [])) - {"full_attention"}:
        config.refuse("layer_types is not full_attention throughout")

    rope = config
    if config.values.get("rope_parameters") is not None:        # transformers 5; rope_theta is the older spelling
        rope = config.inside("rope_parameters")
    for name in ("rope_scaling", "rope_type", "type", "partial_rotary_factor", "factor", "mrope_section"):
        value = rope.values.get(name)
        if value not in (None, "default", 1.0):
            rope.refuse(f"{name} is {short(value)}", "only the plain rotary embedding is supported")
    if config.values.get("rope_scaling") is not None:
        config.refuse(f"rope_scaling is {short(config.values['rope_scaling'])}", "set it to null, for the unscaled context")

    def size(name: str, default: Optional[int] = None) -> int:
        return config.get(name, int, default, 1, MAX_SIZE)

    dim, n_heads = size("hidden_size"), size("num_attention_heads")
    if config.values.get("head_dim") is None and dim % n_heads:
        config.refuse(f"hidden_size {dim} is no multiple of num_attention_heads {n_heads}", "check both")
    shape = Config(dim, size("intermediate_size"), size("num_hidden_layers"), n_heads,
                   size("num_key_value_heads", n_heads), size("head_dim", dim // n_heads), size("vocab_size"),
                   size("max_position_embeddings"), config.get("tie_word_embeddings", bool, False),
                   config.get("rms_norm_eps", float, None, 1e-30, 1.0), rope.get("rope_theta", float, None, 1.0, 1e15))
    if n_heads % shape.n_kv_heads:
        config.refuse(f"num_attention_heads {n_heads} is no multiple of num_key_value_heads {shape.n_kv_heads}", "check both")
    if shape.head_dim % 2:
        config.refuse(f"head_dim {shape.head_dim} is odd", "rotary embeddings turn pairs of dimensions")
    return shape


class Generation(NamedTuple):
    """How the checkpoint itself wants to be sampled from, and where it stops."""
    eos: List[int]
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float


def read_generation(generation: Settings, config: Settings, vocab_size: int) -> Generation:
    """generation_config.json, with the defaults of `transformers` for what it leaves out."""
    source = config if generation.values.get("eos_token_id") is None else generation
    eos = source.values.get("eos_token_id")
    eos = eos if type(eos) is list else [eos]
    if not 1 <= len(eos) <= 8 or not all(type(i) is int and 0 <= i < vocab_size for i in eos):
        source.refuse(f"eos_token_id is {short(eos)}", f"it should be one to eight token ids below vocab_size {vocab_size}")
    return Generation(eos, generation.get("do_sample", bool, False),
                      generation.get("temperature", float, 1.0, 0.0, 1e6), generation.get("top_k", int, 50, 0, MAX_SIZE),
                      generation.get("top_p", float, 1.0, 0.0, 1.0),
                      generation.get("repetition_penalty", float, 1.0, 1e-6, 1e6))


def read_chat_template(directory: str) -> Optional[str]:
    """The Jinja source: the file of its own (newer) or the field of tokenizer_config.json; None if there is neither."""
    path = os.path.join(directory, "chat_template.jinja")
    if os.path.exists(path):
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    config = read_json_if_any(os.path.join(directory, "tokenizer_config.json"))
    template = config.values.get("chat_template")
    if type(template) is list:          # several, each with a name
        named = {t.get("name"): t.get("template") for t in template if type(t) is dict and type(t.get("name")) is str}
        template = named.get("default")
    if template is not None and type(template) is not str:
        config.refuse("chat_template is neither a text nor a list with one named default", "download the file again")
    return template


def default_system(template: str) -> str:
    """The system message that a ChatML template adds by itself: the text between `<|im_start|>system` and
    `<|im_end|>` where both stand in one string literal or in one stretch of plain template text. "" if none."""
    literal = re.search(r"""(?s)(['"])<\|im_start\|>system(?:\n|\\n)((?:(?!\1)[^\\]|\\.)*?)<\|im_end\|>""", template)
    if literal:                         # unescaped the way Jinja does it
        return literal[2].encode("ascii", "backslashreplace").decode("unicode-escape")
    plain = re.search(r"(?:^|[%}]\})\s*<\|im_start\|>system\n([^{}]*?)<\|im_end\|>", template)
    return plain[1] if plain else ""


# ---------------------------------------------------------------------------------------------------------
# The tokenizer section
# ---------------------------------------------------------------------------------------------------------

def byte_alphabet() -> Dict[int, int]:
    """{code point: byte}: the printable stand-ins that byte-level BPE (GPT-2's) writes for the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: b for b in printable}, **{256 + i: b for i, b in enumerate(others)}}


def pack_arrays(arrays: List[bytes]) -> bytes:
    """The arrays one after the other, each from the next multiple of 64 on."""
    section = bytearray()
    for data in arrays:
        section += bytes(-len(section) % ALIGN) + data
    return bytes(section)


def u32(values: List[int]) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def check_pipeline(tokenizer: Settings, model: Settings) -> None:
    """Refuses a tokenizer.json that does anything else than Qwen's: NFC, Qwen's split, byte-level BPE."""
    def without_offsets(step: Any) -> Any:      # a matter of the caller's, not of the ids
        return {k: v for k, v in step.items() if k != "trim_offsets"} if type(step) is dict else step

    steps = tokenizer.values.get("pre_tokenizer")
    steps = steps.get("pretokenizers") if type(steps) is dict else None
    split = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    if type(steps) is not list or [without_offsets(s) for s in steps] != [split, byte_level]:
        tokenizer.refuse("pre_tokenizer is not the Qwen split pattern, then ByteLevel")
    if tokenizer.values.get("normalizer") != {"type": "NFC"}:
        tokenizer.refuse(f"normalizer is {short(tokenizer.values.get('normalizer'))}, not NFC")
    for name in ("post_processor", "decoder"):
        step = tokenizer.values.get(name)
        if type(step) is not dict or step.get("type") != "ByteLevel":
            tokenizer.refuse(f"{name} is not ByteLevel")
    for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.values.get(name):
            model.refuse(f"{name} is {short(model.values[name])}")
    if model.values.get("type", "BPE") != "BPE":
        model.refuse(f"type is {short(model.values['type'])}, not BPE")


def read_tokens(tokenizer: Settings, model: Settings, vocab_size: int) -> Tuple[Dict[int, bytes], Dict[str, int], List[int]]:
    """Returns ({id: bytes} of all tokens, {text: id} of the added ones, the added ids, longest text first)."""
    vocab = model.get("vocab", dict)
    alphabet = byte_alphabet()
    for text, i in vocab.items():
        if type(i) is not int or not 0 <= i < vocab_size:
            model.refuse(f"token {short(text)} has the id {short(i)}", f"ids should be 0 to {vocab_size - 1}, vocab_size in config.json")
    if not set(map(ord, set().union(*vocab))) <= set(alphabet) or "" in vocab:
        model.refuse("vocab has a token outside the byte-level alphabet")
    tokens = {i: text.translate(alphabet).encode("latin-1") for text, i in vocab.items()}
    if len(tokens) != len(vocab):
        model.refuse("vocab gives one id to two tokens", "download the file again")

    added: Dict[str, int] = {}
    for entry in tokenizer.get("added_tokens", list):
        token = Settings(f"{tokenizer.path}, added_tokens", entry if type(entry) is dict else {})
        text, i = token.get("content", str), token.get("id", int, None, 0, vocab_size - 1)
        for flag in ("single_word", "lstrip", "rstrip", "normalized"):
            if token.get(flag, bool, False):
                token.refuse(f"{short(text)} has {flag} true")
        data = text.encode("utf-8", "replace")
        if not text or text in added or tokens.get(i, data) != data:
            token.refuse(f"{short(text)} with id {i} is empty or contradicts another token", "download the file again")
        added[text], tokens[i] = i, data
    if len(set(added.values())) != len(added):
        tokenizer.refuse("added_tokens gives one id to two tokens", "download the file again")
    for text in SPECIAL:
        if text not in added:
            tokenizer.refuse(f"{text} is missing from added_tokens")
    return tokens, added, sorted(added.values(), key=lambda i: (-len(tokens[i]), i))


def merge_table(model: Settings) -> List[int]:
    """The merges as an open-addressing hash table, four numbers a slot: left, right, rank, id."""
    vocab, merges = model.values["vocab"], model.get("merges", list)
    bits = 1
    while 2 * (1 << bits) < 3 * len(merges):        # at most two thirds full
        bits += 1
    empty = [0, 0, 0, 0xFFFFFFFF]
    table = empty * (1 << bits)
    for rank, merge in enumerate(merges):
        pair = merge.split(" ") if type(merge) is str else merge        # "a b", or ["a", "b"] in newer files
        try:
            a, b = pair
            left, right, joined = vocab[a], vocab[b], vocab[a + b]
        except (TypeError, ValueError, KeyError):
            model.refuse(f"merges[{rank}] {short(merge)} is not a pair of tokens that join to a token", "download the file again")
        slot = ((left * 0x9E3779B1 + right) * 0x85EBCA6B & 0xFFFFFFFF) >> (32 - bits)
        while table[4 * slot + 3] != 0xFFFFFFFF:
            if table[4 * slot:4 * slot + 2] == [left, right]:
                model.refuse(f"merges[{rank}] {short(merge)} stands there twice", "download the file again")
            slot = (slot + 1) % (1 << bits)
        table[4 * slot:4 * slot + 4] = left, right, rank, joined
    return table


def unicode_tables() -> Tuple[List[int], List[int], List[int], List[int]]:
    """Returns block [4352], chars [n_blocks * 256], decompositions and compositions [n * 3]: see README.md."""
    decompositions = []
    for c in range(0x110000):
        parts = unicodedata.decomposition(chr(c))
        if parts and not parts.startswith("<"):     # <...>: a compatibility decomposition, none of NFC's
            first, second = (parts.split() + ["0"])[:2]
            decompositions.append((int(first, 16), int(second, 16), c))
    # What NFC takes apart and does not put together again is excluded from composition.
    compositions = sorted(d for d in decompositions if d[1] and unicodedata.is_normalized("NFC", chr(d[2])))
    seconds = {second for _, second, _ in compositions}

    def properties(c: int) -> int:
        char = chr(c)
        category = unicodedata.category(char)
        conjoining = 0x1160 <= c <= 0x11FF or 0xD7B0 <= c <= 0xD7FF     # Hangul vowels and trailing consonants
        white_space = char.isspace() and not 0x1C <= c <= 0x1F          # Unicode's White_Space
        kind = 1 if category[0] == "L" else 2 if category[0] == "N" else 3 if white_space else 0
        combining = unicodedata.combining(char)
        changes = combining or conjoining or c in seconds or not unicodedata.is_normalized("NFC", char)
        if conjoining or category in ("Mn", "Me", "Cf") and c != 0xAD:
            columns = 0
        else:
            columns = 2 if unicodedata.east_asian_width(char) in "WF" else 1
        return combining | kind << 8 | bool(changes) << 10 | columns << 11

    numbers: Dict[Tuple[int, ...], int] = {}        # equal blocks are stored once
    block = [numbers.setdefault(tuple(map(properties, range(start, start + 256))), len(numbers))
             for start in range(0, 0x110000, 256)]
    return (block, [p for properties_of_block in numbers for p in properties_of_block],
            [n for d in decompositions for n in d], [n for d in compositions for n in d])


def tokenizer_section(tokenizer: Settings, vocab_size: int) -> Tuple[bytes, Dict[str, int]]:
    """Returns (the section, {text: id} of the added tokens)."""
    model = tokenizer.inside("model")
    check_pipeline(tokenizer, model)
    tokens, added, added_ids = read_tokens(tokenizer, model, vocab_size)
    id_of = {data: i for i, data in tokens.items() if len(data) == 1}
    if len(id_of) < 256:
        model.refuse("vocab lacks some of the 256 single bytes")
    merges = merge_table(model)
    block, chars, decompositions, compositions = unicode_tables()

    n_vocab = max(tokens) + 1
    starts = [0]
    for i in range(n_vocab):
        starts.append(starts[-1] + len(tokens.get(i, b"")))
    header = struct.pack("<8I16s16x", n_vocab, len(added), len(merges) // 4, len(chars) // 256, len(decompositions) // 3,
                         len(compositions) // 3, starts[-1], 0, unicodedata.unidata_version.encode())
    section = pack_arrays([
        header + u32([id_of[bytes([b])] for b in range(256)]), u32(starts), u32(added_ids), u32(merges),
        struct.pack(f"<{len(block)}H", *block), struct.pack(f"<{len(chars)}H", *chars),
        u32(decompositions), u32(compositions), b"".join(tokens.get(i, b"") for i in range(n_vocab))])
    return section, added


# ---------------------------------------------------------------------------------------------------------
# Weights
# ---------------------------------------------------------------------------------------------------------

class Tensor(NamedTuple):
    """Where a tensor lies."""
    path: str
    name: str
    dtype: str
    shape: List[int]
    offset: int                         # bytes from the start of the file
    size: int                           # bytes


def read_tensor_list(path: str) -> Dict[str, Tensor]:
    """The header of one safetensors file: u64 length, JSON {name: {dtype, shape, data_offsets}}, data."""
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refusal("not a file", path, "download it again")
        file_size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        if b"version " == start:
            parse_json(start + file.read(64), path)                     # says that it is a Git LFS pointer
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(file_size - 8, MAX_TENSOR_LIST):
            raise Refusal("not a safetensors file, or a truncated one", path, "download it again")
        header = parse_json(file.read(length), path)

    tensors = []
    for name in header.values:
        if name == "__metadata__":
            continue
        entry = header.inside(name)
        shape, ends = entry.get("shape", list), entry.get("data_offsets", list)
        if not all(type(n) is int and n >= 0 for n in shape + ends) or len(ends) != 2 or ends[0] > ends[1]:
            entry.refuse("shape or data_offsets is not valid", "download the file again")
        tensors.append(Tensor(path, name, entry.get("dtype", str), shape, 8 + length + ends[0], ends[1] - ends[0]))
    end = 8 + length
    for tensor in sorted(tensors, key=lambda t: (t.offset, t.size)):
        if tensor.offset != end:
            header.refuse(f"data_offsets of {short(tensor.name)} overlap another tensor's or leave a gap", "download the file again")
        end += tensor.size
    if end != file_size:
        raise Refusal(f"truncated or damaged: {file_size} bytes instead of {end}", path, "download it again")
    return {tensor.name: tensor for tensor in tensors}


def find_tensors(directory: str) -> Dict[str, Tensor]:
    """All tensors of model.safetensors, or of the shards that model.safetensors.index.json names."""
    single = os.path.join(directory, "model.safetensors")
    if os.path.exists(single):
        return read_tensor_list(single)
    index_path = single + ".index.json"
    if not os.path.exists(index_path):
        if os.path.exists(os.path.join(directory, "pytorch_model.bin")) or \
                os.path.exists(os.path.join(directory, "pytorch_model.bin.index.json")):
            raise Refusal("only pickled weights (pytorch_model.bin)", directory, "take a checkpoint with model.safetensors")
        raise Refusal("neither model.safetensors nor model.safetensors.index.json", directory, "download the weights")
    index = read_json(index_path)
    weight_map = index.get("weight_map", dict)
    tensors: Dict[str, Tensor] = {}
    for name, shard in weight_map.items():
        if type(shard) is not str or os.path.basename(shard) != shard or not shard:
            index.refuse(f"weight_map puts {short(name)} into {short(shard)}", "it should be the name of a file beside it")
    for shard in sorted(set(weight_map.values())):
        path = os.path.join(directory, shard)
        for name, tensor in read_tensor_list(path).items():
            if name in tensors:
                raise Refusal(f"tensor {short(name)} is in {tensors[name].path} as well", path, "download both again")
            tensors[name] = tensor
    for name, shard in weight_map.items():
        if name not in tensors or os.path.basename(tensors[name].path) != shard:
            index.refuse(f"weight_map puts {short(name)} into {shard}, where it is not", "download the files again")
    return tensors


def tensor_shapes(c: Config) -> Iterator[Tuple[str, List[int]]]:
    """(name, shape) of every tensor that the .bin holds, in the order in which the forward pass meets them."""
    q_dim, kv_dim = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    yield "model.embed_tokens.weight", [c.vocab_size, c.dim]
    for i in range(c.n_layers):
        layer = f"model.layers.{i}."
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


def choose_tensors(config: Config, found: Dict[str, Tensor], directory: str) -> List[Tensor]:
    """The tensors of the .bin in its order, each of the right shape. Names those that are left over."""
    chosen = []
    for name, shape in tensor_shapes(config):
        if name not in found:
            raise Refusal(f"tensor {name} is missing", directory, "download the weights again")
        tensor = found[name]
        if tensor.shape != shape:
            raise Refusal(f"tensor {name} has shape {short(tensor.shape)}, but config.json implies {shape}", tensor.path,
                          "download both again")
        if tensor.dtype not in DTYPE_SIZE:
            raise Refusal(f"tensor {name} is of type {short(tensor.dtype)}", tensor.path, "only BF16, F32 and F16 are supported")
        if tensor.size != math.prod(shape) * DTYPE_SIZE[tensor.dtype]:
            raise Refusal(f"tensor {name} has {tensor.size} bytes, not what its shape and type imply", tensor.path,
                          "download it again")
        chosen.append(tensor)
    unused = sorted(set(found) - {t.name for t in chosen})
    unused = [n for n in unused if n != "lm_head.weight" and not n.endswith(".inv_freq")]   # known to be of no use
    if unused:
        say(f"note: {len(unused)} tensors are not part of this architecture and left out, such as {short(unused[0])}")
    return chosen


def has_nonfinite(data: bytes, dtype: str) -> bool:
    """Whether little-endian floats hold an infinity or a NaN: an exponent of all ones, which lies in the top
    two bytes. A search for the top byte is fast and finds nothing in weights below 2^127, that is, in all."""
    width = DTYPE_SIZE[dtype]
    top = data[width - 1::width]
    if dtype == "F16":
        return any(byte & 0x7C == 0x7C for byte in set(top))
    return (0x7F in top or 0xFF in top) and any(
        high & 0x7F == 0x7F and low & 0x80 for high, low in zip(top, data[width - 2::width]))


def to_f32(data: bytes, dtype: str) -> bytes:
    """Little-endian BF16, F16 or F32 as F32, exactly."""
    if dtype == "F16":
        n = len(data) // 2
        return struct.pack(f"<{n}f", *struct.unpack(f"<{n}e", data))
    if dtype == "BF16":                 # a bf16 is the upper half of a float
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[::2], data[1::2]
        return bytes(wide)
    return data


def to_bf16(data: bytes, dtype: str) -> bytes:
    """The same as BF16, rounded to nearest, ties to even: x + 0x7FFF + (the bit that will be the last), upper half.
    For all numbers at once, as one long integer: finite floats do not carry into their neighbour."""
    if dtype == "BF16":
        return data
    data = to_f32(data, dtype)
    n = len(data) // 4
    ones = int.from_bytes(b"\1\0\0\0" * n, "little")
    x = int.from_bytes(data, "little")
    x += 0x7FFF * ones + (x >> 16 & ones)
    rounded, narrow = x.to_bytes(4 * n, "little"), bytearray(2 * n)
    narrow[::2], narrow[1::2] = rounded[2::4], rounded[3::4]
    return bytes(narrow)


def write_tensor(out: Any, tensor: Tensor, progress: Callable[[int], None]) -> None:
    """Streams one tensor: a matrix as bf16, a norm or a bias as float32."""
    convert, stored = (to_bf16, "BF16") if len(tensor.shape) == 2 else (to_f32, "F32")
    with open(tensor.path, "rb") as file:
        file.seek(tensor.offset)
        for done in range(0, tensor.size, CHUNK):
            data = file.read(min(CHUNK, tensor.size - done))
            if len(data) != min(CHUNK, tensor.size - done):
                raise Refusal("the file became shorter while it was read", tensor.path, "run the export again")
            if has_nonfinite(data, tensor.dtype):
                raise Refusal(f"tensor {tensor.name} holds NaN or infinity", tensor.path, "the checkpoint is damaged")
            converted = convert(data, tensor.dtype)
            if converted is not data and has_nonfinite(converted, stored):
                raise Refusal(f"tensor {tensor.name} holds a value too large for bf16", tensor.path, "the checkpoint is unusable as bf16")
            out.write(converted)
            progress(len(data))


# ---------------------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------------------

def make_header(c: Config, g: Generation, added: Dict[str, int], kind: str, chatml: bool, system: bytes, name: str,
                tokenizer_size: int, tensors: List[Tensor]) -> bytes:
    """The first 1,024 bytes of the .bin."""
    weights_size = 0
    for tensor in tensors:
        weights_size += -weights_size % ALIGN + math.prod(tensor.shape) * (2 if len(tensor.shape) == 2 else 4)
    weights_offset = 1024 + tokenizer_size + -tokenizer_size % ALIGN
    return struct.pack(
        "<8sII5QII8IIfd6I8IIfIffI64s768s", b"qwen.c\n\0", 1, 1024,
        weights_offset + weights_size, 1024, tokenizer_size, weights_offset, weights_size, 0, 0,
        c.dim, c.hidden_dim, c.n_layers, c.n_heads, c.n_kv_heads, c.head_dim, c.vocab_size, c.max_positions,
        c.tied, c.rms_eps, c.rope_theta,
        kind == "chat", chatml, *(added[text] for text in SPECIAL), len(g.eos), *(g.eos + [0] * 8)[:8],
        g.do_sample, g.temperature, g.top_k, g.top_p, g.repetition_penalty, len(system),
        name.encode("utf-8", "replace")[:63].decode("utf-8", "ignore").encode(), system)


def show_progress(total: int) -> Callable[[int], None]:
    """Returns a function to call with the number of bytes just done; it draws a bar on a terminal."""
    done, shown, start = 0, 0.0, time.monotonic()

    def progress(size: int) -> None:
        nonlocal done, shown
        done += size
        now = time.monotonic()
        if sys.stderr.isatty() and now - shown > 0.1:
            shown = now
            bar = "#" * (30 * done // total)
            print(f"\r[{bar:30}] {done / 1e9:.2f} of {total / 1e9:.2f} GB, {done / 1e6 / (now - start + 1e-9):.0f} MB/s\x1b[K",
                  end="", file=sys.stderr, flush=True)

    return progress


def export(directory: str, out_path: str, kind: Optional[str] = None) -> None:
    """Writes the checkpoint in `directory` to `out_path`. `kind`, "base" or "chat", overrides what the checkpoint
    says of itself. Raises Refusal or OSError."""
    if not os.path.isdir(directory):
        raise Refusal("not a directory", directory, "give the directory with config.json and model.safetensors")
    if os.path.exists(out_path) and not os.path.isfile(out_path):
        raise Refusal("not a regular file", out_path, "give a file name to write to")
    config_json = read_json(os.path.join(directory, "config.json"))
    config = read_config(config_json)
    generation = read_generation(read_json_if_any(os.path.join(directory, "generation_config.json")), config_json, config.vocab_size)
    tensors = choose_tensors(config, find_tensors(directory), directory)
    if any(os.path.exists(out_path) and os.path.samefile(t.path, out_path) for t in tensors):
        raise Refusal("the output would replace the checkpoint's own weights", out_path, "choose another name")
    section, added = tokenizer_section(read_json(os.path.join(directory, "tokenizer.json")), config.vocab_size)

    template = read_chat_template(directory)
    if template is None:
        say(f"note: no chat template in {directory}: chat mode will use ChatML without a system message")
        template = "".join(SPECIAL)
    chatml = "<|im_start|>" in template and "<|im_end|>" in template
    if not chatml:
        say("note: the chat template is not ChatML: chat mode will refuse this model")
    system = default_system(template).encode("utf-8", "replace") if chatml else b""
    if len(system) > 768:
        raise Refusal(f"the default system message has {len(system)} bytes", directory, "shorten it in chat_template to 768 bytes")
    if kind is None:
        kind = "chat" if added["<|im_end|>"] in generation.eos else "base"
    rounded = {t.dtype for t in tensors if len(t.shape) == 2} - {"BF16"}
    if rounded:
        say(f"note: {' and '.join(sorted(rounded))} matrices are rounded to the nearest bf16")

    name = os.path.basename(os.path.abspath(directory))
    header = make_header(config, generation, added, kind, chatml, system, name, len(section), tensors)
    progress = show_progress(sum(t.size for t in tensors))
    with open(out_path + ".tmp", "wb") as out:
        out.write(header + section)
        for tensor in tensors:
            out.write(bytes(-out.tell() % ALIGN))
            write_tensor(out, tensor, progress)
        size = out.tell()
    os.replace(out_path + ".tmp", out_path)
    say(f"{out_path}: {name}, {kind}, {config.n_layers} layers of {config.dim}, vocabulary {config.vocab_size}, {size / 1e6:.1f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(prog="export.py", allow_abbrev=False,
                                     description="Writes a Qwen1.5, Qwen2 or Qwen2.5 checkpoint as the one file that ./qwen maps.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT_DIR", help="directory with config.json, tokenizer.json, model.safetensors ...")
    parser.add_argument("out", metavar="OUT.bin")
    parser.add_argument("--kind", choices=("base", "chat"), help="what ./qwen takes the model for (default: what the checkpoint says)")
    args = parser.parse_args()

    def remove_temporary() -> None:
        try:
            os.unlink(args.out + ".tmp")
        except OSError:
            pass

    def interrupted(number: int, frame: Any) -> NoReturn:
        remove_temporary()
        say("interrupted: nothing was written")
        os._exit(128 + number)

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        export(args.checkpoint, args.out, args.kind)
        return 0
    except Refusal as error:
        say(str(error))
    except OSError as error:
        say(f"{error.strerror}: {error.filename or args.out}: check that it can be read or written and that the disk is not full")
    remove_temporary()
    return 1


if __name__ == "__main__":
    sys.exit(main())
