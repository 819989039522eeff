"""Tests of ./qwen and ./tokenizer on 5,000 model files that lie.

    python3 tests/test_malformed.py ./qwen ./tokenizer

Each check of a file has a row in the first tables: values that must be refused, and the nearest
that are accepted. Whatever stands in a file, the programs end, without much memory, with 0 or 1,
and never by a signal. A line per test, `ok   NAME` or `FAIL NAME: reason`; exit status 1 if one
failed. Standard library only.
"""
from __future__ import annotations

import functools
import math
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from typing import Any, Dict, Iterator, List, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from binfile import FIELDS, HEADER_SIZE, get, resize, with_fields       # noqa: E402
from harness import PATIENCE, run_tests                                 # noqa: E402
from make_checkpoint import make_checkpoint                             # noqa: E402
from test_tokenizer import layout                                       # noqa: E402

File = Tuple[str, bytes]                # what was done to it, and the file
MOST_MEMORY = 256 << 20
COUNTS = 64                             # bytes of the counts that open the tokenizer section
LIMITS = (0, 1, 2, 3, 17, 0xFFFF, 0x10000, 0x10FFFF, 0x110000, 1 << 24, (1 << 24) + 1, 0x7F7FFFFF,
          0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0x80000000, 0xC0000000, 0xFF800000, 0xFFFFFFFE,
          0xFFFFFFFF)                   # of sizes, ids and characters; FLT_MAX, inf, nan
TEXT = "It's 3.14, hello  world\n\n苹果是 e\u0301\u0323 한 <|im_end|>"
NONE = 0xFFFFFFFF
NAN, INF = math.nan, math.inf


def set_u32(data: bytes, *changes: Tuple[int, int]) -> bytes:
    """The file with numbers changed: (offset, value) each."""
    changed = bytearray(data)
    for at, value in changes:
        struct.pack_into("<I", changed, at, value & 0xFFFFFFFF)
    return bytes(changed)


def with_section(data: bytes, arrays: Dict[str, bytes], **counts: int) -> bytes:
    """The file with other arrays in its tokenizer section, which may have other sizes."""
    names = "n_vocab n_added n_slots n_blocks n_decompositions n_compositions n_bytes".split()
    section = bytearray(data[HEADER_SIZE:HEADER_SIZE + COUNTS])
    for name, value in counts.items():
        struct.pack_into("<I", section, 4 * names.index(name), value)
    for name, (begin, size) in layout(data).items():
        section += bytes(-len(section) % 64) + arrays.get(name, data[begin:begin + size])
    weights = data[get(data, "weights_offset"):]
    end = HEADER_SIZE + len(section)
    padding = bytes(-end % 64)
    header = with_fields(data[:HEADER_SIZE], tokenizer_size=len(section),
                         weights_offset=end + len(padding),
                         file_size=end + len(padding) + len(weights))
    return header + bytes(section) + padding + weights


def array(data: bytes, name: str) -> List[int]:
    """An array of the tokenizer section, as u32."""
    begin, size = layout(data)[name]
    return list(struct.unpack_from(f"<{size // 4}I", data, begin))


def packed(values: List[int]) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def long_token(data: bytes, size: int) -> bytes:
    """The file with so many bytes more in token 0, and weights of zero, for which token 0 is as
    likely as any."""
    starts = array(data, "token_start")
    starts = starts[:1] + [start + size for start in starts[1:]]
    begin, length = layout(data)["bytes"]
    text = b"x" * size + data[begin:begin + length]
    longer = with_section(data, {"token_start": packed(starts), "bytes": text}, n_bytes=len(text))
    offset = get(longer, "weights_offset")
    return longer[:offset] + bytes(len(longer) - offset)


# ---------------------------------------------------------------------------------------------
# What must be refused, and the nearest that is not
# ---------------------------------------------------------------------------------------------

SMALL = dict(dim=1, hidden_dim=1, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=2)
SWITCH = ((2, 3, NONE), (0, 1))
# Fields of the header: refused values, accepted values; the file is resized to what it implies.
# n stands for vocab_size, v for the number of tokens.
FIELD_TABLE: Tuple[Tuple[str, Tuple[Any, ...], Tuple[Any, ...]], ...] = (
    ("version", (0, 1, 3, NONE), (2,)), ("header_size", (0, 1024, 1151, 1153), (1152,)),
    ("dim", (0, (1 << 20) + 1, NONE), (1, 2, 9)),
    ("hidden_dim", (0, (1 << 20) + 1, NONE), (1, 1 << 20)),
    ("n_layers", (0, 4097, NONE), (1, 3)),
    ("head_dim", (0, 1, 3, 5, 4097, 4098, NONE), (2, 6, 4096)),
    ("n_heads", (0, 4097, NONE), (1, 3, 4096)), ("n_kv_heads", (0, 3, NONE), (1, 2)),
    ("vocab_size", (0, "v-1", (1 << 24) + 1, NONE), ("v",)),
    ("max_positions", (0, (1 << 24) + 1, NONE), (1, 1 << 24)),
    ("tied", *SWITCH), ("qkv_bias", *SWITCH), ("qk_norm", *SWITCH), ("kind", *SWITCH),
    ("chatml", *SWITCH), ("cuts_reasoning", *SWITCH), ("do_sample", *SWITCH),
    ("opening", (3, NONE), (0, 1, 2)), ("weight_type", (2, NONE), ()),
    ("rms_eps", (-1e-30, 1.0, NAN, INF), (1e-30, 0.1)),
    ("rope_theta", (0.0, -1.0, NAN, INF, -INF), (1.0, 1e15)),
    ("im_start", ("n", NONE), ("n-1",)), ("im_end", ("n", NONE), ("n-1",)),
    ("endoftext", ("n", NONE), ("n-1",)), ("eos0", ("n", NONE), ("n-1",)),
    ("tokenizer_eos", ("n", NONE - 1), ("n-1", NONE)),
    ("n_eos", (33, NONE), (0, 1, 32)),
    ("max_new_tokens", (1 << 31, NONE), (0, 1, (1 << 31) - 1)),
    ("temperature", (-1e-6, NAN, INF), (0.0, 1e6)), ("top_k", (1 << 31, NONE), (0, (1 << 31) - 1)),
    ("top_p", (-1e-6, 1.0001, NAN), (0.0, 1.0)), ("min_p", (-1e-6, 1.0001, NAN), (0.0, 1.0)),
    ("repetition_penalty", (0.0, -1.0, NAN, INF), (1e-6, 1e6)),
    ("system_size", (769, NONE), (0, 768)), ("name", (b"x" * 64,), (b"x" * 63 + b"\0",)),
    ("magic", (b"qwen.c\n\1", b"QWEN.c\n\0"), ()),
)
# Several fields at once.
COMBINATIONS: Tuple[Tuple[Dict[str, int], bool], ...] = (
    (dict(n_heads=4, n_kv_heads=2), True), (dict(n_heads=3, n_kv_heads=2), False),
    (dict(n_heads=6, n_kv_heads=4), False), (dict(SMALL, n_layers=4096), True),
    (dict(SMALL, n_heads=4096, n_kv_heads=4096), True), (dict(SMALL, vocab_size=1 << 22), True),
    (dict(weight_type=1, group_size=64), True), (dict(weight_type=1, group_size=0), False),
    (dict(weight_type=1, group_size=63), False), (dict(weight_type=1, group_size=65), False),
    (dict(weight_type=0, group_size=64), False), (dict(weight_type=0, group_size=0), True),
    (dict(n_eos=32, eos31=NONE), False), (dict(n_eos=31, eos31=NONE), True),
)


def header_table(data: bytes) -> Iterator[Tuple[str, bytes, bool]]:
    """(what, file, whether it is accepted)"""
    places = {"n": get(data, "vocab_size"), "n-1": get(data, "vocab_size") - 1,
              "v": len(array(data, "token_start")) - 1, "v-1": len(array(data, "token_start")) - 2}
    huge = {"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "vocab_size"}
    for field, refused, accepted in FIELD_TABLE:
        for value in (*refused, *accepted):
            changes = {field: places.get(value, value) if isinstance(value, str) else value}
            if field == "n_heads" and value in accepted:
                changes["n_kv_heads"] = 1
            if field == "vocab_size":                   # no id may point past it
                changes.update(im_start=0, im_end=1, endoftext=2, tokenizer_eos=NONE, eos0=0,
                               eos1=0)
            changed = with_fields(data, **changes)
            # what implies a file of terabytes is refused by its number, before its size
            fits = field not in huge or isinstance(value, str) or value <= 1 << 20
            yield f"{field} = {value}", resize(changed) if fits else changed, value in accepted
    for changes, accepted in COMBINATIONS:
        yield str(changes), resize(with_fields(data, **changes)), accepted
    end = len(data)
    for field in ("file_size", "tokenizer_offset", "tokenizer_size", "weights_offset",
                  "weights_size"):
        value = get(data, field)
        for other in (0, value - 64, value - 1, value + 1, value + 64, end + 64, 1 << 40,
                      (1 << 64) - 64):
            yield f"{field} = {other}", with_fields(data, **{field: other}), False
    yield "a byte more", data + b"\0", False
    yield "a byte less", data[:-1], False
    yield "a tensor less", with_fields(data[:-128], file_size=end - 128,
                                       weights_size=get(data, "weights_size") - 128), False
    yield "a tensor more", with_fields(data + bytes(128), file_size=end + 128,
                                       weights_size=get(data, "weights_size") + 128), False


def tokenizer_table(data: bytes) -> Iterator[Tuple[str, bytes, bool]]:
    starts, added, merges = (array(data, name) for name in ("token_start", "added", "merges"))
    n_vocab, n_slots, empty = len(starts) - 1, len(merges) // 4, [0, 0, 0, NONE]

    def token_start(**changes: int) -> bytes:
        changed = list(starts)
        for place, value in changes.items():
            changed[int(place[1:])] = value
        return with_section(data, {"token_start": packed(changed)})

    def slots(values: List[int]) -> bytes:
        return with_section(data, {"merges": packed(values)}, n_slots=len(values) // 4)

    last = f"_{n_vocab}"
    yield "the tokens end before their bytes", token_start(**{last: starts[-1] - 1}), False
    yield "the tokens end after their bytes", token_start(**{last: starts[-1] + 1}), False
    yield "the first token begins at 1", token_start(_0=1), False
    yield "a token of negative length", token_start(_5=starts[6] + 1), False
    yield "an empty token", token_start(_5=starts[6]), True
    for flags in (0, 0x40000000, 0x80000000, 0xC0000000):
        for i, accepted in ((5, False), (7, True), (n_vocab - 1, True), (n_vocab, False)):
            ids = packed([flags | i] + added[1:])
            changed = list(starts)
            changed[5] = changed[6]                     # token 5 is empty
            yield (f"added token {flags | i:#x}", with_section(
                data, {"token_start": packed(changed), "added": ids}), accepted)
    yield "an added token with a third flag", with_section(
        data, {"added": packed([0x20000000 | added[0]] + added[1:])}), False
    for n, accepted in ((0, False), (1, False), (2, True), (3, False), (4, True), (6, False)):
        yield f"{n} slots", slots(empty * n), accepted
    yield "more slots, but no power of two", slots(merges + empty * n_slots + empty), False
    full = [value if i % 4 < 3 or value != NONE else 0 for i, value in enumerate(merges)]
    yield "no empty slot", slots(full), False
    yield "one empty slot", slots(full[:-4] + empty), True
    yield "a merge into no token", slots([0, 1, 0, n_vocab] + merges[4:]), False
    yield "a merge into the last token", slots([0, 1, 0, n_vocab - 1] + merges[4:-4] + empty), True
    for i, accepted in ((n_vocab, False), (NONE, False), (n_vocab - 1, True)):
        ids = array(data, "byte_id")
        yield f"byte 65 is token {i}", with_section(
            data, {"byte_id": packed(ids[:65] + [i] + ids[66:])}), accepted
    begin, size = layout(data)["block"]
    n_blocks, = struct.unpack_from("<I", data, HEADER_SIZE + 12)
    for block, accepted in ((n_blocks - 1, True), (n_blocks, False), (0xFFFF, False)):
        for at in (begin, begin + size - 2):
            yield (f"block {block} at {at}",
                   data[:at] + struct.pack("<H", block) + data[at + 2:], accepted)
    for name in ("decompositions", "compositions"):
        begin, size = layout(data)[name]
        for at in (begin, begin + 4, begin + 8, begin + size - 4):
            for code, accepted in ((0x10FFFF, True), (0x110000, False), (NONE, False)):
                yield f"{name}: {code:#x} at {at}", set_u32(data, (at, code)), accepted
    for field, values in (("n_vocab", (0, n_vocab - 1, n_vocab + 1, get(data, "vocab_size") + 1)),
                          ("n_bytes", (0, starts[-1] - 1, starts[-1] + 1))):
        at = HEADER_SIZE + 4 * ("n_vocab", "", "", "", "", "", "n_bytes").index(field)
        for value in values:
            yield f"{field} = {value}", set_u32(data, (at, value)), False
    for size in range(64):                              # wherever the section ends
        yield f"token 0 has {size} bytes more", long_token(data, size), True
    for size, accepted in ((65536 - 1, True), (65536, False)):      # token 0 has a byte already
        yield f"a token of {size + 1} bytes", long_token(data, size), accepted


# ---------------------------------------------------------------------------------------------
# Sweeps
# ---------------------------------------------------------------------------------------------

def header_bytes(data: bytes) -> Iterator[File]:
    for at in range(HEADER_SIZE):
        for value in (0, 0xFF, data[at] ^ 0xFF):
            yield f"byte {at} is {value:#x}", data[:at] + bytes([value]) + data[at + 1:]


def truncations(data: bytes) -> Iterator[File]:
    for size in range(0, 65536, 64):
        yield f"cut at {size}", data[:size]
    for size in range(HEADER_SIZE, 65536, 512):         # the same, and a header that knows
        yield f"cut at {size} by its header too", with_fields(
            data[:size], file_size=size, tokenizer_size=size - HEADER_SIZE, weights_offset=size,
            weights_size=0)


def header_numbers(data: bytes) -> Iterator[File]:
    for field, (at, kind) in FIELDS.items():
        for value in LIMITS if kind == "I" else ():
            yield f"{field} is {value:#x}", set_u32(data, (at, value))
        for number in (0.0, -0.0, 1e-45, -1.0, 1e30, -1e30, INF, -INF, NAN) if kind in "fd" else ():
            yield f"{field} is {number}", with_fields(data, **{field: number})
        for value in (0, 1, 64, len(data) + 64, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63,
                      (1 << 64) - 64, (1 << 64) - 1) if kind == "Q" else ():
            yield f"{field} is {value:#x}", with_fields(data, **{field: value})


def tokenizer_numbers(data: bytes) -> Iterator[File]:
    for at in range(HEADER_SIZE, HEADER_SIZE + COUNTS, 4):
        for value in LIMITS:
            yield f"the tokenizer's count at {at} is {value:#x}", set_u32(data, (at, value))
    for name, (begin, size) in layout(data).items():
        for at in (begin, begin + 4, begin + size // 8 * 4, begin + (size - 4) // 4 * 4):
            for value in LIMITS:
                yield f"{name} at {at} is {value:#x}", set_u32(data, (at, value))


def moved_sections(data: bytes) -> Iterator[File]:
    size, offset, weights = (get(data, field) for field in ("tokenizer_size", "weights_offset",
                                                            "weights_size"))
    for by in (-1024, -64, -4, -1, 1, 4, 64, 1024):
        for field in ("tokenizer_offset", "tokenizer_size", "weights_offset", "weights_size"):
            yield f"{field} moved by {by}", with_fields(data, **{field: get(data, field) + by})
        yield f"tokenizer and weights meet {by} bytes on", with_fields(
            data, tokenizer_size=size + by, weights_offset=offset + by, weights_size=weights - by)
        body = data[HEADER_SIZE:]
        yield (f"all after the header rolled by {by}",
               data[:HEADER_SIZE] + body[by:] + body[:by])
    for name, (begin, size) in layout(data).items():
        for what, content in (("zeros", bytes(size)), ("ones", b"\xff" * size),
                              ("text", (b"<|im_end|>" * size)[:size]),
                              ("reversed", data[begin:begin + size][::-1]),
                              ("moved by 4", data[begin + 4:begin + size + 4])):
            yield f"{name} is {what}", data[:begin] + content + data[begin + size:]
    for what, number in (("zero", 0), ("NaN", 0x7FC07FC0), ("infinity", 0x7F807F80),
                         ("huge", 0x7F7F7F7F), ("minus huge", 0xFF7FFF7F)):
        yield f"all weights are {what}", (data[:offset] + struct.pack("<I", number) * (weights // 4)
                                          + bytes(weights % 4))


def other_shapes(data: bytes) -> Iterator[File]:
    """Headers and counts that lie about the shape, in a file of the size that they imply."""
    yield "one token of 8 MB, always the next", long_token(data, 8 << 20)
    for field in ("dim hidden_dim n_layers n_heads n_kv_heads head_dim vocab_size tied qkv_bias "
                  "qk_norm").split():
        for value in (0, 1, 2, 3, 5, 7, 8, 31, 32, 33, 63, 64, 65, 255, 1000):
            yield f"{field} is {value}, resized", resize(with_fields(data, **{field: value}))
    for value in (1, 512, 4096, 4097):
        yield f"{value} layers of 1", resize(with_fields(data, **{**SMALL, "n_layers": value}))
        yield f"{value} heads", resize(with_fields(data, n_layers=1, n_heads=value, n_kv_heads=1))
        yield f"head_dim is {value}", resize(with_fields(data, n_layers=1, n_heads=1, n_kv_heads=1,
                                                         head_dim=value))
    for positions in (1, 2, 1 << 20, 1 << 24):
        yield f"max_positions is {positions}, 64 layers", resize(
            with_fields(data, n_layers=64, max_positions=positions))


def random_changes(data: bytes) -> Iterator[File]:
    rng = random.Random(1)
    end = get(data, "weights_offset")
    for i in range(400):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 10, 1000))):
            at = rng.randrange(HEADER_SIZE + COUNTS, rng.choice((2048, end, len(data))))
            changed[at] = rng.choice((0, 0xFF, changed[at] ^ 1 << rng.randrange(8),
                                      rng.randrange(256)))
        yield f"random change {i}", bytes(changed)


# ---------------------------------------------------------------------------------------------
# The runs
# ---------------------------------------------------------------------------------------------

class Runner:
    """Runs the programs on one file after the other, in the same place."""

    def __init__(self, qwen: str, tokenizer: str, scratch: str):
        self.model = os.path.join(scratch, "model.bin")
        self.errors = os.path.join(scratch, "errors")
        run = [qwen, self.model, "-t", "1"]
        self.commands = [
            [*run, "--ids", "1 2 3", "-c", "20", "--seed", "1"],
            [*run, "-p", TEXT, "-n", "64", "--greedy"], [qwen, self.model, "--info"],
            [*run, "-m", "base", "-p", TEXT, "--score"], [tokenizer, self.model, TEXT],
            [*run, "-p", "hi", "--answer", TEXT]]
        self.actions = [
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.errors, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)]
        self.file = os.open(self.model, os.O_RDWR | os.O_CREAT, 0o600)
        self.n_refused = 0

    def problem(self, data: bytes, command: List[str], most: float = MOST_MEMORY) -> str:
        """What is wrong with how the program took the file; "" if nothing."""
        os.pwrite(self.file, data, 0)
        os.ftruncate(self.file, len(data))
        child = os.posix_spawn(command[0], command, os.environ, file_actions=self.actions)
        watch = threading.Timer(PATIENCE, os.kill, (child, signal.SIGKILL))
        watch.start()
        _, status, usage = os.wait4(child, 0)
        watch.cancel()
        memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        with open(self.errors, "rb") as file:
            errors = file.read()
        if os.WIFSIGNALED(status):
            return f"ended by signal {os.WTERMSIG(status)}"
        if memory > most:
            return f"took {memory >> 20} MB"
        if os.WEXITSTATUS(status) == 0:
            return ""
        self.n_refused += 1
        named = b"model.bin" in errors or b"the prompt is" in errors    # of a context too short
        one_line = errors.startswith((b"qwen: ", b"tokenizer: ")) and errors.count(b"\n") == 1
        if os.WEXITSTATUS(status) == 1 and one_line and named:
            return ""
        return f"exit status {os.WEXITSTATUS(status)}, {errors[:300]!r}"


def sweep(runner: Runner, files: Iterator[File]) -> str:
    """Gives each file to one of the programs."""
    problems, n, n_refused = [], 0, runner.n_refused
    for n, (what, data) in enumerate(files, 1):
        command = runner.commands[n % len(runner.commands)]
        problem = runner.problem(data, command)
        if problem:
            problems.append(f"{what}: {problem} ({' '.join(command[2:])})")
    assert not problems, f"{len(problems)} of {n} files, the first: {problems[0]}"
    return f"{n} files, {runner.n_refused - n_refused} refused"


def check_table(runner: Runner, files: Iterator[Tuple[str, bytes, bool]]) -> str:
    """Each file is refused by --info, or accepted and can be run."""
    wrong, n = [], 0
    for n, (what, data, accepted) in enumerate(files, 1):
        before = runner.n_refused
        problem = runner.problem(data, runner.commands[2], INF)     # at the edges they are large
        refused = runner.n_refused > before
        if not problem and accepted:
            problem = runner.problem(data, runner.commands[n % 2], INF)
        if problem or refused == accepted:
            wrong.append(f"{what}: {problem or ('refused' if refused else 'accepted')}")
    assert not wrong, f"{len(wrong)} of {n} files: {'; '.join(wrong[:8])}"
    return f"{n} files"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        path, checkpoint = os.path.join(scratch, "small.bin"), os.path.join(scratch, "checkpoint")
        make_checkpoint(checkpoint, dim=8, layers=1, heads=2, kv_heads=1, hidden=8, tied=False,
                        context=512)
        subprocess.run([sys.executable, os.path.join(ROOT, "export.py"), checkpoint, path],
                       check=True, stderr=subprocess.PIPE)
        with open(path, "rb") as file:
            data = file.read()
        runner = Runner(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), scratch)
        for command in runner.commands:
            problem = runner.problem(data, command)
            assert not problem and not runner.n_refused, f"{command}: {problem}"
        tests = {f"test_{table.__name__}": functools.partial(check_table, runner, table(data))
                 for table in (header_table, tokenizer_table)}
        kinds = (header_bytes, truncations, header_numbers, tokenizer_numbers, moved_sections,
                 other_shapes, random_changes)
        tests.update({f"test_{files.__name__}": functools.partial(sweep, runner, files(data))
                      for files in kinds})
        return run_tests("malformed", {**tests, "__file__": __file__})


if __name__ == "__main__":
    sys.exit(main())
