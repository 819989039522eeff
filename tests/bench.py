"""How fast ./qwen and ./tokenizer are, against what this machine can do.

    python3 tests/bench.py [--shape 0.5b|1.8b] [--rounds 3] [--tokenizer DIR] [--compiler "cc -O3 ..."]

Makes a model with random weights at a real shape in a temporary folder (2 GB for 0.5b, 8 GB for 1.8b), and an int8
copy. Runs take turns, and beside each stands a measurement of the machine (machine.c), because both change from one
minute to the next on a shared computer: a figure is the median of the rounds, a share the median of the ratios.
"""
from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from typing import Dict, List, NamedTuple, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SPEED = re.compile(r"^speed: prompt \d+ tokens, ([\d.]+) tok/s; new \d+ tokens, ([\d.]+) tok/s", re.M)
PROMPTS = (64, 512, 2048)
NEW = 32                                # new tokens, after the shortest prompt
TEXT_SIZE = 5_000_000


class Result(NamedTuple):
    speed: float                        # tokens per second
    rate: float                         # GB/s or GFLOP/s
    share: float                        # of what the machine did beside it


def note(text: str) -> None:
    print("bench: " + text, file=sys.stderr, flush=True)


def run(*command: str, **options: object) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **options)
    if result.returncode:
        sys.exit(f"bench.py: exit status {result.returncode}: {' '.join(command)[:200]}: {result.stderr.strip()}")
    return result


def costs(path: str) -> Tuple[float, float]:
    """(GB of weights that a new token reads, GFLOP of matrix products that a prompt token takes), from the header."""
    with open(path, "rb") as file:
        header = file.read(1024)
    size, = struct.unpack_from("<Q", header, 48)
    int8, _, dim, hidden, layers, heads, kv_heads, head_dim, vocab, _, tied = struct.unpack_from("<11I", header, 56)
    if not tied:                        # one row of the embedding is read, not all
        size -= vocab * (dim + dim // 64 * 4 if int8 else 2 * dim)
    weights = layers * dim * (2 * heads * head_dim + 2 * kv_heads * head_dim + 3 * hidden)
    return size * 1e-9, 2 * weights * 1e-9


def seconds(*command: str, **options: object) -> float:
    """The median wall time of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run(*command, **options)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def write_text(path: str) -> None:
    """English, Chinese and code: what the repository is written in, repeated."""
    text = b""
    for name in ("README.md", "tests/compare_tokenizer.py", "qwen.c"):
        with open(os.path.join(ROOT, name), "rb") as file:
            text += file.read()
    with open(path, "wb") as file:
        file.write((text * (TEXT_SIZE // len(text) + 1))[:TEXT_SIZE])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shape", choices=("0.5b", "1.8b"), default="0.5b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizer", metavar="DIR", default=os.path.join(ROOT, "tiny", "chat"),
                        help="where tokenizer.json is (default: tiny/chat)")
    parser.add_argument("--compiler", default="cc -std=c11 -O3 -march=native -ffp-contract=fast", help="for machine.c, as for ./qwen")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qwen-bench-") as folder:
        bench(args, folder)


def bench(args: argparse.Namespace, folder: str) -> None:
    qwen, tokenizer = os.path.join(ROOT, "qwen"), os.path.join(ROOT, "tokenizer")
    machine, checkpoint = os.path.join(folder, "machine"), os.path.join(folder, "checkpoint")
    models = {name: os.path.join(folder, name + ".bin") for name in ("bf16", "int8")}
    run(*args.compiler.split(), os.path.join(HERE, "machine.c"), "-o", machine, "-pthread")

    note(f"random weights at the {args.shape} shape in {folder}")
    run(sys.executable, os.path.join(HERE, "make_checkpoint.py"), checkpoint, "--preset", args.shape, "--tokenizer", args.tokenizer)
    start = time.perf_counter()
    run(sys.executable, os.path.join(ROOT, "export.py"), checkpoint, models["bf16"])
    export_time = time.perf_counter() - start
    shutil.rmtree(checkpoint)
    start = time.perf_counter()
    run(qwen, models["bf16"], "--quantize", models["int8"])
    quantize_time = time.perf_counter() - start

    draw = random.Random(1)
    ids = {n: " ".join(str(draw.randrange(1000)) for _ in range(n)) for n in (10, *PROMPTS)}
    n_threads = sorted({1, os.cpu_count() or 1})
    results: Dict[Tuple[str, int, int], List[Result]] = {}         # (weights, prompt tokens or 0 for new ones, threads)
    limits: Dict[int, List[Tuple[float, float]]] = {}              # threads: (GB/s, GFLOP/s)
    for i in range(args.rounds):
        for name, path in models.items():
            for threads in n_threads:
                note(f"round {i + 1} of {args.rounds}: {name}, {threads} thread{'s' * (threads > 1)}")
                gigabytes, gigaflops = costs(path)
                for n in PROMPTS:
                    read, peak = map(float, run(machine, path, str(threads)).stdout.split())
                    limits.setdefault(threads, []).append((read, peak))
                    new = NEW if n == PROMPTS[0] else 1
                    output = run(qwen, path, "--ids", ids[n], "-n", str(new), "-t", str(threads), "--greedy", "--ignore-stop").stderr
                    found = SPEED.search(output)
                    if not found:
                        sys.exit(f"bench.py: no `speed:` line: ./qwen printed: {output.strip()}")
                    speed, new_speed = map(float, found.groups())
                    results.setdefault((name, n, threads), []).append(Result(speed, speed * gigaflops, speed * gigaflops / peak))
                    if new == NEW:
                        results.setdefault((name, 0, threads), []).append(
                            Result(new_speed, new_speed * gigabytes, new_speed * gigabytes / read))

    start_up = seconds(qwen, models["bf16"], "--info")
    first_token = seconds(qwen, models["bf16"], "--ids", ids[10], "-n", "1", "--greedy")
    text = os.path.join(folder, "text")
    write_text(text)
    empty = seconds(tokenizer, models["bf16"], "--ids", "")
    with open(text, "rb") as file:
        def rewind() -> None:
            file.seek(0)
        tokenizer_time = seconds(tokenizer, models["bf16"], "--ids", stdin=file, preexec_fn=rewind) - empty

    def median(key: Tuple[str, int, int]) -> Result:
        return Result(*(statistics.median(column) for column in zip(*results[key])))

    print(f"Qwen1.5 {args.shape} shape, random weights; {processor()}; {args.compiler}; medians, rounds: {args.rounds}\n")
    print(" " * 18 + "".join(f"{f'{t} thread' + 's' * (t > 1):^38}" for t in n_threads))
    print(" " * 18 + f"{'tok/s':>9}{'rate':>16}{'share':>8}     " * len(n_threads))
    for name in models:
        for n in (0, *PROMPTS):
            line = f"{name if n == 0 else '':6}" + (f"{'new token':12}" if n == 0 else f"prompt {n:<5}")
            for threads in n_threads:
                speed, rate, share = median((name, n, threads))
                line += f"{speed:9.1f}{rate:8.1f} {'GB/s   ' if n == 0 else 'GFLOP/s'}{share:8.2f}     "
            print(line.rstrip())
    print("\nshare: of what plain C does on this machine, measured beside each run:")
    for threads in n_threads:
        read, peak = (statistics.median(column) for column in zip(*limits[threads]))
        print(f"    {threads} thread{'s' * (threads > 1)}: {read:.1f} GB/s reading the same file, {peak:.0f} GFLOP/s of float32 multiply-adds")
    print("GB/s: the weights that a new token reads. GFLOP/s: the layers' matrix products; attention comes on top.\n")
    print(f"start: --info {start_up * 1e3:.1f} ms; first token of a prompt of 10: {first_token:.2f} s")
    print(f"tokenizer: {TEXT_SIZE * 1e-6 / tokenizer_time:.1f} MB/s; export.py: {export_time:.1f} s; --quantize: {quantize_time:.1f} s")


if __name__ == "__main__":
    main()
