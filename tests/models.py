"""The models of the tests, and how they are run by name.

A model has random weights, or a script in place of a mind: each token is followed by the one that a
test wants. qwen_golden.py makes the same ones for `transformers`.
"""
from __future__ import annotations

import array
import functools
import json
import math
import os
import random
import re
import struct
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, ROOT]
sys.dont_write_bytecode = True
import export                                                           # noqa: E402
from harness import Skip, equal, read, run, scratch                     # noqa: E402
from make_checkpoint import (add_outlier, encode, make_checkpoint, patch_tensors,   # noqa: E402
                             synthetic_tokenizer)

export.say = lambda *parts: None

# ---------------------------------------------------------------------------------------------
# Random weights
# ---------------------------------------------------------------------------------------------

TOKENIZER = synthetic_tokenizer(template="qwen3")[0]
TOKENS = {token["content"]: token["id"] for token in TOKENIZER["added_tokens"]}
ENDOFTEXT, IM_START, IM_END = TOKENS["<|endoftext|>"], TOKENS["<|im_start|>"], TOKENS["<|im_end|>"]
STOPS = {IM_END: "<|im_end|>", ENDOFTEXT: "<|endoftext|>"}
N_TOKENS = IM_END + 1                                   # without those of reasoning models
VOCAB = N_TOKENS + 5                                    # make_checkpoint's


def shape(dim: int, layers: int, heads: int, kv_heads: int, hidden: int,
          **more: Any) -> Dict[str, Any]:
    return dict(dim=dim, layers=layers, heads=heads, kv_heads=kv_heads, hidden=hidden, **more)


SHAPES: Dict[str, Dict[str, Any]] = {
    "mha tied": shape(100, 3, 5, 5, 104, tied=True, seed=1),
    "mha untied": shape(72, 3, 3, 3, 99, vocab=419, tied=False, seed=2),
    "gqa tied": shape(120, 4, 6, 2, 101, vocab=1531, tied=True, kind="base", seed=3),
    "gqa untied": shape(96, 3, 4, 1, 130, head_dim=20, vocab=421, tied=False, new_names=True,
                        seed=4),
    "from f32": shape(60, 3, 4, 2, 77, head_dim=24, tied=True, dtype="f32", seed=5),
    "from f16": shape(66, 3, 3, 1, 70, tied=False, dtype="f16", seed=6),
    "qwen3 tied": shape(64, 3, 4, 2, 90, head_dim=24, vocab=431, tied=True, seed=7,
                        architecture="qwen3", new_names=True),
    "qwen3 untied": shape(100, 3, 5, 1, 75, head_dim=36, vocab=433, tied=False, seed=8,
                          architecture="qwen3"),
    "large eps": shape(72, 2, 3, 3, 80, tied=True, seed=9, rms_eps=0.03),
    # The columns of real models are multiples of 64; those of the others are not.
    "even": shape(192, 2, 6, 3, 256, head_dim=64, tied=False, seed=11),
}
N_GREEDY = 24


def prompt_lengths(name: str) -> List[int]:
    """Around the sizes at which the program changes its ways."""
    if name in ("qwen3 tied", "qwen3 untied", "large eps", "even"):
        return [1, 9, 70, 300]
    return [1, 2, 7, 8, 9, 33, 300] + [1100] * (name == "gqa tied")


def random_ids(name: str, length: int, vocab: int) -> List[int]:
    draw = random.Random(f"{name} {length}")
    return [draw.randrange(vocab) for _ in range(length)]


def sampled_columns(vocab: int) -> List[int]:
    return list(range(0, vocab, vocab // 12))


def sampled_positions(length: int) -> List[int]:
    return sorted({*range(0, length, 10 if length <= 300 else 50), length - 1})


# ---------------------------------------------------------------------------------------------
# Sampling
# ---------------------------------------------------------------------------------------------

class Case(NamedTuple):
    """How a token is sampled; the defaults are those that change nothing."""
    prompt: str
    temperature: float = 1
    top_k: int = 0
    top_p: float = 1
    min_p: float = 0
    penalty: float = 1

    def flags(self) -> List[str]:
        return ["--temp", str(self.temperature), "--top-k", str(self.top_k),
                "--top-p", str(self.top_p), "--min-p", str(self.min_p),
                "--repeat-penalty", str(self.penalty)]


# After "Q" no two logits are equal. After "Z" many are, the 20th among them. After "N" all are
# negative.
CASES = {
    "plain": Case("Q"), "cold": Case("Q", temperature=0.7), "hot": Case("Q", temperature=1.8),
    "top-k": Case("Q", top_k=5), "top-k 1": Case("Q", top_k=1),
    "ties at the k-th place": Case("Z", top_k=20, temperature=1.5),
    "top-p": Case("Q", top_p=0.8), "top-p tiny": Case("Q", top_p=1e-6),
    "top-p of a hot top-k": Case("Q", temperature=2.5, top_k=30, top_p=0.7),
    "min-p": Case("Q", min_p=0.1), "min-p 1": Case("Q", min_p=1.0),
    "min-p after temperature": Case("Z", temperature=3.0, min_p=0.2),
    "min-p after top-p": Case("Z", temperature=2.0, top_k=40, top_p=0.6, min_p=0.3),
    "penalty": Case("\x01\x02\x03\x03\x03Q", penalty=1.7),
    "penalty below 1": Case("\x01\x02\x03Q", penalty=0.7),
    "penalty of negative logits": Case("\x01\x01\x02N", penalty=1.7),
    "all together": Case("\x02\x03\x01\x01Q", temperature=0.7, top_k=20, top_p=0.8, penalty=1.1),
}


def sampling_logits(state: str) -> List[float]:
    """The logits after "Q", "Z" or "N", exact as bf16. The most likely after "Q" are ids 1 to 3;
    after "N", 1 to 10, all below zero."""
    draw = random.Random("logits")
    if state == "Z":
        return [round(draw.gauss(0, 2) * 2) / 2 for _ in range(VOCAB)]
    if state == "N":
        return [-i / 4 if 1 <= i <= 10 else -30.0 for i in range(VOCAB)]
    values = sorted(draw.sample([i / 32 for i in range(-255, 256)], VOCAB))
    most, rest = values[:-4:-1], values[:-3]
    draw.shuffle(rest)
    return rest[:1] + most + rest[1:]


# ---------------------------------------------------------------------------------------------
# Scripts
# ---------------------------------------------------------------------------------------------

SURE = 20.0                             # the logit of what comes next, all others being 0
STATES = 256                            # of a script
NO_TOKEN = N_TOKENS + 1                 # the model's vocabulary is larger than the tokenizer's
VOCABULARY = TOKENIZER["model"]["vocab"]
APPLE, TWO_LINES = VOCABULARY["èĭ¹æŀľ"], VOCABULARY["ĊĊ"]   # 苹果, \n\n: one token each
THINK, END_THINK = TOKENS["<think>"], TOKENS["</think>"]
MEMORY_VOCAB = END_THINK + 6            # of the models with a memory
Script = Dict[int, Dict[int, float]]


def chain(*steps: Any) -> Script:
    """Each step, an id or a text of one-byte tokens, is followed by the next one."""
    ids: List[int] = []
    for step in steps:
        ids += step.encode("latin-1") if isinstance(step, str) else [step]
    return {a: {b: SURE} for a, b in zip(ids, ids[1:])}


# What follows a token. In a chat a turn begins after the newline of "assistant\n".
SCRIPT: Script = {
    **chain("\nRed!", IM_END, "UV", IM_START, "w", ENDOFTEXT, "xyzU"),
    **chain("A\t\\\x1b[\xff\xe8\x8b\xb9", APPLE, NO_TOKEN, "B\r\x07C", IM_END),
    **chain("LL"), **chain("bL"), **chain("n\0"),
    **chain("D", ENDOFTEXT), **chain("j\n"), **chain("\xe4\xbd", ord("F")),
    **chain("m\xf0\x9f\x8d\x8eE"),                     # 🍎, byte by byte
    ord("K"): {ord("K"): SURE, ord("k"): SURE - 0.5},
    ord("H"): {ord("H"): 3.0, IM_END: 2.0, ENDOFTEXT: 1.0},
    # logits that bf16 holds exactly: a stop token with P 0.32, 0.62 and 0.0000037
    ord("a"): {ord("b"): SURE, IM_END: SURE - 0.75}, ord("c"): {IM_END: SURE, ord("b"): SURE - 0.5},
    ord("f"): {ord("b"): SURE, ENDOFTEXT: SURE - 0.75},
    ord("i"): {ENDOFTEXT: SURE, ord("b"): SURE - 0.5},
    ord("g"): {ord("b"): SURE, IM_END: 7.5},
    **{ord(state): dict(enumerate(sampling_logits(state))) for state in "QZN"},
}
THINKING = {**chain("\n", THINK, "hm", END_THINK, TWO_LINES, "Red!", IM_END)}
CONTINUED_THINKING = {**chain("\nhm", END_THINK, TWO_LINES, "Red!", IM_END)}  # after "<think>\n"


def set_tensors(directory: str, tensors: Dict[str, List[float]]) -> None:
    """Writes other numbers into a checkpoint of bf16; an empty list is zeros."""
    def change(name: str, dims: List[int], data: bytearray) -> None:
        if name in tensors:
            data[:] = encode(tensors[name] or [0.0] * (len(data) // 2), "BF16")

    patch_tensors(directory, change)


def state_of(character: str) -> int:
    """The one coordinate of a token of SCRIPT that is not 0."""
    return list(SCRIPT).index(ord(character)) + 1


def make_scripted(directory: str, kind: str, script: Script = SCRIPT, memory: float = 0,
                  **more: Any) -> None:
    """A model that knows the last token only: its embedding is one coordinate, which attention and
    MLP leave as it is and which the output matrix maps to the logits of the script. What has no
    line in the script is followed by "?". With `memory` each earlier token moves the logits a
    little."""
    vocab = MEMORY_VOCAB if memory else VOCAB
    make_checkpoint(directory, dim=STATES, layers=1, heads=1, kv_heads=1, head_dim=2, hidden=8,
                    tied=False, kind=kind, vocab=vocab, **more)
    state = {token: i + 1 for i, token in enumerate(script)}
    embedding, output = [0.0] * (vocab * STATES), [0.0] * (vocab * STATES)
    draw = random.Random("memory")
    for token in range(vocab):
        embedding[token * STATES + state.get(token, 0)] = 16.0
    for token, following in {**script, None: {ord("?"): SURE}}.items():
        for after, logit in following.items():
            output[after * STATES + state.get(token, 0)] = logit
    set_tensors(directory, {
        "model.embed_tokens.weight": embedding, "lm_head.weight": output,
        "model.norm.weight": [1 / 16] * STATES, "model.layers.0.mlp.down_proj.weight": [],
        "model.layers.0.self_attn.o_proj.weight":
            [draw.gauss(0, memory) for _ in range(2 * STATES)] if memory else []})


# ---------------------------------------------------------------------------------------------
# Models by name
# ---------------------------------------------------------------------------------------------

def set_json(directory: str, name: str, **fields: Any) -> None:
    """Changes fields of a JSON file of a checkpoint; None removes one."""
    path = os.path.join(directory, name)
    with open(path, encoding="utf-8") as file:
        values = {**json.load(file), **fields}
    with open(path, "w", encoding="utf-8") as file:
        json.dump({k: v for k, v in values.items() if v is not None}, file)


def with_stops(directory: str, *eos: int) -> None:
    make_scripted(directory, "chat")
    set_json(directory, "generation_config.json", eos_token_id=eos)


def short_answers(directory: str) -> None:
    make_scripted(directory, "base")
    set_json(directory, "generation_config.json", max_new_tokens=7)


def outlier(directory: str, power: int) -> None:
    make_checkpoint(directory, **shape(128, 3, 4, 2, 136, tied=True, seed=10))
    add_outlier(directory, power)


BUILDERS = {
    **{name: functools.partial(make_checkpoint, **shape) for name, shape in SHAPES.items()},
    "script chat": functools.partial(make_scripted, kind="chat"),
    "script base": functools.partial(make_scripted, kind="base"),
    "three stops": lambda directory: with_stops(directory, IM_END, ENDOFTEXT, ord("!")),
    "one stop": lambda directory: with_stops(directory, IM_END),
    "short answers": short_answers,
    "qwen3 chat": functools.partial(make_scripted, kind="chat", script=THINKING, memory=0.7,
                                    template="qwen3"),
    "qwq chat": functools.partial(make_scripted, kind="chat", script=CONTINUED_THINKING,
                                  memory=0.7, template="qwq"),
    "qwen1.5 chat": functools.partial(make_scripted, kind="chat", memory=0.7),
    "outlier": functools.partial(outlier, power=10),
    "no outlier": functools.partial(outlier, power=0),
}


def vocab_of(name: str) -> int:
    if name in ("qwen1.5 chat", "qwen3 chat", "qwq chat"):
        return MEMORY_VOCAB
    return SHAPES.get(name, {}).get("vocab", VOCAB)


class Chat(NamedTuple):
    """Three turns of one model, which gives the same answer to each question."""
    model: str
    answer: str
    no_think: bool = False
    system: Optional[str] = None

    def flags(self) -> List[str]:
        flags = ["--no-think"] * self.no_think
        return flags + (["-s", self.system] if self.system is not None else [])


QUESTIONS = ("hello", "\n What is <think> an apple?  ", "苹果是什么颜色？\n")
CHATS = {
    "qwen1.5": Chat("qwen1.5 chat", "Red!"),
    "qwen3": Chat("qwen3 chat", "<think>hm</think>\n\nRed!"),
    "qwen3, system": Chat("qwen3 chat", "<think>hm</think>\n\nRed!", system="Be brief."),
    "qwen3, no thinking": Chat("qwen3 chat", "Red!", no_think=True),
    "qwq": Chat("qwq chat", "hm</think>\n\nRed!"),
}


@functools.lru_cache(None)
def model(name: str) -> str:
    """The path of a .bin: one of BUILDERS, "tiny chat" or "tiny base"."""
    directory, path = scratch(name), scratch(name + ".bin")
    if name in BUILDERS:
        BUILDERS[name](directory)
    else:
        directory = os.path.join(ROOT, "tiny", name.split(" ")[-1])
        if not os.path.exists(directory):
            raise Skip(f"no {directory}")
    export.export(directory, path)
    return path


# ---------------------------------------------------------------------------------------------
# What the program prints
# ---------------------------------------------------------------------------------------------

COUNT = r"(?:(?!1 )\d+ tokens|1 token)"
REASON = r'<\|im_end\|>|<\|endoftext\|>|!|--stop ".*?"|-n \d+|context full|interrupted'
STOPPED = re.compile(rf"stopped: ({REASON}) after ({COUNT}); (\S.*)")
RATE = r"\d+\.?\d* tok/s"
SPEED = re.compile(rf"speed: prompt (\d+ tokens?), {RATE}; new (\d+ tokens?), {RATE}; seed (\d+)")
HEADER = "n\tid\tpiece\tp\tp_im_end\tp_endoftext"


class Turn(NamedTuple):
    """What the closing lines say."""
    reason: str
    n: int
    words: str
    n_prompt: int
    seed: int


def number(count: str) -> int:
    return int(count.split(" ")[0])


def closing(err: str) -> List[Turn]:
    """Standard error, which holds nothing but closing lines."""
    lines, turns = err.splitlines(), []
    assert lines and len(lines) % 2 == 0 and err.endswith("\n"), f"standard error is {err[-300:]!r}"
    for first, second in zip(lines[::2], lines[1::2]):
        stopped, speed = STOPPED.fullmatch(first), SPEED.fullmatch(second)
        assert stopped, f"not a line of the form `stopped: REASON after N tokens; ...`: {first!r}"
        assert speed, f"not a line of the form `speed: ...`: {second!r}"
        equal(number(stopped[2]), number(speed[2]), "tokens in the two closing lines")
        turns.append(Turn(stopped[1], number(stopped[2]), stopped[3], number(speed[1]),
                          int(speed[3])))
    return turns


def generate(name: str, *args: str, data: bytes = b"") -> Tuple[bytes, Turn]:
    """Standard output and the closing lines of one turn that ends well."""
    status, out, err = run(model(name), *args, data=data)
    assert status == 0, f"exit status {status}: {err!r}"
    turn, = closing(err)
    return out, turn


class Row(NamedTuple):
    n: int
    id: int
    piece: str
    p: List[Optional[float]]            # of the token, <|im_end|>, <|endoftext|>; None: not given


def table(text: str) -> List[Row]:
    """The tab-separated table of --watch, --score and --answer."""
    lines, rows = text.splitlines(), []
    equal(lines[:1], [HEADER] * bool(lines))
    for line in lines[1:]:
        if line != HEADER:
            n, token, piece, *p = line.split("\t")
            assert len(p) == 3, line
            chances = [float(x) if x[:1].isdigit() else None for x in p]
            rows.append(Row(int(n), int(token), piece, chances))
    return rows


def score(name: str, *args: str) -> Tuple[List[Row], str]:
    """The rows of --score, and its line on standard error."""
    status, out, err = run(model(name), *args, "--score")
    assert status == 0 and re.fullmatch("perplexity .*\n", err), f"exit status {status}, {err!r}"
    return table(out.decode()), err.rstrip("\n")


def scored_ids(name: str, *args: str) -> List[int]:
    """The framed prompt, as --score shows it."""
    return [row.id for row in score(name, *args)[0]]


def watched_ids(name: str, *args: str) -> List[int]:
    """The new tokens, as --watch shows them."""
    return [row.id for row in table(generate(name, *args, "--watch")[0].decode())]


# ---------------------------------------------------------------------------------------------
# Logits
# ---------------------------------------------------------------------------------------------

Rows = List["array.array[float]"]
GREEDY = ["--greedy", "--repeat-penalty", "1"]


def ids_flag(ids: Sequence[int]) -> List[str]:
    return ["--ids", " ".join(map(str, ids))]


def rows_of(path: str, vocab: int) -> Rows:
    """A file that --logits wrote."""
    data = read(path)
    assert len(data) % (4 * vocab) == 0, f"{len(data)} bytes are no rows of {vocab} floats"
    values = array.array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return [values[at:at + vocab] for at in range(0, len(values), vocab)]


def logits(name: str, *args: str, vocab: int = 0) -> Rows:
    """The rows that --logits writes. `name` may be a path."""
    path = scratch("logits.f32")
    status, _, err = run(name if os.path.isabs(name) else model(name), *args, "--logits", path)
    assert status == 0, f"{args[-6:]}: exit status {status}: {err!r}"
    rows = rows_of(path, vocab or vocab_of(name))
    os.remove(path)
    return rows


def following(name: str, ids: Sequence[int], n: int, *args: str, vocab: int = 0) -> Rows:
    """The logits of n new tokens after these."""
    return logits(name, *ids_flag(ids), *GREEDY, "--ignore-stop", "-n", str(n), *args, vocab=vocab)


def difference(a: Sequence[float], b: Sequence[float]) -> float:
    assert len(a) == len(b), f"{len(a)} numbers and {len(b)}"
    assert math.isfinite(sum(a)), "not all numbers are finite"
    return max(abs(x - y) for x, y in zip(a, b))


def argmax(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)


def softmax(row: Sequence[float]) -> List[float]:
    most = max(row)
    values = [math.exp(x - most) for x in row]
    total = math.fsum(values)
    return [value / total for value in values]


def within(limit: float, largest: float) -> str:
    assert largest <= limit, f"largest difference {largest:.2g}, more than {limit:g}"
    return f"largest difference {largest:.2g}"


def golden(part: str) -> Any:
    with open(os.path.join(HERE, "qwen_golden.json"), encoding="utf-8") as file:
        return json.load(file)[part]
