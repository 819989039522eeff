"""Writes a checkpoint with random weights in the directory layout of a real one, for tests.

    python3 tests/make_checkpoint.py DIR --preset 0.5b --kind chat
    python3 tests/make_checkpoint.py DIR --preset qwen3-tiny --template qwen3
    python3 tests/make_checkpoint.py DIR --dim 96 --heads 6 --kv-heads 2 --shards 3 --dtype f32

The directory holds config.json, generation_config.json, tokenizer.json, tokenizer_config.json and
model.safetensors (or shards and their index), as `transformers` reads them too. The weights are
scaled so that logits come out with a standard deviation of about 2 and every part of the model
shows in them: norms vary around 1, biases are not zero, attention is neither flat nor a single
spike. Standard library only.
"""
from __future__ import annotations

import argparse
import array
import json
import os
import random
import shutil
import struct
import sys
from typing import Any, Callable, Dict, Iterator, List, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
from export import QWEN_SPLIT, byte_alphabet, f32_to_bf16                   # noqa: E402


def shape(dim: int, layers: int, heads: int, kv_heads: int, hidden: int, vocab: int, tied: bool,
          **more: Any) -> Dict[str, Any]:
    return dict(dim=dim, layers=layers, heads=heads, kv_heads=kv_heads, hidden=hidden, vocab=vocab,
                tied=tied, **more)


PRESETS = {
    "tiny": shape(64, 2, 4, 4, 176, 0, True),
    "0.5b": shape(1024, 24, 16, 16, 2816, 151936, True),
    "1.8b": shape(2048, 24, 16, 16, 5504, 151936, False),
    "qwen2-0.5b": shape(896, 24, 14, 2, 4864, 151936, True),
    "qwen3-tiny": shape(64, 2, 4, 2, 176, 0, True, head_dim=32, architecture="qwen3"),
    "qwen3-0.6b": shape(1024, 28, 16, 8, 3072, 151936, True, head_dim=128, architecture="qwen3"),
}
SHORT, LONG = 65521, 1048573            # how many random numbers are drawn; see class Random

# The chat templates: Qwen1.5's, and those of Qwen3 and QwQ without their parts for tools
QWEN15_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SYSTEM_IF_GIVEN = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
"""
QWEN3_TEMPLATE = SYSTEM_IF_GIVEN + """\
{%- set ns = namespace(searching=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if ns.searching and message.role == "user" %}
        {%- set ns.searching = false %}
        {%- set ns.last_query_index = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n')
                    .split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n')
                + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
QWQ_TEMPLATE = SYSTEM_IF_GIVEN + """\
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}"""
TEMPLATES = {"qwen1.5": QWEN15_TEMPLATE, "qwen3": QWEN3_TEMPLATE, "qwq": QWQ_TEMPLATE}
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PLAIN_TOKENS = ("<tool_call>", "</tool_call>", "<think>", "</think>")     # added, but not special


# --------------------------------------------------------------------------------------------
# A small tokenizer with the machinery of the real one
# --------------------------------------------------------------------------------------------

def synthetic_tokenizer(pairs: bool = False, template: str = "qwen1.5"
                        ) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """tokenizer.json and tokenizer_config.json: 256 bytes, the merges that build a few words, three
    special tokens, and with the templates of reasoning models PLAIN_TOKENS. `pairs` writes merges
    as ["a", "b"] instead of "a b"."""
    stand_in = {byte: chr(c) for c, byte in byte_alphabet().items()}
    vocab = {stand_in[b]: b for b in range(256)}
    merges: List[Tuple[str, str]] = []
    words = (" the and ing er tion  hello world colour apple is an What    \n\n\n 苹果 是 "
             "什么 颜色 的 ？ 你好 é ü 한국").split(" ")
    for word in [" " + w for w in words] + words:
        symbols = [stand_in[b] for b in word.encode()]
        while len(symbols) > 1:                     # join from the left, by a merge old or new
            pair = (symbols[0], symbols[1])
            if "".join(pair) not in vocab:
                vocab["".join(pair)] = len(vocab)
                merges.append(pair)
            symbols[:2] = ["".join(pair)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                  "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated",
             "invert": False}
    names = SPECIAL_TOKENS + (PLAIN_TOKENS if template != "qwen1.5" else ())
    added = [{"id": len(vocab) + i, "content": text, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": text in SPECIAL_TOKENS}
             for i, text in enumerate(names)]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                  "byte_fallback": False, "vocab": vocab,
                  "merges": [list(p) if pairs else " ".join(p) for p in merges]}}
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"}
                                 for t in added},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None,
        "chat_template": TEMPLATES[template], "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 32768,
        "pad_token": "<|endoftext|>", "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    return tokenizer, config


# --------------------------------------------------------------------------------------------
# Weights
# --------------------------------------------------------------------------------------------

def tensor_list(c: Dict[str, Any]) -> Iterator[Tuple[str, List[int], float, float]]:
    """(name, shape, mean, standard deviation) of every tensor, in a real checkpoint's order."""
    dim, hidden = c["hidden_size"], c["intermediate_size"]
    kv_dim = c["num_key_value_heads"] * c["head_dim"]
    q_dim = c["num_attention_heads"] * c["head_dim"]
    qwen3 = c["model_type"] == "qwen3"
    # A normalised vector has about unit entries, so a row of standard deviation s / sqrt(columns)
    # yields s: 1 for queries and keys makes attention scores of about 1, 2 for the output makes
    # such logits.
    yield "model.embed_tokens.weight", [c["vocab_size"], dim], 0.0, 2.0 / dim ** 0.5
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", [dim], 1.0, 0.2
        yield layer + "mlp.down_proj.weight", [dim, hidden], 0.0, 0.5 / hidden ** 0.5
        yield layer + "mlp.gate_proj.weight", [hidden, dim], 0.0, 1.0 / dim ** 0.5
        yield layer + "mlp.up_proj.weight", [hidden, dim], 0.0, 1.0 / dim ** 0.5
        yield layer + "post_attention_layernorm.weight", [dim], 1.0, 0.2
        for name, rows in (("k_proj", kv_dim), ("q_proj", q_dim), ("v_proj", kv_dim)):
            if not qwen3:
                yield layer + f"self_attn.{name}.bias", [rows], 0.0, 0.3
            yield layer + f"self_attn.{name}.weight", [rows, dim], 0.0, 1.2 / dim ** 0.5
        for name in ("q_norm", "k_norm") if qwen3 else ():
            yield layer + f"self_attn.{name}.weight", [c["head_dim"]], 1.0, 0.2
        yield layer + "self_attn.o_proj.weight", [dim, q_dim], 0.0, 1.0 / q_dim ** 0.5
    yield "model.norm.weight", [dim], 1.0, 0.2
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", [c["vocab_size"], dim], 0.0, 2.0 / dim ** 0.5


def encode(values: List[float], dtype: str) -> bytes:
    """Little-endian numbers of type BF16, F32 or F16."""
    data = struct.pack(f"<{len(values)}f", *values)
    if dtype == "BF16":
        return f32_to_bf16(data)
    return data if dtype == "F32" else struct.pack(f"<{len(values)}e", *values)


class Random:
    """Normally distributed numbers in bulk. Some are drawn, a prime number of them and more than
    any tensor has rows; each tensor repeats them, from another place on. So no two of its rows are
    equal, whatever their length."""

    def __init__(self, seed: int, dtype: str, rows: int):
        self.random = random.Random(seed)
        self.dtype = dtype
        self.normal = [self.random.gauss(0.0, 1.0) for _ in range(SHORT if rows < SHORT else LONG)]
        self.scaled: Dict[Tuple[float, float], memoryview] = {}

    def write(self, file: Any, count: int, mean: float, deviation: float) -> None:
        if (mean, deviation) not in self.scaled:
            values = encode([mean + deviation * x for x in self.normal], self.dtype)
            self.scaled[mean, deviation] = memoryview(values)
        values = self.scaled[mean, deviation]
        width = len(values) // len(self.normal)
        start = self.random.randrange(len(self.normal))
        while count:
            n = min(count, len(self.normal) - start)
            file.write(values[start * width:(start + n) * width])
            count -= n
            start = 0


def write_safetensors(path: str, tensors: List[Tuple[str, List[int], float, float]],
                      numbers: Random) -> int:
    """One safetensors file; returns the size of its data in bytes."""
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    size = 0
    for name, shape, _, _ in tensors:
        count = 1
        for n in shape:
            count *= n
        end = size + count * (4 if numbers.dtype == "F32" else 2)
        header[name] = {"dtype": numbers.dtype, "shape": shape, "data_offsets": [size, end]}
        size = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, mean, deviation in tensors:
            numbers.write(file, shape[0] * (shape[1] if len(shape) == 2 else 1), mean, deviation)
    return size


def patch_tensors(directory: str, change: Callable[[str, List[int], bytearray], None]) -> None:
    """Calls change(name, shape, data) for each tensor of model.safetensors and stores it again."""
    with open(os.path.join(directory, "model.safetensors"), "r+b") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        del header["__metadata__"]
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            file.seek(8 + size + begin)
            data = bytearray(file.read(end - begin))
            change(name, tensor["shape"], data)
            assert len(data) == end - begin, name
            file.seek(8 + size + begin)
            file.write(data)


OUTLIER = 5                             # the channel


def add_outlier(directory: str, power: int = 10) -> None:
    """Makes one activation of each layer's MLP 2^power times as large, as real models have it, and
    ignores it: row OUTLIER of up_proj is scaled, column OUTLIER of down_proj is zero. So logits do
    not depend on `power`. For BF16."""
    def change(name: str, dims: List[int], data: bytearray) -> None:
        width = 2 * dims[-1]
        if name.endswith("up_proj.weight"):
            for at in range(OUTLIER * width, (OUTLIER + 1) * width, 2):
                bits, = struct.unpack_from("<H", data, at)
                struct.pack_into("<H", data, at, bits + (power << 7) if bits & 0x7F80 else bits)
        if name.endswith("down_proj.weight"):
            for at in range(2 * OUTLIER, len(data), width):
                data[at:at + 2] = bytes(2)

    patch_tensors(directory, change)


def write_json(directory: str, name: str, values: Dict[str, Any]) -> None:
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2, ensure_ascii=False)
        file.write("\n")


def make_checkpoint(directory: str, dim: int = 64, layers: int = 2, heads: int = 4,
                    kv_heads: int = 4, hidden: int = 176, vocab: int = 0, head_dim: int = 0,
                    tied: bool = True, dtype: str = "bf16", shards: int = 1, kind: str = "chat",
                    tokenizer: str = "", context: int = 32768, seed: int = 1,
                    new_names: bool = False, architecture: str = "qwen2", template: str = "",
                    rms_eps: float = 1e-6) -> None:
    """Writes a checkpoint into `directory`, which is made if need be. vocab 0: as many rows as the
    tokenizer has tokens and a few more; head_dim 0: dim / heads. `new_names` uses the field names
    of transformers 5; `template` is one of TEMPLATES, by default that of the architecture."""
    os.makedirs(directory, exist_ok=True)
    template = template or {"qwen2": "qwen1.5", "qwen3": "qwen3"}[architecture]
    if tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(os.path.join(tokenizer, name), os.path.join(directory, name))
        with open(os.path.join(tokenizer, "tokenizer.json"), encoding="utf-8") as file:
            tokens = json.load(file)
    else:
        tokens, tokenizer_config = synthetic_tokenizer(pairs=new_names, template=template)
        if kind == "base":
            tokenizer_config["eos_token"] = "<|endoftext|>"
        write_json(directory, "tokenizer.json", tokens)
        write_json(directory, "tokenizer_config.json", tokenizer_config)
    ids = {t["content"]: t["id"] for t in tokens["added_tokens"]}
    endoftext, im_end = ids["<|endoftext|>"], ids["<|im_end|>"]
    n_tokens = 1 + max(max(tokens["model"]["vocab"].values()), max(ids.values()))

    config: Dict[str, Any] = {
        "architectures": [architecture.capitalize() + "ForCausalLM"], "attention_dropout": 0.0,
        "bos_token_id": endoftext, "eos_token_id": im_end if kind == "chat" else endoftext,
        "hidden_act": "silu", "hidden_size": dim, "initializer_range": 0.02,
        "intermediate_size": hidden, "max_position_embeddings": context,
        "max_window_layers": layers, "model_type": architecture, "num_attention_heads": heads,
        "num_hidden_layers": layers, "num_key_value_heads": kv_heads,
        "rms_norm_eps": rms_eps, "sliding_window": context, "tie_word_embeddings": tied,
        "use_cache": True, "use_sliding_window": False, "vocab_size": vocab or n_tokens + 5}
    if architecture == "qwen3":
        config.update(attention_bias=False, head_dim=head_dim or dim // heads, rope_scaling=None,
                      sliding_window=None)
    torch_dtype = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype]
    if new_names:
        rope = {"rope_theta": 1000000.0, "rope_type": "default"}
        config.update(dtype=torch_dtype, rope_parameters=rope)
    else:
        config.update(torch_dtype=torch_dtype, rope_theta=1000000.0, transformers_version="4.37.0")
    if head_dim:
        config["head_dim"] = head_dim
    write_json(directory, "config.json", config)
    generation: Dict[str, Any] = {"bos_token_id": endoftext, "do_sample": False,
                                  "eos_token_id": endoftext, "transformers_version": "4.37.0"}
    if kind == "chat":
        generation.update(do_sample=True, eos_token_id=[im_end, endoftext], pad_token_id=endoftext)
        if architecture == "qwen3":
            generation.update(temperature=0.6, top_k=20, top_p=0.95)
        else:
            generation.update(temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.1)
    write_json(directory, "generation_config.json", generation)

    tensors = list(tensor_list({**config, "head_dim": head_dim or dim // heads}))
    numbers = Random(seed, dtype.upper(), max(dims[0] for _, dims, _, _ in tensors))
    if shards == 1:
        write_safetensors(os.path.join(directory, "model.safetensors"), tensors, numbers)
        return
    weight_map, total = {}, 0
    for i in range(shards):         # cut by count, so that layers straddle shards as real ones do
        part = tensors[len(tensors) * i // shards:len(tensors) * (i + 1) // shards]
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        total += write_safetensors(os.path.join(directory, name), part, numbers)
        weight_map.update({tensor[0]: name for tensor in part})
    write_json(directory, "model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("directory", metavar="DIR", help="made if it does not exist")
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny",
                        help="a shape; the flags below change parts of it")
    for flag in ("dim", "layers", "heads", "kv-heads", "hidden"):
        parser.add_argument("--" + flag, type=int, default=argparse.SUPPRESS)
    parser.add_argument("--vocab", type=int, default=argparse.SUPPRESS,
                        help="rows of the embedding; 0: five more than tokens")
    parser.add_argument("--head-dim", type=int, default=argparse.SUPPRESS,
                        help="0: dim / heads, and not in config.json")
    parser.add_argument("--tied", dest="tied", action="store_true", default=argparse.SUPPRESS)
    parser.add_argument("--untied", dest="tied", action="store_false", default=argparse.SUPPRESS)
    parser.add_argument("--architecture", choices=("qwen2", "qwen3"), default=argparse.SUPPRESS)
    parser.add_argument("--template", choices=list(TEMPLATES), default="",
                        help="how chats are framed (default: as the architecture's models are)")
    parser.add_argument("--rms-eps", type=float, default=1e-6)
    parser.add_argument("--dtype", choices=("bf16", "f32", "f16"), default="bf16")
    parser.add_argument("--shards", type=int, default=1, help="number of safetensors files")
    parser.add_argument("--outlier", action="store_true",
                        help="one activation of a layer is 1024 times the others, without effect")
    parser.add_argument("--kind", choices=("base", "chat"), default="chat",
                        help="form of generation_config.json")
    parser.add_argument("--tokenizer", default="", metavar="DIR",
                        help="take tokenizer.json and tokenizer_config.json from here; "
                             "without it, a small synthetic tokenizer")
    parser.add_argument("--context", type=int, default=32768, help="max_position_embeddings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--new-names", action="store_true",
                        help="rope_parameters, dtype and merges as transformers 5 writes them")
    args = vars(parser.parse_args())
    outlier = args.pop("outlier")
    if outlier and (args["dtype"], args["shards"]) != ("bf16", 1):
        parser.error("--outlier is for one file of bf16")
    make_checkpoint(**{**PRESETS[args.pop("preset")], **args})
    if outlier:
        add_outlier(args["directory"])


if __name__ == "__main__":
    main()
