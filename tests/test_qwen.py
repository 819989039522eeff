"""Tests of ./qwen: logits and distributions against `transformers`, stopping, chat, streams, tables, the command line.

    python3 tests/test_qwen.py [--only WORD] ./qwen

Models are made here, with random weights, or with a script in place of a mind: each token is followed by the one that
a test wants. A line per test, `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one failed.
Standard library only.
"""
from __future__ import annotations

import argparse
import array
import fcntl
import functools
import json
import math
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, ROOT]
sys.dont_write_bytecode = True
import export                                                           # noqa: E402
from harness import Skip, run_tests                                     # noqa: E402
from make_checkpoint import encode, make_checkpoint, synthetic_tokenizer  # noqa: E402

export.unicode_tables = functools.lru_cache(None)(export.unicode_tables)    # half a second that each export would take
QWEN = ""
SCRATCH = ""                                            # a directory of this run's own
PATIENCE = 600                                          # seconds, until a program counts as hung
STARTED: List["subprocess.Popen[bytes]"] = []          # programs that are killed at the end if a failed test left them
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")     # of a sanitizer build: what is in use until the end is no leak

# ---------------------------------------------------------------------------------------------------------
# What qwen_golden.py computes too
# ---------------------------------------------------------------------------------------------------------

TOKENS = {token["content"]: token["id"] for token in synthetic_tokenizer()[0]["added_tokens"]}
ENDOFTEXT, IM_START, IM_END = TOKENS["<|endoftext|>"], TOKENS["<|im_start|>"], TOKENS["<|im_end|>"]
N_TOKENS = IM_END + 1
VOCAB = N_TOKENS + 5                                    # make_checkpoint's

SHAPES: Dict[str, Dict[str, Any]] = {
    "mha tied": dict(dim=100, layers=3, heads=5, kv_heads=5, hidden=104, tied=True, seed=1),
    "mha untied": dict(dim=72, layers=3, heads=3, kv_heads=3, hidden=99, vocab=419, tied=False, seed=2),
    "gqa tied": dict(dim=120, layers=4, heads=6, kv_heads=2, hidden=101, vocab=1531, tied=True, kind="base", seed=3),
    "gqa untied": dict(dim=96, layers=3, heads=4, kv_heads=1, head_dim=20, hidden=130, vocab=421, tied=False, new_names=True, seed=4),
    "from f32": dict(dim=60, layers=3, heads=4, kv_heads=2, head_dim=24, hidden=77, tied=True, dtype="f32", seed=5),
    "from f16": dict(dim=66, layers=3, heads=3, kv_heads=1, hidden=70, tied=False, dtype="f16", seed=6),
}
N_GREEDY = 24


def prompt_lengths(name: str) -> List[int]:
    """Around the sizes at which the program changes its ways."""
    return [1, 2, 7, 8, 9, 33, 300] + [1100] * (name == "gqa tied")


def random_ids(name: str, length: int, vocab: int) -> List[int]:
    draw = random.Random(f"{name} {length}")
    return [draw.randrange(vocab) for _ in range(length)]


def sampled_columns(vocab: int) -> List[int]:
    return list(range(0, vocab, vocab // 12))


def sampled_positions(length: int) -> List[int]:
    return sorted({*range(0, length, 10 if length <= 300 else 50), length - 1})


class Case(NamedTuple):
    """How a token is sampled; the defaults are those that change nothing."""
    prompt: str
    temperature: float = 1
    top_k: int = 0
    top_p: float = 1
    penalty: float = 1

    def flags(self) -> List[str]:
        return ["--temp", str(self.temperature), "--top-k", str(self.top_k), "--top-p", str(self.top_p), "--repeat-penalty", str(self.penalty)]


# After "Q" no two logits are equal; after "Z" many are, the 20th among them; after "N" all are negative.
CASES = {
    "plain": Case("Q"), "cold": Case("Q", temperature=0.7), "hot": Case("Q", temperature=1.8),
    "top-k": Case("Q", top_k=5), "top-k 1": Case("Q", top_k=1), "ties at the k-th place": Case("Z", top_k=20, temperature=1.5),
    "top-p": Case("Q", top_p=0.8), "top-p tiny": Case("Q", top_p=1e-6), "top-p of a hot top-k": Case("Q", temperature=2.5, top_k=30, top_p=0.7),
    "penalty": Case("\x01\x02\x03\x03\x03Q", penalty=1.7),
    "penalty below 1": Case("\x01\x02\x03Q", penalty=0.7), "penalty of negative logits": Case("\x01\x01\x02N", penalty=1.7),
    "all together": Case("\x02\x03\x01\x01Q", temperature=0.7, top_k=20, top_p=0.8, penalty=1.1),
}


def sampling_logits(state: str) -> List[float]:
    """The logits after "Q", "Z" or "N", exact as bf16. The most likely after "Q" are ids 1 to 3; after "N", 1 to 10, all below zero."""
    draw = random.Random("logits")
    if state == "Z":
        return [round(draw.gauss(0, 2) * 2) / 2 for _ in range(VOCAB)]
    if state == "N":
        return [-i / 4 if 1 <= i <= 10 else -30.0 for i in range(VOCAB)]
    values = sorted(draw.sample([i / 32 for i in range(-255, 256)], VOCAB))
    most, rest = values[:-4:-1], values[:-3]
    draw.shuffle(rest)
    return rest[:1] + most + rest[1:]


# ---------------------------------------------------------------------------------------------------------
# Models
# ---------------------------------------------------------------------------------------------------------

SURE = 20.0                                             # the logit of what comes next, all others being 0
STATES = 256                                            # of a script
NO_TOKEN = N_TOKENS + 1                                 # the model's vocabulary is larger than the tokenizer's
APPLE = synthetic_tokenizer()[0]["model"]["vocab"]["èĭ¹æŀľ"]             # 苹果, one token


def chain(*steps: Any) -> Dict[int, Dict[int, float]]:
    """Each step, an id or a text of one-byte tokens, is followed by the next one."""
    ids = [i for step in steps for i in (step.encode("latin-1") if isinstance(step, str) else [step])]
    return {a: {b: SURE} for a, b in zip(ids, ids[1:])}


# What follows a token. In a chat a turn begins after the newline of "assistant\n".
SCRIPT: Dict[int, Dict[int, float]] = {
    **chain("\nRed!", IM_END, "UV", IM_START, "w", ENDOFTEXT, "xyzU"),
    **chain("A\t\\\x1b[\xff\xe8\x8b\xb9", APPLE, NO_TOKEN, "B\r\x07C", IM_END),
    **chain("LL"),
    **chain("D", ENDOFTEXT), **chain("j\n"), **chain("\xe4\xbd", ord("F")),
    ord("K"): {ord("K"): SURE, ord("k"): SURE - 0.5},
    ord("H"): {ord("H"): 3.0, IM_END: 2.0, ENDOFTEXT: 1.0},
    **{ord(state): dict(enumerate(sampling_logits(state))) for state in "QZN"},
}


def patch_tensors(directory: str, tensors: Dict[str, List[float]]) -> None:
    """Writes other numbers into a safetensors file of bf16."""
    with open(os.path.join(directory, "model.safetensors"), "r+b") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        for name, values in tensors.items():
            begin, end = header[name]["data_offsets"]
            file.seek(8 + size + begin)
            data = encode(values or [0.0] * ((end - begin) // 2), "BF16")
            assert len(data) == end - begin, name
            file.write(data)


def make_scripted(directory: str, kind: str) -> None:
    """A model that knows the last token only: its embedding is one coordinate, which attention and MLP leave as it is
    and which the output matrix maps to the logits of the script. What has no line in the script is followed by "?"."""
    make_checkpoint(directory, dim=STATES, layers=1, heads=1, kv_heads=1, head_dim=2, hidden=8, tied=False, kind=kind)
    state = {token: i + 1 for i, token in enumerate(SCRIPT)}
    embedding, output = [0.0] * (VOCAB * STATES), [0.0] * (VOCAB * STATES)
    for token in range(VOCAB):
        embedding[token * STATES + state.get(token, 0)] = 16.0
    for token, following in {**SCRIPT, None: {ord("?"): SURE}}.items():
        for after, logit in following.items():
            output[after * STATES + state.get(token, 0)] = logit
    patch_tensors(directory, {
        "model.embed_tokens.weight": embedding, "lm_head.weight": output, "model.norm.weight": [1 / 16] * STATES,
        "model.layers.0.self_attn.o_proj.weight": [], "model.layers.0.mlp.down_proj.weight": []})


def export_model(directory: str, path: str) -> None:
    export.export(directory, path)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})     # which export.py leaves blocked for its last step


@functools.lru_cache(None)
def model(name: str) -> str:
    """The path of a .bin: one of SHAPES, "script chat", "script base", "tiny chat" or "tiny base"."""
    directory, path = os.path.join(SCRATCH, name), os.path.join(SCRATCH, name + ".bin")
    first, last = name.split(" ")[0], name.split(" ")[-1]
    if name in SHAPES:
        make_checkpoint(directory, **SHAPES[name])
    elif first == "script":
        make_scripted(directory, last)
    else:
        directory = os.path.join(ROOT, "tiny", last)
        if not os.path.exists(directory):
            raise Skip(f"no {directory}")
    export_model(directory, path)
    return path


# ---------------------------------------------------------------------------------------------------------
# Running the program
# ---------------------------------------------------------------------------------------------------------

STOPPED = re.compile(r'stopped: (<\|im_end\|>|<\|endoftext\|>|--stop ".*"|-n \d+|context full|interrupted) after (\d+) tokens; (\S.*)')
SPEED = re.compile(r"speed: prompt (\d+) tokens, \d+\.?\d* tok/s; new (\d+) tokens, \d+\.?\d* tok/s; seed (\d+)")
HEADER = "n\tid\tpiece\tp\tp_im_end\tp_endoftext"


class Turn(NamedTuple):
    """What the closing lines say."""
    reason: str
    n: int
    words: str
    n_prompt: int
    seed: int


def closing(err: str) -> List[Turn]:
    """Standard error, which holds nothing but closing lines."""
    lines, turns = err.splitlines(), []
    assert lines and len(lines) % 2 == 0 and err.endswith("\n"), f"standard error is {err[-300:]!r}"
    for first, second in zip(lines[::2], lines[1::2]):
        stopped, speed = STOPPED.fullmatch(first), SPEED.fullmatch(second)
        assert stopped, f"not a line of the form `stopped: REASON after N tokens; ...`: {first!r}"
        assert speed, f"not a line of the form `speed: ...`: {second!r}"
        assert stopped[2] == speed[2], f"{stopped[2]} tokens in one line, {speed[2]} in the other"
        turns.append(Turn(stopped[1], int(stopped[2]), stopped[3], int(speed[1]), int(speed[3])))
    return turns


def run(path: Optional[str], *args: str, data: bytes = b"", **options: Any) -> Tuple[int, bytes, str]:
    """(exit status, standard output, standard error)"""
    done = subprocess.run([QWEN, *[path] * (path is not None), *args], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=PATIENCE, **options)
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


def generate(name: str, *args: str, data: bytes = b"") -> Tuple[bytes, Turn]:
    """Standard output and the closing lines of one turn that ends well."""
    status, out, err = run(model(name), *args, data=data)
    assert status == 0, f"exit status {status}: {err!r}"
    turn, = closing(err)
    return out, turn


def output(name: str, *args: str) -> str:
    """Standard output of what prints no closing lines."""
    status, out, err = run(model(name), *args)
    assert (status, err) == (0, ""), f"{args}: exit status {status}, {err!r}"
    return out.decode()


def equal(got: Any, expected: Any, what: str = "") -> None:
    if got != expected:
        a, b = str(got), str(expected)
        begin = max(0, len(os.path.commonprefix([a, b])) - 60)              # what is alike need not be shown
        raise AssertionError(f"{what + ': ' if what else ''}{a[begin:begin + 250]} instead of {b[begin:begin + 250]}")


def check_error(status: int, got: Tuple[int, bytes, str], *words: str) -> None:
    """One line on standard error that holds the words, nothing on standard output."""
    assert got[0] == status, f"exit status {got[0]} instead of {status}: {got[2][:300]!r}"
    assert got[1] == b"", f"standard output {got[1][:100]!r}"
    assert got[2].startswith("qwen: ") and got[2].count("\n") == 1 and got[2].endswith("\n"), f"not one line: {got[2][:300]!r}"
    for word in words:
        assert word in got[2], f"no {word!r} in {got[2]!r}"


Rows = List["array.array[float]"]


def ids_flag(ids: Sequence[int]) -> List[str]:
    return ["--ids", " ".join(map(str, ids))]


def logits(name: str, *args: str, vocab: int = VOCAB) -> Rows:
    """The rows that --logits writes."""
    path = os.path.join(SCRATCH, "logits.f32")
    status, _, err = run(model(name), *args, "--logits", path)
    assert status == 0, f"{args[-6:]}: exit status {status}: {err!r}"
    with open(path, "rb") as file:
        data = file.read()
    os.remove(path)
    assert len(data) % (4 * vocab) == 0, f"{len(data)} bytes are no rows of {vocab} floats"
    values = array.array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return [values[at:at + vocab] for at in range(0, len(values), vocab)]


GREEDY = ["--greedy", "--repeat-penalty", "1"]


def following(name: str, ids: Sequence[int], n: int, *args: str, vocab: int = VOCAB) -> Rows:
    """A row for each of n new tokens."""
    return logits(name, *ids_flag(ids), *GREEDY, "--ignore-stop", "-n", str(n), *args, vocab=vocab)


def difference(a: Sequence[float], b: Sequence[float]) -> float:
    assert len(a) == len(b), f"{len(a)} numbers and {len(b)}"
    assert math.isfinite(sum(a)), "not all numbers are finite"
    return max(abs(x - y) for x, y in zip(a, b))


def within(limit: float, largest: float) -> str:
    assert largest <= limit, f"largest difference {largest:.2g}, more than {limit:g}"
    return f"largest difference {largest:.2g}"


def argmax(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)


def softmax(row: Sequence[float]) -> List[float]:
    most = max(row)
    weights = [math.exp(x - most) for x in row]
    total = math.fsum(weights)
    return [w / total for w in weights]


class Row(NamedTuple):
    n: int
    id: int
    piece: str
    p: List[Optional[float]]                            # of the token, <|im_end|>, <|endoftext|>; None where there is none


def table(text: str) -> List[Row]:
    """The tab-separated table of --watch and --score."""
    lines, rows = text.splitlines(), []
    equal(lines[:1], [HEADER] * bool(lines))
    for line in lines:
        if line != HEADER and not line.startswith("perplexity "):
            n, token, piece, *p = line.split("\t")
            assert len(p) == 3, line
            rows.append(Row(int(n), int(token), piece, [float(x) if x[:1].isdigit() else None for x in p]))
    return rows


def scored_ids(name: str, *args: str) -> List[int]:
    """The framed prompt, as --score shows it."""
    return [row.id for row in table(output(name, *args, "--score"))]


class Terminal:
    """The program at a terminal 100 columns wide that neither echoes nor changes what is sent through it."""

    def __init__(self, path: str, *args: str, stdin: Any = None, stdout: Any = None, stderr: Any = None):
        self.master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST
        attributes[3] = attributes[3] & ~termios.ECHO | termios.NOFLSH     # Ctrl-C drops nothing that is on its way
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 30, 100, 0, 0))

        def take_terminal() -> None:                    # so that Ctrl-C arrives
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([QWEN, path, *args], stdin=slave if stdin is None else stdin, stdout=slave if stdout is None else stdout,
                                        stderr=slave if stderr is None else stderr, preexec_fn=take_terminal)
        STARTED.append(self.process)
        os.close(slave)
        self.seen = b""                                 # and not asked for yet

    def read(self) -> bytes:
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        if not ready:
            raise AssertionError(f"nothing for {PATIENCE} s after {self.seen[-200:]!r}")
        try:
            return os.read(self.master, 1 << 16)
        except OSError:                                 # how Linux says that nobody writes any more
            return b""

    def until(self, text: str) -> str:
        """What the terminal shows up to this text."""
        while text.encode() not in self.seen:
            more = self.read()
            assert more, f"ended without {text!r} after {self.seen[-300:]!r}"
            self.seen += more
        shown, self.seen = self.seen.split(text.encode(), 1)
        return (shown + text.encode()).decode()

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> Tuple[int, bytes]:
        """(exit status, all that was not read yet)"""
        while True:
            more = self.read()
            if not more:
                break
            self.seen += more
        os.close(self.master)
        return self.process.wait(PATIENCE), self.seen


CTRL_C, CTRL_D = "\x03", "\x04"


# ---------------------------------------------------------------------------------------------------------
# Exactness
# ---------------------------------------------------------------------------------------------------------

def golden(part: str) -> Dict[str, Any]:
    with open(os.path.join(HERE, "qwen_golden.json"), encoding="utf-8") as file:
        return json.load(file)[part]


def vocab_of(name: str) -> int:
    return SHAPES[name].get("vocab", VOCAB)


def watched_ids(name: str, ids: Sequence[int], n: int) -> List[int]:
    """The n most likely tokens after these."""
    return [row.id for row in table(generate(name, *ids_flag(ids), *GREEDY, "--ignore-stop", "-n", str(n), "--watch")[0].decode())]


def test_logits_of_the_reference() -> str:
    largest = 0.0
    for name, expected in golden("logits").items():
        columns = sampled_columns(vocab_of(name))
        for prompt in expected["prompts"]:
            length = prompt["length"]
            ids = random_ids(name, length, vocab_of(name))
            rows = logits(name, *ids_flag(ids), "--score", vocab=vocab_of(name))
            equal(len(rows), length, f"{name}, prompt of {length}: rows of --score")
            after, = following(name, ids, 1, vocab=vocab_of(name))
            for at, (*values, best) in [*zip(sampled_positions(length), prompt["rows"]), (length, prompt["rows"][-1])]:
                row = rows[at] if at < length else after
                largest = max(largest, difference([row[i] for i in columns], values))
                assert largest <= 1e-3, f"{name}, prompt of {length}, position {at}: {largest:.2g} from the reference"
                assert row[best] >= max(row) - 2e-3, f"{name}, prompt of {length}, position {at}: another best token"
    return within(1e-3, largest)


def test_greedy_text_of_the_reference() -> str:
    compared = 0
    for name, expected in golden("logits").items():
        for prompt in expected["prompts"]:
            if prompt["greedy"]:
                ids = random_ids(name, prompt["length"], vocab_of(name))
                equal(watched_ids(name, ids, N_GREEDY)[:len(prompt["greedy"])], prompt["greedy"], f"{name}, prompt of {prompt['length']}")
                compared += len(prompt["greedy"])
    assert compared > 500
    return f"{compared} tokens"


def test_one_batch_several_or_token_by_token() -> str:
    largest = 0.0
    for name in ("gqa tied", "mha untied"):
        ids = random_ids(name, 1, vocab_of(name))
        one_by_one = following(name, ids, 300, vocab=vocab_of(name))
        ids += watched_ids(name, ids, 300)
        scored = logits(name, *ids_flag(ids[:300]), "--score", vocab=vocab_of(name))
        for a, b in zip(one_by_one, scored):
            largest = max(largest, difference(a, b))
        for length in (2, 5, 7, 8, 9, 16, 31, 32, 33, 64, 100, 255, 256, 257, 263, 264, 300):
            batch, = following(name, ids[:length], 1, vocab=vocab_of(name))
            largest = max(largest, difference(batch, one_by_one[length - 1]))
    return within(1e-4, largest)


def test_threads_bit_for_bit() -> None:
    for name in ("gqa tied", "mha untied"):
        ids = random_ids("threads", 290, vocab_of(name))
        for command in (lambda *t: following(name, ids, 12, *t, vocab=vocab_of(name)),
                        lambda *t: logits(name, *ids_flag(ids), "--score", *t, vocab=vocab_of(name))):
            one = command("-t", "1")
            for threads in "237":
                assert command("-t", threads) == one, f"{name}: other bits with {threads} threads than with one"


# ---------------------------------------------------------------------------------------------------------
# Stopping
# ---------------------------------------------------------------------------------------------------------

LONG = b"Red!<|im_end|>UV<|im_start|>w<|endoftext|>xyzUV<|im_start|>"


def check_turn(name: str, args: Sequence[str], out: bytes, reason: str, n: int) -> Turn:
    got, turn = generate(name, *args)
    equal((got, turn.reason, turn.n), (out, reason, n), f"{name} {list(args)}")
    return turn


def test_stop_tokens() -> None:
    check_turn("script chat", ["-p", "hi"], b"Red!", "<|im_end|>", 5)
    check_turn("script chat", ["-p", "hi", "-n", "5"], b"Red!", "<|im_end|>", 5)
    check_turn("script base", ["-p", "hi", "-m", "chat"], b"Red!", "<|im_end|>", 5)
    check_turn("script base", ["-p", "hi\n"], b"Red!<|im_end|>UV<|im_start|>w", "<|endoftext|>", 10)
    check_turn("script chat", ["-p", "hi\n", "-m", "base"], b"Red!", "<|im_end|>", 5)       # its own eos_token_id
    check_turn("script chat", ["-p", "D", "-m", "base"], b"", "<|endoftext|>", 1)
    check_turn("script chat", ["--ids", str(ord("D"))], b"", "<|endoftext|>", 1)
    check_turn("script base", ["--ids", "10", "-m", "chat"], b"Red!", "<|im_end|>", 5)
    check_turn("script base", ["-p", "hi<|im_end|>", "-n", "2"], b"UV", "-n 2", 2)          # typed by hand it counts
    assert "P(<|im_end|>)" in check_turn("script base", ["-p", "L", "-n", "3"], b"LLL", "-n 3", 3).words


def test_limits() -> None:
    check_turn("script chat", ["-p", "hi", "-n", "4"], b"Red!", "-n 4", 4)
    check_turn("script chat", ["-p", "hi", "--max-tokens", "1"], b"R", "-n 1", 1)
    check_turn("script chat", ["-p", "hi", "-n", "0"], b"", "-n 0", 0)
    check_turn("script base", ["-p", "L"], b"L" * 512, "-n 512", 512)
    out, turn = generate("script base", "-p", "LLLLL", "-c", "20")
    equal(turn.reason, "context full")
    assert turn.n in (15, 16) and out == b"L" * turn.n, f"{turn.n} tokens after 5 in a context of 20"
    out, turn = generate("script base", "-p", "LLLLL", "-c", "5")
    assert turn.reason == "context full" and turn.n in (0, 1), f"{turn}"
    check_error(1, run(model("script base"), "-p", "LLLLL", "-c", "4"), "5", "4")
    check_error(1, run(model("script base"), "-p", "LLLLL", "-c", "4", "--score"), "5", "4")


def test_ignore_stop() -> None:
    check_turn("script chat", ["-p", "hi", "--ignore-stop", "-n", "16"], LONG, "-n 16", 16)
    check_turn("script base", ["-p", "hi\n", "--ignore-stop", "-n", "16"], LONG, "-n 16", 16)
    turn = check_turn("script chat", ["-p", "hi", "--ignore-stop", "-n", "5"], b"Red!<|im_end|>", "-n 5", 5)
    assert "5" in turn.words, f"P(<|im_end|>) was highest at token 5: {turn.words!r}"


def test_stop_texts() -> None:
    for stops, out, reason, n in (
            (["d!"], b"Re", "d!", 4),                           # in two tokens
            (["e"], b"R", "e", 2),
            (["Red!"], b"", "Red!", 4),
            (["d!", "ed"], b"R", "ed", 3),                      # whichever comes first
            (["ed", "d!"], b"R", "ed", 3),
            (["!", "d!"], b"Re", "d!", 4),                      # no part of any is printed
            (["d!", "!"], b"Re", "d!", 4),
            (["RE", "Red?", "x", "ed"], b"R", "ed", 3)):
        flags = [flag for stop in stops for flag in ("--stop", stop)]
        check_turn("script chat", ["-p", "hi", *flags], out, f'--stop "{reason}"', n)
        check_turn("script chat", ["-p", "hi", "--ignore-stop", *flags], out, f'--stop "{reason}"', n)
    for stop, out, n in (("V<|im_start|>w", b"Red!<|im_end|>U", 9), ("im_end", b"Red!<|", 5), ("<|im_end|>U", b"Red!", 6),
                         ("<|endoftext|>", b"Red!<|im_end|>UV<|im_start|>w", 10)):
        check_turn("script chat", ["-p", "hi", "--ignore-stop", "--stop", stop], out, f'--stop "{stop}"', n)
    check_turn("script base", ["-p", "j", "--stop", "\n"], b"", '--stop "\\n"', 1)          # in one line also then


def test_what_was_held_back_is_printed() -> None:
    check_turn("script chat", ["-p", "hi", "--stop", "d!x", "-n", "4"], b"Red!", "-n 4", 4)
    check_turn("script chat", ["-p", "hi", "--stop", "d!x"], b"Red!", "<|im_end|>", 5)
    check_turn("script chat", ["-p", "hi", "--stop", "!<|im_end|>V", "--ignore-stop", "-n", "5"], b"Red!<|im_end|>", "-n 5", 5)
    check_turn("script base", ["-p", "L", "--stop", "LLLM", "--stop", "LLLLLLLLN", "-n", "20"], b"L" * 20, "-n 20", 20)
    check_turn("script base", ["-p", "L", "--stop", "LLLLLLL"], b"", '--stop "LLLLLLL"', 7)


class Endless:
    """The program in a turn that only Ctrl-C ends."""

    def __init__(self, *args: str):
        self.process = subprocess.Popen([QWEN, model("script base"), "-n", "1000000", "-c", "1000000", *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        STARTED.append(self.process)
        self.err = b""

    def wait_for(self, stream: Any, text: bytes) -> None:
        seen = b""
        while text not in seen:
            ready, _, _ = select.select([stream], [], [], PATIENCE)
            assert ready, f"nothing for {PATIENCE} s after {seen!r}"
            seen += os.read(stream.fileno(), 1 << 16)
        if stream is self.process.stderr:
            self.err += seen

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> Tuple[int, List[Turn]]:
        """(exit status, what the closing lines say)"""
        _, err = self.process.communicate(timeout=PATIENCE)
        lines = (self.err + err).decode().splitlines(True)
        return self.process.returncode, closing("".join(line for line in lines if not line.startswith("qwen: note: ")))


def test_ctrl_c_ends_the_only_turn() -> None:
    for args in (["-p", "L"], ["--ids", str(ord("L"))], ["-p", "L", "--watch"], ["-p", "L", "--stop", "LLLM"]):
        endless = Endless(*args)
        endless.wait_for(endless.process.stdout, b"L")
        endless.interrupt()
        status, turns = endless.end()
        equal((status, [turn.reason for turn in turns]), (130, ["interrupted"]))
        assert turns[0].n > 0


def test_ctrl_c_ends_one_turn_of_several() -> None:
    endless = Endless("-p", "L", "-p", "L")
    endless.wait_for(endless.process.stdout, b"L")
    endless.interrupt()
    endless.wait_for(endless.process.stderr, b"\nspeed: ")
    endless.interrupt()
    equal(endless.end()[0], 130, "exit status")


def test_ctrl_c_leaves_no_half_file() -> None:
    path = os.path.join(SCRATCH, "interrupted.f32")
    endless = Endless("-p", "L", "--logits", path)
    endless.wait_for(endless.process.stdout, b"L")
    endless.interrupt()
    equal(endless.end()[0], 130, "exit status")
    assert not os.path.exists(path + ".tmp") and (not os.path.exists(path) or os.path.getsize(path) % (4 * VOCAB) == 0)


def test_ctrl_c_while_a_prompt_is_awaited() -> None:
    process = subprocess.Popen([QWEN, model("script base")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    STARTED.append(process)
    assert process.stdin is not None
    process.stdin.write(b"x" * 300000)                  # more than a pipe holds: when all is written, it is being read
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    equal(process.wait(PATIENCE), 130, "exit status")
    process.communicate()


# ---------------------------------------------------------------------------------------------------------
# Streams
# ---------------------------------------------------------------------------------------------------------

MIXED = b"\t\\\x1b[\xff\xe8\x8b\xb9\xe8\x8b\xb9\xe6\x9e\x9cB\r\x07C"    # what follows "A"
SHOWN = "\t\\\\x1b[\\xff苹苹果B\\x0d\\x07C\n"


def on_terminal(name: str, *args: str) -> str:
    """What a terminal shows of standard output; standard error goes elsewhere."""
    with tempfile.TemporaryFile() as err:
        status, shown = Terminal(model(name), *args, stdin=subprocess.DEVNULL, stderr=err).end()
        err.seek(0)
        message = err.read().decode()
    equal(status, 0, f"exit status, {message!r}")
    closing(message)
    return shown.decode()                               # dies of a split character


def test_nothing_to_print_on_a_terminal() -> None:
    """clang's sanitizer does not let a pointer be computed from a text that was never written to."""
    for n in ("0", "3"):                                # most ids of this model have no token: they decode to nothing
        on_terminal("mha tied", "--ids", "1 2 3", "--greedy", "--repeat-penalty", "1", "--ignore-stop", "-n", n)


def screen(text: str) -> List[str]:
    """The lines that a terminal shows in the end: what overwrites and erases (\\r, ESC [ K) has done so."""
    lines, at = [""], 0
    for part in re.findall(r"\r|\n|\x1b\[K|\x1b\[[0-9;]*m|[^\r\n\x1b]+", text):
        if part == "\r":
            at = 0
        elif part == "\n":
            lines.append("")
            at = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:at]
        elif part[0] != "\x1b":
            lines[-1] = lines[-1][:at].ljust(at) + part + lines[-1][at + len(part):]
            at += len(part)
    return lines


def test_progress_leaves_no_trace() -> None:
    prompt = ids_flag([ord("L")] * 600)
    terminal = Terminal(model("script base"), *prompt, "-n", "2", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    status, shown = terminal.end()
    equal(status, 0)
    assert "of 600 tokens" in shown.decode(), f"no progress: {shown!r}"
    closing("\n".join(screen(shown.decode())))
    status, shown = Terminal(model("script base"), *prompt, "--score", stdin=subprocess.DEVNULL).end()
    equal(status, 0)
    rows = [line.split() for line in screen(shown.decode())[1:601]]
    equal([row[:3] for row in rows], [[str(i + 1), str(ord("L")), "L"] for i in range(600)], "the table of --score with progress between")


def test_bytes_on_a_pipe() -> None:
    check_turn("script chat", ["-p", "A", "-m", "base"], MIXED, "<|im_end|>", 15)
    check_turn("script base", ["-p", "\x1b[\udcff", "-n", "2"], b"F?", "-n 2", 2)           # U+FFFD ends in \xbd
    check_turn("script base", ["--ids", "255", "-n", "2"], b"\xe8\x8b", "-n 2", 2)          # half a character too


def test_text_on_a_terminal() -> None:
    equal(on_terminal("script chat", "-p", "A", "-m", "base"), SHOWN)
    equal(on_terminal("script chat", "-p", "hi"), "Red!\n", "a final newline")
    equal(on_terminal("script base", "--ids", "255", "-n", "3"), "苹\n")
    equal(on_terminal("script base", "--ids", "255", "-n", "2"), "\\xe8\\x8b\n", "half a character at the end")
    equal(on_terminal("script base", "--ids", str(0xE4), "-n", "2"), "\\xbdF\n", "a byte that begins nothing")
    equal(on_terminal("script chat", "-p", "hi", "-n", "0"), "")


def test_nothing_but_text_on_standard_output() -> None:
    status, out, err = run(model("script chat"), "-p", "hi", "-p", "ho", "-p", "ha")
    equal((status, out), (0, b"Red!" * 3))
    equal([(turn.reason, turn.n) for turn in closing(err)], [("<|im_end|>", 5)] * 3)


def test_standard_input_is_one_prompt() -> None:
    for data, n in ((b"LLL", 3), (b"LLL\n", 3), (b"L\nL", 3), (b"\nL\n", 2), (b"L\x00L", 3)):
        out, turn = generate("script base", "-n", "2", data=data)
        equal((out, turn.n_prompt), (b"LL", n), repr(data))
    equal(generate("script base", "-n", "3", data=b"hi\n\n")[0], b"Red", "only one newline is dropped")
    for text in ("a\nb", ""):
        equal(scored_ids("script chat", "-p", text), [row.id for row in table(run(model("script chat"), "--score", data=text.encode())[1].decode())], repr(text))


def test_standard_output_closed_early() -> None:
    read, write = os.pipe()
    process = subprocess.Popen([QWEN, model("script base"), "-p", "L", "-n", "200000", "-c", "1000000"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode >= 0, f"died of signal {-process.returncode}: {err!r}"


# ---------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------

def check_probabilities(rows: Sequence[Row], raw: Rows) -> None:
    """Each row's three probabilities are those of the softmax of raw logits."""
    equal(len(rows), len(raw), "rows")
    for row, values in zip(rows, raw):
        p = softmax(values)
        for got, expected in zip(row.p, (p[row.id], p[IM_END], p[ENDOFTEXT])):
            assert got is not None and abs(got - expected) <= 2e-5 * expected + 1e-12, f"row {row.n}: {got} instead of {expected:.7g}"


def test_watch() -> None:
    out, turn = generate("script chat", "-p", "A", "-m", "base", "--watch")
    rows = table(out.decode())
    equal([row.n for row in rows], list(range(1, 16)))
    equal("|".join(row.piece for row in rows), "\\t|\\\\|\\x1b|[|\\xff|\\xe8|\\x8b|\\xb9|苹果||B|\\x0d|\\x07|C|<|im_end|>")
    equal((turn.reason, turn.n), ("<|im_end|>", 15))


def test_watch_shows_raw_probabilities() -> None:
    flags = ["-p", "H", "-m", "base", "-n", "100", "--seed", "3", "--ignore-stop"]
    for sampling in ([], ["--temp", "0.5", "--top-k", "2", "--repeat-penalty", "1.9"], ["--greedy"]):
        rows = table(generate("script chat", *flags, *sampling, "--watch")[0].decode())
        check_probabilities(rows, logits("script chat", *flags, *sampling))
    for name in ("mha tied", "from f16"):
        flags = [*ids_flag(random_ids("watch", 5, VOCAB)), "-n", "20", "--ignore-stop", "--seed", "4", "--temp", "1"]
        check_probabilities(table(generate(name, *flags, "--watch")[0].decode()), logits(name, *flags))


def test_score() -> None:
    for name in ("mha tied", "from f32"):
        for length in (2, 33, 70):
            ids = random_ids("score", length, VOCAB)
            text = output(name, *ids_flag(ids), "--score")
            rows, raw = table(text), logits(name, *ids_flag(ids), "--score")
            equal([(row.n, row.id) for row in rows], list(zip(range(1, length + 1), ids)))
            equal(rows[0].p, [None] * 3, "the first token, which nothing foretold")
            check_probabilities(rows[1:], raw[:-1])
            found = re.fullmatch(r"perplexity (\S+) over (\d+) tokens", text.splitlines()[-1])
            assert found, text.splitlines()[-1]
            expected = math.exp(math.fsum(-math.log(softmax(row)[token]) for row, token in zip(raw, ids[1:])) / (length - 1))
            assert int(found[2]) == length - 1 and abs(float(found[1]) / expected - 1) < 1e-4, f"{found[0]} instead of {expected:.6g}"


def test_score_of_one_token() -> None:
    for args in (["-p", "L"], ["--ids", "76"]):
        lines = output("script base", *args, "--score").splitlines()
        equal((len(lines), lines[0], lines[1].split("\t")[:3], lines[2]), (3, HEADER, ["1", "76", "L"], "perplexity undefined over 0 tokens"))


def test_tables_on_a_terminal() -> None:
    lines = on_terminal("script chat", "-p", "A", "-m", "base", "--watch").splitlines()
    equal(len(lines), 16)
    assert "\t" not in "".join(lines) and "⏎" not in "".join(lines)
    plain = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in lines]
    assert "\x1b" not in "".join(plain), "more than colours"
    widths = {len(line) + line.count("苹") + line.count("果") for line in plain[1:]}
    assert len(widths) == 1, f"columns are not aligned: {plain}"
    assert plain[-1][40:] != plain[1][40:], "a bar shows the last P(<|im_end|>)"
    lines = on_terminal("script base", "-p", "hi\n", "--watch", "-n", "10").splitlines()
    assert "█" in lines[5] and "█" not in lines[4], f"a bar for <|im_end|>: {lines[4:6]}"
    with tempfile.TemporaryFile() as err:
        status, shown = Terminal(model("script base"), "-p", "L\nL", "--score", stdin=subprocess.DEVNULL, stderr=err).end()
    lines = shown.decode().splitlines()
    assert status == 0 and len(lines) == 5 and "⏎" in lines[2] and lines[-1].startswith("perplexity "), lines


# ---------------------------------------------------------------------------------------------------------
# Sampling
# ---------------------------------------------------------------------------------------------------------

N_DRAWS = 3000


def draws(name: str, prompt: str, n: int, *args: str) -> List[int]:
    """n tokens, each drawn after the same prompt."""
    status, out, err = run(model(name), "-n", "1", "--watch", *["-p", prompt] * n, *args)
    assert status == 0, err[-300:]
    return [row.id for row in table(out.decode())]


def check_distribution(drawn: Sequence[int], p: Sequence[float], what: str) -> None:
    """Pearson's chi-squared, made normal (Wilson & Hilferty 1931); rare tokens count as one."""
    impossible = sorted({token for token in drawn if p[token] == 0})
    assert not impossible, f"{what}: drew {impossible[:5]}, which are ruled out"
    common = [token for token, probability in enumerate(p) if probability * len(drawn) >= 5]
    observed = [drawn.count(token) for token in common]
    expected = [p[token] * len(drawn) for token in common]
    rare = len(drawn) - sum(expected)
    if rare >= 5:
        observed.append(len(drawn) - sum(observed))
        expected.append(rare)
    freedom = len(expected) - 1
    if freedom == 0:
        return
    squares = sum((a - b) ** 2 / b for a, b in zip(observed, expected))
    normal = ((squares / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    assert normal < 4, f"{what}: chi-squared {squares:.0f} with {freedom} degrees of freedom"


def test_sampling_distributions() -> str:
    for name, p in golden("sampling").items():
        case = CASES[name]
        drawn = draws("script base", case.prompt, N_DRAWS, *case.flags(), "--seed", "1")
        equal(len(drawn), N_DRAWS)
        check_distribution(drawn, p, name)
    return f"{len(CASES)} of them, {N_DRAWS} draws each"


def test_sampling_defaults() -> None:
    """Without flags the checkpoint's own: make_checkpoint's chat one has those of the case "all together"."""
    case = CASES["all together"]
    flags = ["-m", "base", "--seed", "7"]
    equal(draws("script chat", case.prompt, 300, *flags), draws("script chat", case.prompt, 300, *flags, *case.flags()))
    best = argmax(sampling_logits("Q"))
    equal(draws("script base", "Q", 20), [best] * 20, "greedy by its generation_config.json")
    equal(draws("script chat", "Q", 20, "-m", "base", "--greedy", "--repeat-penalty", "1"), [best] * 20)
    equal(draws("script chat", "Q", 20, "-m", "base", "--temp", "0"), [best] * 20)
    likely = sorted(range(VOCAB), key=sampling_logits("Q").__getitem__)[::-1]
    for flag, value in (("--temp", "3"), ("--top-p", "0.9"), ("--top-k", "9")):
        assert len(set(draws("script base", "Q", 50, flag, value, "--seed", "1"))) > 1, f"{flag} does not turn sampling on"
    assert set(draws("script base", "Q", 1000, "--temp", "9", "--seed", "1")) <= set(likely[:50]), "top-k is 50 where nothing is said"


def test_penalty_when_greedy() -> None:
    equal(draws("script base", "Q", 1), [1])
    equal(draws("script base", "\x01Q", 1, "--repeat-penalty", "5", "--greedy"), [2])
    equal(draws("script base", "\x01Q", 1, "--repeat-penalty", "5", "--temp", "0"), [2])
    equal(draws("script base", "\x01\x02\x01Q", 1, "--repeat-penalty", "5"), [3])
    check_turn("script base", ["-p", "K", "-n", "4"], b"KKKK", "-n 4", 4)
    equal(generate("script base", "-p", "K", "-n", "1", "--repeat-penalty", "1.1")[0], b"k")
    equal(draws("script base", "N", 1, "--repeat-penalty", "2"), [1])
    equal(draws("script base", "\x01N", 1, "--repeat-penalty", "3"), [2], "a negative logit becomes more so")


def test_seeds() -> None:
    def text(*args: str) -> bytes:
        return generate("mha tied", "-p", "hello", "-n", "40", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--ignore-stop", *args)[0]
    equal(text("--seed", "5"), text("--seed", "5"))
    assert len({text("--seed", str(seed)) for seed in range(5)}) == 5, "seeds give the same text"
    equal(generate("mha tied", "-p", "a", "-n", "1", "--seed", "18446744073709551")[1].seed, 18446744073709551)
    seed = generate("mha tied", "-p", "hello", "-n", "9", "--ignore-stop")[1].seed
    flags = ["-p", "hello", "-n", "9", "--ignore-stop", "--seed", str(seed)]
    equal(generate("mha tied", *flags)[0], generate("mha tied", *flags, "-t", "1")[0])


# ---------------------------------------------------------------------------------------------------------
# Chat
# ---------------------------------------------------------------------------------------------------------

def framed(*args: str, name: str = "mha tied") -> str:
    """The pieces of the framed prompt, as they are escaped in the table."""
    return "".join(row.piece for row in table(output(name, *args, "--score")))


def specials(ids: Sequence[int]) -> List[int]:
    return [token for token in ids if token in TOKENS.values()]


SYSTEM = "<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n"
USER = "<|im_start|>user\\n{}<|im_end|>\\n<|im_start|>assistant\\n"


def test_chat_framing() -> None:
    equal(framed("-p", "hi"), SYSTEM + USER.format("hi"), "the checkpoint's own system message")
    equal(framed("-p", "hi", "-s", ""), USER.format("hi"), "no system turn")
    equal(framed("-p", "hi", "-s", "Be brief. "), SYSTEM.replace("You are a helpful assistant", "Be brief. ") + USER.format("hi"))
    equal(framed("-p", "  hi \n ", "-s", "\nx"), SYSTEM.replace("You are a helpful assistant", "\\nx") + USER.format("  hi \\n "), "content is not trimmed")
    equal(framed("-p", "", "-s", ""), USER.format(""), "an empty message")
    equal(framed("-p", "hi", "-m", "chat", name="gqa tied"), SYSTEM + USER.format("hi"), "a base model asked to chat")
    equal(framed("-p", "<|im_start|>hi", "-m", "base"), "<|im_start|>hi", "base mode")
    equal(specials(scored_ids("mha tied", "-p", "hi")), [IM_START, IM_END] * 2 + [IM_START])
    equal(specials(scored_ids("mha tied", "-p", "<|im_start|>hi<|im_end|>", "-m", "base")), [IM_START, IM_END])


def test_special_tokens_in_a_message_are_text() -> None:
    text = "a<|im_end|>\n<|im_start|>system\nx<|endoftext|>"
    for args in (["-p", text], ["-p", "hi", "-s", text]):
        equal(specials(scored_ids("mha tied", *args)), [IM_START, IM_END] * 2 + [IM_START])
    assert USER.format(text.replace("\n", "\\n")) in framed("-p", text)


def test_a_newline_that_opens_a_message_merges() -> None:
    pieces = [row.piece for row in table(output("mha tied", "-p", "\n\nhi", "-s", "", "--score"))]
    at = pieces.index("\\n\\n\\n")                      # one token, of the newline after the role and of two more
    equal("".join(pieces[:at]), "<|im_start|>user")


def encoded(text: str) -> List[int]:
    """The ids of a text, special tokens included."""
    return scored_ids("mha tied", "-m", "base", "-p", text)


def user_turn(text: str) -> List[int]:
    return scored_ids("mha tied", "-s", "", "-p", text)


def check_conversation(prompts: Sequence[str], *args: str, closed_by: Optional[int] = None) -> List[Turn]:
    """Turns given by -p, against the logits of the conversation as it should stand in the cache."""
    flags = [flag for prompt in prompts for flag in ("-p", prompt)]
    status, out, err = run(model("mha tied"), *flags, *args, "--watch")
    assert status == 0, err
    raw, generated, turns = logits("mha tied", *flags, *args), table(out.decode()), closing(err)
    equal((len(turns), len(raw)), (len(prompts), len(generated)))
    history = scored_ids("mha tied", "-p", prompts[0])
    first = done = 0
    for i, turn in enumerate(turns):
        if i > 0:
            history += user_turn(prompts[i])
        expected, = following("mha tied", history, 1)
        assert difference(raw[first], expected) <= 1e-4, f"turn {i + 1} does not follow the conversation"
        unread = len(history) - done
        assert turn.n_prompt <= unread + 1, f"turn {i + 1} read {turn.n_prompt} tokens, {unread} are new"
        done = len(history) + turn.n
        new = [row.id for row in generated[first:first + turn.n]]
        history += new
        first += turn.n
        if closed_by is not None and i + 1 < len(turns):
            equal(turn.reason, {IM_END: "<|im_end|>", ENDOFTEXT: "<|endoftext|>"}[closed_by])
            history.pop()
        history += [IM_END, 10]
    return turns


def test_conversation_keeps_its_turns() -> None:
    turns = check_conversation(["hello", "What is an apple?", "\n and\n", "苹果"], *GREEDY, "-n", "7", "--ignore-stop")
    equal([(turn.reason, turn.n) for turn in turns], [("-n 7", 7)] * 4)
    _, second = closing(run(model("mha tied"), "-p", "hello", "-p", "again", "-n", "0")[2])
    equal(second.n_prompt, 2 + len(user_turn("again")), "each turn costs only its new tokens")
    check_conversation(["hello", "again"], *GREEDY, "-n", "1", "--ignore-stop")


def test_a_turn_that_a_stop_token_ended() -> None:
    """With random weights a stop token comes by chance: a seed is looked for with which each comes first."""
    sampling = ["--temp", "1.5", "--top-k", "0", "--top-p", "1", "--repeat-penalty", "1"]
    missing = {"<|im_end|>": IM_END, "<|endoftext|>": ENDOFTEXT}
    for seed in map(str, range(200)):
        reason = generate("mha tied", "-p", "hello", *sampling, "--seed", seed, "-n", "60")[1].reason
        if reason in missing:
            check_conversation(["hello", "again"], *sampling, "--seed", seed, "-n", "60", closed_by=missing.pop(reason))
        if not missing:
            return
    raise AssertionError(f"never ended by {list(missing)}")


def test_a_turn_that_a_text_ended() -> None:
    out, _ = generate("mha tied", "-p", "hello", *GREEDY, "-n", "9", "--ignore-stop")
    stop = next(c for c in out.decode("ascii", "ignore")[2:] if c.isprintable())
    turns = check_conversation(["hello", "again"], *GREEDY, "-n", "9", "--ignore-stop", "--stop", stop)
    equal(turns[0].reason, f'--stop "{stop}"')


def test_base_prompts_are_fresh() -> None:
    a, b, c = logits("mha tied", "-m", "base", *GREEDY, "-n", "1", "-p", "hello", "-p", "world", "-p", "hello")
    assert a == c and a != b, "a base prompt depends on what was before"


def test_context_fills_up_in_a_conversation() -> None:
    first = len(scored_ids("mha tied", "-p", "hello"))
    status, _, err = run(model("mha tied"), "-p", "hello", "-p", "again", "-n", "3", "--ignore-stop", "-c", str(first + 5))
    equal(status, 1)
    lines = err.splitlines()
    closing("".join(line + "\n" for line in lines[:2]))
    assert len(lines) == 3 and lines[2].startswith("qwen: ") and str(first + 5) in lines[2], lines


# ---------------------------------------------------------------------------------------------------------
# At a terminal
# ---------------------------------------------------------------------------------------------------------

def test_conversation_at_a_terminal() -> None:
    terminal = Terminal(model("script chat"))
    for text in ("hi", "and now?"):
        terminal.until("> ")
        terminal.send(text + "\n")
        shown = terminal.until("stopped: <|im_end|> after 5 tokens; ")
        assert shown.startswith("Red!\n"), repr(shown)
        terminal.until("speed: ")
    terminal.until("> ")
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0, "exit status after Ctrl-D")


def test_ctrl_c_at_the_prompt() -> None:
    for turns in (0, 1):
        terminal = Terminal(model("script chat"))
        for _ in range(turns):
            terminal.until("> ")
            terminal.send("hi\n")
            terminal.until("speed: ")
        terminal.until("> ")
        terminal.send(CTRL_C)
        equal(terminal.end()[0], 130, f"exit status after {turns} turns")


def test_ctrl_c_ends_a_turn_then_the_program() -> None:
    path = os.path.join(SCRATCH, "conversation.f32")
    terminal = Terminal(model("mha tied"), *GREEDY, "--ignore-stop", "-n", "1000000", "--watch", "--logits", path)
    terminal.until("> ")
    counts = []
    for text in ("hello", "again"):
        terminal.send(text + "\n")
        for _ in range(20):
            terminal.until("\n")
        terminal.send(CTRL_C)
        terminal.until("stopped: interrupted after ")
        counts.append(int(terminal.until(" ").strip()))
        terminal.until("speed: ")
        terminal.until("> ")
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0, "exit status")
    with open(path, "rb") as file:
        rows = array.array("f", file.read())
    raw = [rows[at:at + VOCAB] for at in range(0, len(rows), VOCAB)]
    equal(len(raw), sum(counts), "rows of --logits")
    new = [argmax(row) for row in raw[:counts[0]]]
    history = scored_ids("mha tied", "-p", "hello") + new + [IM_END, 10] + user_turn("again")
    expected, = following("mha tied", history, 1)
    assert difference(raw[counts[0]], expected) <= 1e-4, "an interrupted turn is not closed, or not as it was generated"


def test_two_ctrl_c() -> None:
    terminal = Terminal(model("script base"), "-n", "1000000", "-c", "1000000")
    terminal.until("> ")
    terminal.send("L\n")
    terminal.until("LLLL")
    terminal.send(CTRL_C)
    terminal.until("stopped: interrupted after ")
    terminal.until("> ")
    terminal.send(CTRL_C)
    equal(terminal.end()[0], 130, "exit status")


def test_base_lines_at_a_terminal() -> None:
    path = os.path.join(SCRATCH, "lines.f32")
    terminal = Terminal(model("mha tied"), "-m", "base", *GREEDY, "-n", "1", "--logits", path)
    for text in ("hello", "world", "hello"):
        terminal.until("> ")
        terminal.send(text + "\n")
        terminal.until("speed: ")
    terminal.until("> ")
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0)
    with open(path, "rb") as file:
        a, b, c = (file.read(4 * VOCAB) for _ in range(3))
    assert a == c and a != b, "a line is not a fresh prompt"
    equal(array.array("f", a), logits("mha tied", "-m", "base", *GREEDY, "-n", "1", "-p", "hello")[0], "its newline is no part of it")


# ---------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------

def compared(text: str) -> List[Tuple[int, str]]:
    """(tokens, reason) of the cases that --compare prints."""
    return [(int(n), reason) for n, reason in re.findall(r'(\d+) tokens; stopped: (<\|im_end\|>|<\|endoftext\|>|--stop ".*?"|-n \d+|context full)', text)]


def comparison(name: str, *args: str) -> str:
    """Standard output; each of the two runs has its closing lines on standard error."""
    status, out, err = run(model(name), *args)
    assert (status, len(closing(err))) == (0, 2), f"{args}: exit status {status}, {err!r}"
    return out.decode()


def test_compare() -> None:
    text = comparison("script chat", "--compare", model("gqa tied"), "-p", "hi", "-n", "12")
    equal(compared(text), [(12, "-n 12"), (12, "-n 12"), (5, "<|im_end|>"), (12, "-n 12")])
    assert '"Red!"' in text and "Red!<|im_end|>UV<|im_start|>w<|endoftext|>x" in text, text
    highest = [float(p) for p in re.findall(r"P\(<\|im_end\|>\) (\S+)", text)]
    assert len(highest) == 4 and highest[0] == highest[1] < 0.1 and min(highest[2:]) > 0.9, highest
    text = comparison("script chat", "--compare", model("script base"), "-p", "hi\n", "-n", "12", "-m", "base")
    equal(compared(text), [(10, "<|endoftext|>"), (12, "-n 12"), (5, "<|im_end|>"), (12, "-n 12")])
    text = comparison("script chat", "--compare", model("script base"), "-p", "K", "-n", "7", "-m", "base")
    equal(text.count("KKKKKKK"), 4, "greedy, with penalty 1")
    text = comparison("script chat", "--compare", model("script base"), "-p", "K", "-n", "7", "-m", "base", "--repeat-penalty", "1.1")
    equal(text.count("KKKKKKK"), 0)
    text = comparison("script chat", "--compare", model("script base"), "-p", "hi", "--stop", "UV")
    equal(compared(text), [(5, "<|im_end|>"), (7, '--stop "UV"')] * 2)
    status, out, _ = run(model("script chat"), "--compare", model("script base"), "-n", "12", data=b"hi\n")
    equal((status, compared(out.decode())), (0, [(5, "<|im_end|>"), (12, "-n 12")] * 2), "a prompt from standard input")


def test_compare_fits_the_width() -> None:
    with tempfile.TemporaryFile() as err:
        status, shown = Terminal(model("script chat"), "--compare", model("script base"), "-p", "L", "-m", "base", stdin=subprocess.DEVNULL, stderr=err).end()
    equal(status, 0)
    lines = shown.decode().splitlines()
    assert max(map(len, lines)) <= 100 and max(map(len, lines)) > 90 and len(compared(shown.decode())) == 4, lines


def test_info() -> None:
    text = output("gqa untied", "--info")
    for word in ("chat", "bf16", "96", "130", "3", "4", "1", "20", "421", "32768", "1e+06", "1e-06", "0.7", "0.8", "1.1",
                 str(IM_END), str(ENDOFTEXT), "<|im_end|>", "<|endoftext|>", "You are a helpful assistant", export.unicodedata.unidata_version):
        assert re.search(r"(^|[\s,(])" + re.escape(word) + r"($|[\s,)])", text, re.M), f"no {word!r} in {text!r}"
    assert re.search(r"^kind\s+base", output("gqa tied", "--info"), re.M)


def test_logits_file() -> None:
    for n in (0, 1, 24):
        equal(len(following("gqa tied", [1, 2, 3], n, vocab=1531)), n)
    equal(len(logits("script chat", "-p", "hi")), 5, "the stop token counts")
    equal(len(logits("script chat", "-p", "hi", "-p", "ho")), 10)
    equal(len(logits("script chat", "-p", "hi", "--stop", "d!")), 4)
    ids = scored_ids("mha tied", "-p", "hello")
    rows = logits("mha tied", "-p", "hello", "--score")
    equal(len(rows), len(ids))
    flags = ["-p", "hello", "-n", "1", "--temp", "0.3", "--repeat-penalty", "1.8", "--top-k", "3"]
    assert difference(logits("mha tied", *flags)[0], rows[-1]) <= 1e-4, "not the logits before penalty and temperature"


def perplexity(path: str, *args: str) -> float:
    status, out, err = run(path, *args, "--score")
    assert status == 0, err
    return float(out.decode().splitlines()[-1].split()[1])


def test_quantize() -> str:
    texts: Dict[str, List[str]] = {name: ids_flag(random_ids("quantize", 400, VOCAB)) for name in ("mha tied", "gqa untied", "from f32")}
    facts = [("an apple", "red"), ("a banana", "yellow"), ("a pig", "pink"), ("a lion", "yellow"), ("a carrot", "orange"), ("a wolf", "grey")]
    tiny = {"base": "".join(f"{thing.capitalize()} is {colour}. " for thing, colour in facts),
            "chat": "".join(f"<|im_start|>user\nWhat colour is {thing}?<|im_end|>\n<|im_start|>assistant\n"
                            f"{thing.capitalize()} is {colour}.<|im_end|>\n" for thing, colour in facts)}
    texts.update({f"tiny {kind}": ["-m", "base", "-p", text] for kind, text in tiny.items() if os.path.exists(os.path.join(ROOT, "tiny", kind))})
    worst = 0.0
    for name, prompt in texts.items():
        path = os.path.join(SCRATCH, name + " int8.bin")
        status, out, _ = run(model(name), "--quantize", path)
        equal((status, out), (0, b""), name)
        assert os.path.getsize(path) < os.path.getsize(model(name))
        change = abs(perplexity(path, *prompt) / perplexity(model(name), *prompt) - 1)
        assert change <= 0.01, f"{name}: perplexity changes by {100 * change:.2f} %"
        worst = max(worst, change)
        info = run(path, "--info")[1].decode()
        assert "int8" in info
        differing = [a for a, b in zip(info.splitlines(), output(name, "--info").splitlines()) if a != b]
        assert len(differing) == 1 and differing[0].startswith("weights"), differing
        again = os.path.join(SCRATCH, "again.bin")
        check_error(1, run(path, "--quantize", again), "int8")
        assert not os.path.exists(again) and not os.path.exists(again + ".tmp")
        os.remove(path)
    return f"perplexity changes by {100 * worst:.2f} % at most"


def test_int8_threads_and_batches() -> str:
    path = os.path.join(SCRATCH, "int8.bin")
    equal(run(model("gqa tied"), "--quantize", path)[0], 0)
    ids, out = ids_flag(random_ids("int8", 300, 1531)), os.path.join(SCRATCH, "int8.f32")

    def rows(*args: str) -> bytes:
        equal(run(path, *ids, *args, "--logits", out)[0], 0)
        with open(out, "rb") as file:
            return file.read()

    last = ["-n", "1", "--greedy", "--ignore-stop"]
    one = rows("-t", "1", *last)
    for threads in "237":
        assert rows("-t", threads, *last) == one, f"other bits with {threads} threads"
    # A token by itself is rounded to 16 bits where it meets int8 weights, a batch is not.
    return within(2e-3, difference(array.array("f", rows("--score")[-4 * 1531:]), array.array("f", one)))


# ---------------------------------------------------------------------------------------------------------
# Wrong command lines, files and prompts
# ---------------------------------------------------------------------------------------------------------

WRONG = [
    "--bogus", "-x", "-n", "-n x", "-n -1", "-n 1.5", "-n ''", "-n 99999999999999999999", "-n 0x10", "-t 0", "-t x", "-c 0", "-c -5", "-c 1e3",
    "--temp -1", "--temp nan", "--temp inf", "--temp 1x", "--temp ''", "--top-p 1.5", "--top-p -0.1", "--top-p nan", "--top-k -1", "--top-k 1.5",
    "--repeat-penalty 0", "--repeat-penalty -1", "--repeat-penalty nan", "--seed -1", "--seed x", "--seed 99999999999999999999999", "-m both", "-m ''", "--stop ''", "-p",
    "--ids ''", "--ids ' '", "--ids '1 x'", "--ids 1,2", "--ids -1", f"--ids {VOCAB}", "--ids 99999999999999999999", "--ids 4294967297", "--ids 1.0",
    "--ids 1 -p hi", "--ids 1 -s hi", "-s hi -m base -p hi", "--watch --score -p hi", "--score --stop x -p hi", "--compare {base} --score -p hi",
    "--compare {base} --watch -p hi", "--compare {base} --ids 1", "--info -p hi", "--quantize {scratch}/x.bin -p hi", "{base} -p hi",
]


def test_wrong_command_lines() -> None:
    places = {"base": model("script base"), "scratch": SCRATCH}
    for line in WRONG:
        args = [text or quoted for quoted, text in re.findall(r"'([^']*)'|(\S+)", line)]
        try:
            check_error(2, run(model("script chat"), *[arg.format(**places) for arg in args], data=b"hi"))
        except AssertionError as error:
            raise AssertionError(f"{line}: {error}") from None
    check_error(2, run(model("script base"), "-s", "hi", "-p", "hi"), "-s")
    check_error(2, run(None))
    assert not os.path.exists(os.path.join(SCRATCH, "x.bin"))


def test_help() -> None:
    for flag in ("-h", "--help"):
        status, out, err = run(None, flag)
        equal((status, err), (0, ""))
        text = out.decode()
        assert text.startswith("usage: ./qwen MODEL.bin [options]\n"), text[:100]
        for name in ("-p, --prompt", "-s, --system", "-m, --mode", "--ids", "-n, --max-tokens", "--stop", "--ignore-stop", "--compare", "--watch", "--score",
                     "--temp", "--top-k", "--top-p", "--repeat-penalty", "--seed", "--greedy", "-c, --context", "-t, --threads", "--info", "--quantize", "--logits"):
            assert name in text, name


def test_empty_base_prompts() -> None:
    for args in (["-p", ""], [], ["-p", "", "--score"]):
        check_error(1, run(model("script base"), *args), "empty")
    check_error(1, run(model("script base"), data=b"\n"), "empty")
    check_error(1, run(model("script chat"), "-m", "base", "-p", ""), "empty")


def test_bad_files() -> None:
    path = os.path.join(SCRATCH, "bad.bin")
    with open(model("script base"), "rb") as file:
        data = file.read()
    for content in (b"", b"hello", data[:1024], data[:-1], data + b"\0", b"version https://git-lfs.github.com/spec/v1\n"):
        with open(path, "wb") as file:
            file.write(content)
        check_error(1, run(path, "-p", "hi"), "bad.bin")
        check_error(1, run(path, "--info"), "bad.bin")
        check_error(1, run(model("script chat"), "--compare", path, "-p", "hi"), "bad.bin")
    check_error(1, run(path, "-p", "hi"), "git lfs pull")
    check_error(1, run(SCRATCH, "-p", "hi"), SCRATCH)
    check_error(1, run(os.path.join(SCRATCH, "none.bin"), "-p", "hi"), "none.bin")


def test_files_that_cannot_be_written() -> None:
    nowhere = os.path.join(SCRATCH, "nowhere", "out")
    check_error(1, run(model("script base"), "-p", "L", "-n", "1", "--logits", nowhere), nowhere)
    check_error(1, run(model("script base"), "--quantize", nowhere), nowhere)
    path = os.path.join(SCRATCH, "none.f32")
    check_error(1, run(model("script base"), "-p", "LLLL", "-c", "2", "--logits", path))
    assert not os.path.exists(path) and not os.path.exists(path + ".tmp"), "a partial file"


def test_a_template_that_is_not_chatml() -> None:
    directory, path = os.path.join(SCRATCH, "other"), os.path.join(SCRATCH, "other.bin")
    make_checkpoint(directory, dim=8, layers=1, heads=1, kv_heads=1, hidden=8)
    config = os.path.join(directory, "tokenizer_config.json")
    with open(config, encoding="utf-8") as file:
        values = json.load(file)
    values["chat_template"] = "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"
    with open(config, "w", encoding="utf-8") as file:
        json.dump(values, file)
    export_model(directory, path)
    check_error(1, run(path, "-p", "hi"), "ChatML")
    equal(run(path, "-p", "hi", "-m", "base", "-n", "1")[0], 0)


def main() -> int:
    global QWEN, SCRATCH
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", metavar="WORD", default="", help="only tests whose name holds this")
    parser.add_argument("qwen", metavar="QWEN", help="the program")
    args = parser.parse_args()
    QWEN = os.path.abspath(args.qwen)
    export.say = lambda *parts: None
    with tempfile.TemporaryDirectory(prefix="test_qwen.") as SCRATCH:
        try:
            return run_tests("qwen", globals(), args.only)
        finally:
            for process in STARTED:
                if process.poll() is None:
                    process.kill()


if __name__ == "__main__":
    sys.exit(main())
