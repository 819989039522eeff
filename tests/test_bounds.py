"""Tests of ./qwen at the bounds of the machine: memory, threads, files, outputs that end.

    python3 tests/test_bounds.py [--only WORD] ./qwen

A line per test, `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one failed.
Standard library only.
"""
from __future__ import annotations

import functools
import os
import re
import resource
import shutil
import signal
import sys
from typing import Callable, List

sys.dont_write_bytecode = True
import harness                                                          # noqa: E402
from binfile import get                                                 # noqa: E402
from harness import Skip, Started, check_error, equal, main, read, run, scratch     # noqa: E402
from make_checkpoint import make_checkpoint                             # noqa: E402
from models import export                                               # noqa: E402

TURN = ["-p", "hello", "-n", "4", "--seed", "1", "-t", "1"]
COMMANDS = [TURN, [*TURN, "--watch"], ["-p", "hello", "--score"], ["-p", "hello", "--answer", "x"],
            ["--info"], ["--help"]]                     # and --compare


@functools.lru_cache(None)
def small() -> str:
    path = scratch("small.bin")
    make_checkpoint(scratch("small"), dim=8, layers=2, heads=2, kv_heads=1, hidden=8, context=512)
    export.export(scratch("small"), path)
    return path


def limit(what: int, size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (size, size))


def commands() -> List[List[str]]:
    return [*([small(), *args] for args in COMMANDS),
            [small(), "-p", "hello", "-n", "4", "--compare", small()]]


# ---------------------------------------------------------------------------------------------
# Memory and threads
# ---------------------------------------------------------------------------------------------

def test_context_too_large_for_the_address_space() -> None:
    if sys.platform != "linux":
        raise Skip("RLIMIT_AS bounds the address space on Linux only")
    prepare = limit(resource.RLIMIT_AS, 1 << 30)
    if run("--help", prepare=prepare)[0] != 0:
        raise Skip("a sanitizer itself needs more")
    check_error(1, run(small(), *TURN, "-c", str(1 << 24), prepare=prepare), "-c")


def test_largest_context_costs_what_is_used() -> None:
    program = Started(small(), *TURN, "-c", str(1 << 24))
    text = program.process.stdout.read()                # to its end
    _, status, usage = os.wait4(program.process.pid, 0)
    program.process.returncode = os.WEXITSTATUS(status)
    equal((status, text), (0, run(small(), *TURN)[1]))
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert memory < 256 << 20, f"{memory >> 20} MB"


def test_more_threads_than_processors() -> None:
    text = run(small(), *TURN)[1]
    for n in ("64", "1024"):
        status, out, err = run(small(), *TURN, "-t", n)
        equal((status, out), (0, text), f"{n} threads: {err!r}")


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

def test_model_that_is_no_file() -> None:
    fifo, empty, folder = scratch("fifo"), scratch("empty.bin", b""), scratch("folder")
    os.mkfifo(fifo)
    os.mkdir(folder)
    for path, word in ((fifo, "not a regular file"), (os.devnull, "not a regular file"),
                       (folder, "a directory"), (empty, "an empty file"),
                       (os.path.join(small(), "x"), "Not a directory"),
                       (scratch("none"), "No such file"), ("", "No such file")):
        check_error(1, run(path, *TURN), path, word)
    if os.path.exists("/dev/stdin"):
        got = run("/dev/stdin", *TURN, data=read(small()))
        check_error(1, got, "/dev/stdin", "not a regular file")


def test_model_that_may_not_be_read() -> None:
    secret, program = scratch("secret.bin"), scratch("qwen")
    shutil.copy(small(), secret)
    shutil.copy(harness.QWEN, program)
    os.chmod(harness.SCRATCH, 0o755)
    os.chmod(secret, 0)
    prepare = (lambda: os.setuid(65534)) if os.getuid() == 0 else None      # root may read all
    got = run(secret, *TURN, prepare=prepare, executable=program)
    check_error(1, got, "secret.bin", "Permission denied")


def test_bad_files() -> None:
    data = read(small())
    for content in (b"", b"hello", data[:1152], data[:-1], data + b"\0",
                    b"version https://git-lfs.github.com/spec/v1\n"):
        path = scratch("bad.bin", content)
        for args in ([path, "-p", "hi"], [path, "--info"],
                     [small(), "--compare", path, "-p", "hi"]):
            check_error(1, run(*args), "bad.bin")
    check_error(1, run(path, "-p", "hi"), "git lfs pull")


def test_full_disk() -> None:
    def prepare(size: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit(resource.RLIMIT_FSIZE, size)()

    folder = scratch("full")
    os.mkdir(folder)
    out = os.path.join(folder, "out")
    logits = [*TURN, "--ignore-stop", "--logits", out]
    for size, args in ((3000, logits), (3000, ["--quantize", out]),
                       (100, [*logits, "-n", "1"])):            # which fails at its end
        status, _, err = run(small(), *args, prepare=lambda: prepare(size))
        lines = [line for line in err.splitlines(True) if line.startswith("qwen: ")]
        check_error(1, (status, b"", "".join(lines)), out)
        equal(os.listdir(folder), [], f"{args}: a partial file")


def test_weights_that_are_no_numbers() -> None:
    data = read(small())
    offset, size = get(data, "weights_offset"), get(data, "weights_size")
    path = scratch("nan.bin", data[:offset] + (b"\xc0\x7f" * size)[:size])
    for args in ([], ["--watch"], ["--score"], ["--answer", "x"], ["--compare", small()]):
        status, _, err = run(path, "-p", "hello", *args)
        if "--compare" in args:
            err = "".join(line for line in err.splitlines(True) if line.startswith("qwen: "))
        check_error(1, (status, b"", err), "nan.bin", "NaN")


# ---------------------------------------------------------------------------------------------
# Streams
# ---------------------------------------------------------------------------------------------

def test_output_closed_early() -> None:
    for args in commands():
        reader, writer = os.pipe()
        os.close(reader)
        status, _, err = run(*args, stdout=writer)
        os.close(writer)
        equal((status, err), (0, ""), str(args))


def test_output_on_a_full_disk() -> None:
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        for args in commands():
            check_error(1, run(*args, stdout=full), "standard output")


def test_closed_streams_are_no_files() -> None:
    """With 0, 1 or 2 free, a file that is opened would get that number, and what is printed."""
    expected, path = scratch("expected"), scratch("closed")
    run(small(), *TURN, "--logits", expected)
    for streams in ((0,), (1,), (2,), (0, 1, 2)):
        status, _, err = run(small(), *TURN, "--logits", path,
                             prepare=lambda: [os.close(n) for n in streams])
        equal(status, 1 if 1 in streams else 0, f"{streams} closed: {err!r}: exit status")
        if os.path.exists(path):
            assert read(path) == read(expected), f"{streams} closed: the logits are others"
            os.remove(path)


# ---------------------------------------------------------------------------------------------
# Long prompts
# ---------------------------------------------------------------------------------------------

def test_prompt_of_a_megabyte() -> None:
    chinese = "苹果是什么颜色".encode()
    for data in (b"apple tree " * 95326, chinese * 49933, b" " * (1 << 20), b"\xff" * (1 << 20)):
        for args in (["-n", "1"], ["--score"]):
            got = run(small(), *args, "-m", "base", data=data)
            check_error(1, got, "512", "tokens")
            numbers = map(int, re.findall(r"\d+", got[2]))
            assert any(number > 512 for number in numbers), f"not both numbers in {got[2]!r}"


if __name__ == "__main__":
    sys.exit(main("bounds", globals()))
