"""Tests of ./qwen and ./tokenizer on model files that lie: 5,000 files, each of which is refused in one line or read.

    python3 tests/test_malformed.py ./qwen ./tokenizer

Whatever stands in a file, the program ends, without much memory, with 0 or 1, and never by a signal. A line per
test, `ok   NAME` or `FAIL NAME: reason`; exit status 1 if one failed. Standard library only.
"""
from __future__ import annotations

import functools
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from typing import Iterator, List, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from harness import run_tests                                           # noqa: E402
from make_checkpoint import make_checkpoint                             # noqa: E402
from test_tokenizer import layout                                       # noqa: E402

File = Tuple[str, bytes]                    # what was done to it, and the file
PATIENCE = 600                              # seconds, until a program counts as hung; a run takes 2 ms
MOST_MEMORY = 256 << 20
HEADER, COUNTS = 1024, 64                   # bytes of the header, and of the counts that open the tokenizer section
LIMITS = (0, 1, 2, 3, 17, 0xFFFF, 0x10000, 0x10FFFF, 0x110000, 1 << 24, (1 << 24) + 1, 0x7F7FFFFF, 0x7F800000, 0x7FC00000,
          0x7FFFFFFF, 0x80000000, 0xFF800000, 0xFFFFFFFE, 0xFFFFFFFF)   # of sizes, ids and characters; FLT_MAX, inf, nan
FIELDS = {name: 64 + 4 * i for i, name in enumerate(
    "dim hidden_dim n_layers n_heads n_kv_heads head_dim vocab_size max_positions tied rms_eps rope_theta rope_theta_high kind "
    "chatml im_start im_end endoftext n_eos eos0 eos1 eos2 eos3 eos4 eos5 eos6 eos7 do_sample temperature top_k top_p "
    "repetition_penalty system_size".split())}
TEXT = "It's 3.14, hello  world\n\n苹果是 e\u0301\u0323 한 <|im_end|>"


def set_u32(data: bytes, *changes: Tuple[int, int]) -> bytes:
    """The file with numbers changed: (offset, value) each."""
    changed = bytearray(data)
    for at, value in changes:
        struct.pack_into("<I", changed, at, value & 0xFFFFFFFF)
    return bytes(changed)


def resize(data: bytes) -> bytes:
    """The file with as many bytes of weights as the header's shape asks for, and sizes that agree."""
    weight_type, _, dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size, _, tied = struct.unpack_from("<11I", data, 56)
    offset, = struct.unpack_from("<Q", data, 40)
    end = offset

    def add(rows: int, cols: int = 0) -> None:
        nonlocal end
        row_size = 4 if cols == 0 else 2 * cols if weight_type == 0 else (cols + 3) // 4 * 4 + (cols + 63) // 64 * 4
        end = (end + 63) // 64 * 64 + rows * row_size

    add(vocab_size, dim)
    for _ in range(n_layers):
        add(dim)
        for rows in (n_heads * head_dim, n_kv_heads * head_dim, n_kv_heads * head_dim):
            add(rows, dim)
            add(rows)
        for rows, cols in ((dim, n_heads * head_dim), (dim, 0), (hidden_dim, dim), (hidden_dim, dim), (dim, hidden_dim)):
            add(rows, cols)
    add(dim)
    if not tied:
        add(vocab_size, dim)
    changed = bytearray((data + data[offset:] * (end // (len(data) - offset) + 1))[:end])
    struct.pack_into("<Q", changed, 16, end)
    struct.pack_into("<Q", changed, 48, end - offset)
    return bytes(changed)


def long_token(data: bytes, size: int) -> bytes:
    """The file with so many bytes more in token 0, and weights of zero, for which token 0 is as likely as any."""
    arrays = layout(data)
    starts, bytes_at = arrays["token_start"][0], arrays["bytes"][0]
    weights_offset, weights_size = struct.unpack_from("<2Q", data, 40)
    longer = bytearray(data[:bytes_at] + b"x" * size + data[bytes_at:sum(arrays["bytes"])])
    for at in (1024 + 24, *range(starts + 4, sum(arrays["token_start"]), 4)):
        struct.pack_into("<I", longer, at, struct.unpack_from("<I", data, at)[0] + size)
    end = (len(longer) + 63) // 64 * 64
    struct.pack_into("<5Q", longer, 16, end + weights_size, HEADER, len(longer) - HEADER, end, weights_size)
    return bytes(longer).ljust(end + weights_size, b"\0")


# ---------------------------------------------------------------------------------------------------------
# The files
# ---------------------------------------------------------------------------------------------------------

def header_bytes(data: bytes) -> Iterator[File]:
    for at in range(HEADER):
        for value in (0, 0xFF, data[at] ^ 0xFF):
            yield f"byte {at} is {value:#x}", data[:at] + bytes([value]) + data[at + 1:]


def truncations(data: bytes) -> Iterator[File]:
    for size in range(0, 65536, 64):
        yield f"cut at {size}", data[:size]
    for size in range(HEADER, 65536, 512):              # the same, and a header that knows
        changed = bytearray(data[:size])
        struct.pack_into("<5Q", changed, 16, size, HEADER, size - HEADER, size, 0)
        yield f"cut at {size} by its header too", bytes(changed)


def header_numbers(data: bytes) -> Iterator[File]:
    for name, at in FIELDS.items():
        for value in LIMITS:
            yield f"{name} is {value:#x}", set_u32(data, (at, value))
    for at in range(16, 56, 8):
        for value in (0, 1, 64, len(data) + 64, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 64, (1 << 64) - 1):
            yield f"the u64 at {at} is {value:#x}", set_u32(data, (at, value), (at + 4, value >> 32))


def tokenizer_numbers(data: bytes) -> Iterator[File]:
    for at in range(HEADER, HEADER + COUNTS, 4):
        for value in LIMITS:
            yield f"the tokenizer's count at {at} is {value:#x}", set_u32(data, (at, value))
    for name, (begin, size) in layout(data).items():
        for at in (begin, begin + 4, begin + size // 8 * 4, begin + (size - 4) // 4 * 4):
            for value in LIMITS:
                yield f"{name} at {at} is {value:#x}", set_u32(data, (at, value))


def moved_sections(data: bytes) -> Iterator[File]:
    tokenizer_size, weights_offset, weights_size = struct.unpack_from("<3Q", data, 32)
    for by in (-1024, -64, -4, -1, 1, 4, 64, 1024):
        for at, value in ((24, HEADER), (32, tokenizer_size), (40, weights_offset), (48, weights_size)):
            yield f"the u64 at {at} moved by {by}", set_u32(data, (at, value + by))
        yield (f"tokenizer and weights meet {by} bytes on",
               set_u32(data, (32, tokenizer_size + by), (40, weights_offset + by), (48, weights_size - by)))
        rolled = data[HEADER + by:] + data[HEADER:HEADER + by] if by > 0 else data[by:] + data[HEADER:by]
        yield f"all after the header rolled by {by}", data[:HEADER] + rolled
    for name, (begin, size) in layout(data).items():
        for what, content in (("zeros", bytes(size)), ("ones", b"\xff" * size), ("text", (b"<|im_end|>" * size)[:size]),
                              ("reversed", data[begin:begin + size][::-1]), ("moved by 4", data[begin + 4:begin + size + 4])):
            yield f"{name} is {what}", data[:begin] + content + data[begin + size:]
    for what, number in (("zero", 0), ("NaN", 0x7FC07FC0), ("infinity", 0x7F807F80), ("huge", 0x7F7F7F7F), ("minus huge", 0xFF7FFF7F)):
        yield f"all weights are {what}", data[:weights_offset] + struct.pack("<I", number) * (weights_size // 4) + bytes(weights_size % 4)


def other_shapes(data: bytes) -> Iterator[File]:
    """Headers and counts that lie about the shape, in a file of the size that they imply."""
    yield "one token of 8 MB, always the next", long_token(data, 8 << 20)
    for name in "dim hidden_dim n_layers n_heads n_kv_heads head_dim vocab_size tied".split():
        for value in (0, 1, 2, 3, 5, 7, 8, 31, 32, 33, 63, 64, 65, 255, 1000):
            yield f"{name} is {value}, resized", resize(set_u32(data, (FIELDS[name], value)))
    for value in (1, 512, 4096, 4097):
        yield f"{value} layers of 1", resize(set_u32(data, (64, 1), (68, 1), (72, value), (76, 1), (80, 1), (84, 2)))
        yield f"{value} heads", resize(set_u32(data, (72, 1), (76, value), (80, 1)))
        yield f"head_dim is {value}", resize(set_u32(data, (72, 1), (76, 1), (80, 1), (84, value)))
    for positions in (1, 2, 1 << 20, 1 << 24):
        yield f"max_positions is {positions}, 64 layers", resize(set_u32(data, (72, 64), (92, positions)))


def random_changes(data: bytes) -> Iterator[File]:
    rng = random.Random(1)
    end, = struct.unpack_from("<Q", data, 40)
    for i in range(400):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 10, 1000))):
            at = rng.randrange(HEADER + COUNTS, rng.choice((2048, end, len(data))))
            changed[at] = rng.choice((0, 0xFF, changed[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        yield f"random change {i}", bytes(changed)


# ---------------------------------------------------------------------------------------------------------
# The runs
# ---------------------------------------------------------------------------------------------------------

class Runner:
    """Runs the programs on one file after the other, in the same place."""

    def __init__(self, qwen: str, tokenizer: str, scratch: str):
        self.model, self.errors = os.path.join(scratch, "model.bin"), os.path.join(scratch, "errors")
        run = [qwen, self.model, "-t", "1"]
        self.commands = [[*run, "--ids", "1 2 3", "-c", "20", "--seed", "1"], [*run, "-p", TEXT, "-n", "64", "--greedy"],
                         [qwen, self.model, "--info"], [*run, "-m", "base", "-p", TEXT, "--score"], [tokenizer, self.model, TEXT]]
        self.actions = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 2, self.errors, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)]
        self.file = os.open(self.model, os.O_RDWR | os.O_CREAT, 0o600)
        self.n_refused = self.most_memory = 0
        self.most_seconds = 0.0

    def problem(self, data: bytes, command: List[str]) -> str:
        """What is wrong with how the program took the file; "" if nothing."""
        os.pwrite(self.file, data, 0)
        os.ftruncate(self.file, len(data))
        child = os.posix_spawn(command[0], command, os.environ, file_actions=self.actions)
        watch = threading.Timer(PATIENCE, os.kill, (child, signal.SIGKILL))
        watch.start()
        _, status, usage = os.wait4(child, 0)
        watch.cancel()
        memory, seconds = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), usage.ru_utime + usage.ru_stime
        self.most_seconds, self.most_memory = max(self.most_seconds, seconds), max(self.most_memory, memory)
        with open(self.errors, "rb") as file:
            errors = file.read()
        if os.WIFSIGNALED(status):
            return f"ended by signal {os.WTERMSIG(status)} after {seconds:.2f} s"
        if memory > MOST_MEMORY:
            return f"took {memory >> 20} MB"
        if os.WEXITSTATUS(status) == 0:
            return ""
        self.n_refused += 1
        named = b"model.bin" in errors or b"the prompt is" in errors        # of a context that is too short
        one_line = errors.startswith((b"qwen: ", b"tokenizer: ")) and errors.count(b"\n") == 1 and named
        return "" if os.WEXITSTATUS(status) == 1 and one_line else f"exit status {os.WEXITSTATUS(status)}, {errors[:300]!r}"


def sweep(runner: Runner, files: Iterator[File]) -> str:
    """Gives each file to one of the programs."""
    problems, n, n_refused = [], 0, runner.n_refused
    for n, (what, data) in enumerate(files, 1):
        command = runner.commands[n % len(runner.commands)]
        problem = runner.problem(data, command)
        if problem:
            problems.append(f"{what}: {problem} ({' '.join(command[2:])})")
    assert not problems, f"{len(problems)} of {n} files, the first: {problems[0]}"
    return f"{n} files, {runner.n_refused - n_refused} refused; at most {runner.most_seconds:.2f} s and {runner.most_memory >> 20} MB a run"


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        path, checkpoint = os.path.join(scratch, "small.bin"), os.path.join(scratch, "checkpoint")
        make_checkpoint(checkpoint, dim=8, layers=1, heads=2, kv_heads=1, hidden=8, tied=False, context=512)
        subprocess.run([sys.executable, os.path.join(os.path.dirname(HERE), "export.py"), checkpoint, path], check=True, stderr=subprocess.PIPE)
        with open(path, "rb") as file:
            data = file.read()
        runner = Runner(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), scratch)
        for command in runner.commands:
            assert not runner.problem(data, command) and not runner.n_refused, command
        kinds = (header_bytes, truncations, header_numbers, tokenizer_numbers, moved_sections, other_shapes, random_changes)
        tests = {f"test_{files.__name__}": functools.partial(sweep, runner, files(data)) for files in kinds}
        return run_tests("malformed", {**tests, "__file__": __file__})


if __name__ == "__main__":
    sys.exit(main())
