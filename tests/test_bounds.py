"""Tests of ./qwen at the bounds of the machine: memory, threads, files that are none, outputs that end, long prompts.

    python3 tests/test_bounds.py ./qwen

A line per test, `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one failed. Standard library only.
"""
from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from typing import Any, Callable, List, Optional, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from harness import Skip, run_tests                                     # noqa: E402
from make_checkpoint import make_checkpoint                             # noqa: E402

QWEN = ""
MODEL = ""
SCRATCH = ""                                # a directory of this run's own
TURN = ["-p", "hello", "-n", "4", "--seed", "1", "-t", "1"]
COMMANDS = [TURN, [*TURN, "--watch"], ["-p", "hello", "--score"], ["--info"], ["--help"]]      # and --compare


def run(*args: str, data: bytes = b"", stdout: Any = subprocess.PIPE, prepare: Optional[Callable[[], Any]] = None, **more: Any) -> Tuple[int, bytes, str]:
    """(exit status, standard output, standard error) of the program; `prepare` runs in its process before it."""
    done = subprocess.run([QWEN, *args], input=data, stdout=stdout, stderr=subprocess.PIPE, timeout=600, preexec_fn=prepare, **more)
    return done.returncode, done.stdout or b"", done.stderr.decode("utf-8", "replace")


def check_error(got: Tuple[int, bytes, str], *words: str) -> None:
    """Exit status 1, nothing on standard output, and one line on standard error that holds the words."""
    status, out, err = got
    assert status == 1 and out == b"", f"exit status {status}, {out[:100]!r}, {err!r}"
    assert err.startswith("qwen: ") and err.count("\n") == 1 and err.endswith("\n"), repr(err)
    for word in words:
        assert word in err, f"no {word!r} in {err!r}"


def limit(what: int, size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (size, size))


def commands() -> List[List[str]]:
    return [*([MODEL, *args] for args in COMMANDS), [MODEL, "-p", "hello", "-n", "4", "--compare", MODEL]]


# ---------------------------------------------------------------------------------------------------------
# Memory and threads
# ---------------------------------------------------------------------------------------------------------

def test_context_too_large_for_the_address_space() -> None:
    if sys.platform != "linux":
        raise Skip("RLIMIT_AS bounds the address space on Linux only")
    prepare = limit(resource.RLIMIT_AS, 1 << 30)
    if run("--help", prepare=prepare)[0] != 0:
        raise Skip("AddressSanitizer itself needs more")
    check_error(run(MODEL, *TURN, "-c", str(1 << 24), prepare=prepare), "-c")


def test_largest_context_costs_what_is_used() -> None:
    status, out, err = run(MODEL, *TURN, "-c", str(1 << 24))
    assert (status, out) == (0, run(MODEL, *TURN)[1]), f"exit status {status}, {err!r}"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < (256 << 20) // (1 if sys.platform == "darwin" else 1024), "memory"


def test_more_threads_than_processors() -> None:
    text = run(MODEL, *TURN)[1]
    for n in ("64", "1024"):
        status, out, err = run(MODEL, *TURN, "-t", n)
        assert (status, out) == (0, text), f"{n} threads: exit status {status}, {err!r}"


# ---------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------

def test_model_that_is_no_file() -> None:
    fifo, empty = os.path.join(SCRATCH, "fifo"), os.path.join(SCRATCH, "empty.bin")
    os.mkfifo(fifo)
    open(empty, "wb").close()
    for path, word in ((fifo, "not a regular file"), (os.devnull, "not a regular file"), (SCRATCH, "a directory"), (empty, "an empty file"),
                       (os.path.join(MODEL, "x"), "Not a directory"), (os.path.join(SCRATCH, "none"), "No such file"), ("", "No such file")):
        check_error(run(path, *TURN), path, word)
    if os.path.exists("/dev/stdin"):
        with open(MODEL, "rb") as file:
            check_error(run("/dev/stdin", *TURN, data=file.read()), "/dev/stdin", "not a regular file")


def test_model_that_may_not_be_read() -> None:
    secret, program = os.path.join(SCRATCH, "secret.bin"), os.path.join(SCRATCH, "qwen")
    shutil.copy(MODEL, secret)
    shutil.copy(QWEN, program)
    os.chmod(SCRATCH, 0o755)
    os.chmod(secret, 0)
    prepare = (lambda: os.setuid(65534)) if os.getuid() == 0 else None      # root may read everything
    check_error(run(secret, *TURN, prepare=prepare, executable=program), "secret.bin", "Permission denied")


def test_full_disk() -> None:
    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit(resource.RLIMIT_FSIZE, 3000)()

    out = os.path.join(SCRATCH, "out")
    for args in ([*TURN, "--ignore-stop", "--logits", out], ["--quantize", out]):
        status, _, err = run(MODEL, *args, prepare=prepare)
        check_error((status, b"", err), out)
        assert not os.path.exists(out) and not os.path.exists(out + ".tmp"), f"{args}: a partial file"


def test_weights_that_are_no_numbers() -> None:
    path = os.path.join(SCRATCH, "nan.bin")
    with open(MODEL, "rb") as file:
        data = file.read()
    offset, size = struct.unpack_from("<2Q", data, 40)
    with open(path, "wb") as file:
        file.write(data[:offset] + (b"\xc0\x7f" * size)[:size])
    for args in ([], ["--watch"], ["--score"], ["--compare", MODEL]):
        status, _, err = run(path, "-p", "hello", *args)
        if "--compare" in args:
            err = "".join(err.splitlines(True)[2:])                     # the other model's closing lines
        check_error((status, b"", err), "nan.bin", "not numbers")


# ---------------------------------------------------------------------------------------------------------
# Streams
# ---------------------------------------------------------------------------------------------------------

def test_output_closed_early() -> None:
    for args in commands():
        read, write = os.pipe()
        os.close(read)
        status, _, err = run(*args, stdout=write)
        os.close(write)
        assert (status, err) == (0, ""), f"{args}: exit status {status}, {err!r}"


def test_output_on_a_full_disk() -> None:
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        for args in commands():
            check_error(run(*args, stdout=full), "standard output")


def test_closed_streams_are_no_files() -> None:
    """With 0, 1 or 2 free, a file that is opened would get that number, and what is printed."""
    expected, path = os.path.join(SCRATCH, "expected"), os.path.join(SCRATCH, "closed")
    run(MODEL, *TURN, "--logits", expected)
    with open(expected, "rb") as file:
        logits = file.read()
    for streams in ((0,), (1,), (2,), (0, 1, 2)):
        status, _, err = run(MODEL, *TURN, "--logits", path, prepare=lambda: [os.close(n) for n in streams])
        assert status == (1 if 1 in streams else 0), f"{streams} closed: exit status {status}, {err!r}"
        if os.path.exists(path):
            with open(path, "rb") as file:
                assert file.read() == logits, f"{streams} closed: the logits are others"
            os.remove(path)


# ---------------------------------------------------------------------------------------------------------
# Long prompts
# ---------------------------------------------------------------------------------------------------------

def test_prompt_of_a_megabyte() -> None:
    for data in (b"apple tree " * 95326, "苹果是什么颜色".encode() * 49933, b" " * (1 << 20), b"\xff" * (1 << 20)):
        for args in (["-n", "1"], ["--score"]):
            got = run(MODEL, *args, "-m", "base", data=data)
            check_error(got, "512", "tokens")
            assert any(int(number) > 512 for number in re.findall(r"\d+", got[2])), f"not both numbers in {got[2]!r}"


def main() -> int:
    global QWEN, MODEL, SCRATCH
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    QWEN = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as SCRATCH:
        MODEL = os.path.join(SCRATCH, "model.bin")
        make_checkpoint(os.path.join(SCRATCH, "checkpoint"), dim=8, layers=2, heads=2, kv_heads=1, hidden=8, context=512)
        subprocess.run([sys.executable, os.path.join(os.path.dirname(HERE), "export.py"), os.path.join(SCRATCH, "checkpoint"), MODEL],
                       check=True, stderr=subprocess.PIPE)
        return run_tests("bounds", globals())


if __name__ == "__main__":
    sys.exit(main())
