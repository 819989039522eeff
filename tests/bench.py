"""How fast ./qwen and ./tokenizer are, against what this machine can do.

    python3 tests/bench.py [--shape 0.5b|1.8b] [--rounds 3] [--tokenizer DIR] [--compiler CC]

Makes a model with random weights at a real shape in a temporary folder (2 GB for 0.5b, 8 GB for
1.8b), and an int8 copy, and runs them with the build of the Makefile; where the machine has
AVX-512, also with one for AVX2, which most machines have. Runs take turns, and beside each stands a
measurement of the machine (machine.c), because both change from one minute to the next on a shared
computer: a figure is the median of the rounds, a share the median of the ratios.
"""
from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Dict, List, NamedTuple, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from binfile import HEADER_SIZE, get                                    # noqa: E402

RATE = r"([\d.]+) tok/s"
SPEED = re.compile(rf"^speed: prompt \d+ tokens?, {RATE}; new \d+ tokens?, {RATE}", re.M)
PROMPTS = (8, 16, 24, 64, 512, 2048, 4096)
NEW = 32                                # new tokens, after a prompt of NEW_AFTER
NEW_AFTER = 64
TEXT_SIZE = 5_000_000
FLAGS = "-std=c11 -O3 -march={} -ffp-contract=fast"


class Result(NamedTuple):
    speed: float                        # tokens per second
    rate: float                         # GB/s or GFLOP/s
    share: float                        # of what the machine did beside it


def note(text: str) -> None:
    print("bench: " + text, file=sys.stderr, flush=True)


def run(*command: str, **options: object) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            encoding="utf-8", errors="replace", **options)
    if result.returncode:
        sys.exit(f"bench.py: exit status {result.returncode}: {' '.join(command)[:200]}: "
                 + result.stderr.strip())
    return result


def python(name: str, *args: str) -> None:
    run(sys.executable, os.path.join(ROOT, name), *args)


def costs(path: str) -> Tuple[float, float]:
    """(GB of weights that a new token reads, GFLOP of matrix products that a prompt token takes)"""
    with open(path, "rb") as file:
        header = file.read(HEADER_SIZE)
    size, dim = get(header, "weights_size"), get(header, "dim")
    q_dim, kv_dim = (get(header, heads) * get(header, "head_dim")
                     for heads in ("n_heads", "n_kv_heads"))
    if not get(header, "tied"):         # one row of the embedding is read, not all
        row = dim + dim // 64 * 4 if get(header, "weight_type") else 2 * dim
        size -= get(header, "vocab_size") * row
    layer = dim * (2 * q_dim + 2 * kv_dim + 3 * get(header, "hidden_dim"))
    return size * 1e-9, 2e-9 * get(header, "n_layers") * layer


def seconds(*command: str, **options: object) -> float:
    """The median wall time of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run(*command, **options)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def cpuinfo(name: str) -> str:
    """The first line of that name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith(name))
    except (OSError, StopIteration):
        return ""


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
    parser.add_argument("--shape", choices=("0.5b", "1.8b", "qwen3-0.6b"), default="0.5b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizer", metavar="DIR", default=os.path.join(ROOT, "tiny", "chat"),
                        help="where tokenizer.json is (default: tiny/chat)")
    parser.add_argument("--compiler", default="cc", help="of all but ./qwen")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qwen-bench-") as folder:
        bench(args, folder)


def measure(qwen: str, machine: str, models: Dict[str, str], rounds: int) -> None:
    """Prints the table of one build."""
    draw = random.Random(1)
    ids = {n: " ".join(str(draw.randrange(1000)) for _ in range(n)) for n in PROMPTS}
    n_threads = sorted({1, os.cpu_count() or 1})
    results: Dict[Tuple[str, int, int], List[Result]] = {}  # (weights, prompt or 0: new, threads)
    limits: Dict[int, List[Tuple[float, float]]] = {}       # threads: (GB/s, GFLOP/s)
    for i in range(rounds):
        for name, path in models.items():
            gigabytes, gigaflops = costs(path)
            for threads in n_threads:
                note(f"round {i + 1} of {rounds}: {name}, {threads} threads at most")
                for n in PROMPTS:
                    read, peak = map(float, run(machine, path, str(threads)).stdout.split())
                    limits.setdefault(threads, []).append((read, peak))
                    new = str(NEW if n == NEW_AFTER else 1)
                    output = run(qwen, path, "--ids", ids[n], "-n", new, "-t", str(threads),
                                 "--greedy", "--ignore-stop").stderr
                    found = SPEED.search(output)
                    if not found:
                        sys.exit(f"bench.py: no `speed:` line: {qwen} printed: {output.strip()}")
                    speed, new_speed = map(float, found.groups())
                    flops, bytes_read = speed * gigaflops, new_speed * gigabytes
                    results.setdefault((name, n, threads), []).append(
                        Result(speed, flops, flops / peak))
                    if n == NEW_AFTER:
                        results.setdefault((name, 0, threads), []).append(
                            Result(new_speed, bytes_read, bytes_read / read))

    print(" " * 18 + "".join(f"{f'{t} thread' + 's' * (t > 1):^38}" for t in n_threads))
    print(" " * 18 + (f"{'tok/s':>9}{'rate':>16}{'share':>8}     " * len(n_threads)).rstrip())
    for name in models:
        for n in (0, *PROMPTS):
            line = f"{name if n == 0 else '':6}" + (f"prompt {n:<5}" if n else f"{'new token':12}")
            for threads in n_threads:
                columns = zip(*results[name, n, threads])
                speed, rate, share = (statistics.median(column) for column in columns)
                unit = "GFLOP/s" if n else "GB/s   "
                line += f"{speed:9.1f}{rate:8.1f} {unit}{share:8.2f}     "
            print(line.rstrip())
    print("\nshare: of what plain C does on this machine, measured beside each run:")
    for threads in n_threads:
        read, peak = (statistics.median(column) for column in zip(*limits[threads]))
        print(f"    {threads} thread{'s' * (threads > 1)}: {read:.1f} GB/s reading the same file, "
              f"{peak:.0f} GFLOP/s of float32 multiply-adds")


def bench(args: argparse.Namespace, folder: str) -> None:
    def path(name: str) -> str:
        return os.path.join(folder, name)

    def build(source: str, name: str, target: str) -> str:
        run(*args.compiler.split(), *FLAGS.format(target).split(), source, "-o", path(name), "-lm",
            "-pthread")
        return path(name)

    qwen, tokenizer = os.path.join(ROOT, "qwen"), os.path.join(ROOT, "tokenizer")
    models = {name: path(name + ".bin") for name in ("bf16", "int8")}
    note(f"random weights at the {args.shape} shape in {folder}")
    python("tests/make_checkpoint.py", path("checkpoint"), "--preset", args.shape,
           "--tokenizer", args.tokenizer)
    start = time.perf_counter()
    python("export.py", path("checkpoint"), models["bf16"])
    export_time = time.perf_counter() - start
    shutil.rmtree(path("checkpoint"))
    start = time.perf_counter()
    run(qwen, models["bf16"], "--quantize", models["int8"])
    quantize_time = time.perf_counter() - start

    processor = cpuinfo("model name") or platform.processor() or platform.machine()
    print(f"{args.shape} shape, random weights; {processor}; medians, rounds: {args.rounds}")
    print("GB/s: the weights that a new token reads. GFLOP/s: the layers' matrix products; "
          "attention comes on top.")
    builds = [("the build of the Makefile", qwen, "native")]
    if "avx512f" in cpuinfo("flags").split():
        target = "x86-64-v3"
        builds.append((f"built for AVX2 (-march={target})",
                       build(os.path.join(ROOT, "qwen.c"), "qwen-avx2", target), target))
    for title, program, target in builds:
        print(f"\n{title}\n")
        machine = build(os.path.join(HERE, "machine.c"), "machine-" + target, target)
        measure(program, machine, models, args.rounds)

    ids = " ".join(map(str, range(10)))
    start_up = seconds(qwen, models["bf16"], "--info")
    first_token = seconds(qwen, models["bf16"], "--ids", ids, "-n", "1", "--greedy")
    write_text(path("text"))
    empty = seconds(tokenizer, models["bf16"], "--ids", "")
    with open(path("text"), "rb") as file:
        tokenizer_time = seconds(tokenizer, models["bf16"], "--ids", stdin=file,
                                 preexec_fn=lambda: file.seek(0)) - empty
    sampler = float(run(build(os.path.join(HERE, "sampler.c"), "sampler", "native")).stdout)
    megabytes = TEXT_SIZE * 1e-6 / tokenizer_time
    print(f"\nstart: --info {start_up * 1e3:.1f} ms; first token of a prompt of 10: "
          f"{first_token:.2f} s")
    print(f"sampler: {sampler * 1e-3:.2f} ms a token, a chat model's defaults, vocabulary 151,936")
    print(f"tokenizer: {megabytes:.1f} MB/s; export.py: {export_time:.1f} s; "
          f"--quantize: {quantize_time:.1f} s")


if __name__ == "__main__":
    main()
