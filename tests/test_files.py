"""Tests that ./qwen loses no file, and believes none.

    python3 tests/test_files.py [--only WORD] ./qwen

A line per test, `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one failed.
Standard library only.
"""
from __future__ import annotations

import math
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from typing import Callable, Dict, List, Optional, Tuple

sys.dont_write_bytecode = True
from binfile import Tensor, get, tensors, with_fields                   # noqa: E402
from harness import (Skip, Started, Terminal, check_error, equal, main, read, run,   # noqa: E402
                     scratch)
from make_checkpoint import make_checkpoint                             # noqa: E402
from models import (STATES, export, make_scripted, model, scored_ids, set_tensors,  # noqa: E402
                    state_of)

TURN = ["-p", "hi", "-n", "3", "--seed", "1", "-t", "1"]


def folder(name: str, **models: str) -> str:
    """A new directory with copies of models: file name without .bin = name of a model."""
    path = scratch(name)
    os.mkdir(path)
    for file, of in models.items():
        shutil.copy(model(of), os.path.join(path, file + ".bin"))
    return path


def contents(directory: str) -> Dict[str, bytes]:
    """{name: what is read there} of a directory; empty for what is no file."""
    files = {}
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        files[name] = read(path) if os.path.isfile(path) else b""
    return files


def int8_of(name: str) -> bytes:
    path = scratch("reference.bin")
    equal(run(model(name), "--quantize", path)[0], 0)
    return read(path)


def logits_of(name: str) -> bytes:
    path = scratch("reference.f32")
    equal(run(model(name), *TURN, "--logits", path)[0], 0)
    return read(path)


# ---------------------------------------------------------------------------------------------
# A file is never lost
# ---------------------------------------------------------------------------------------------

def test_output_that_is_an_input() -> None:
    """By its own name, another spelling, a hard or a symbolic link: refused, nothing is written."""
    path = folder("inputs", m="script chat", b="script base")
    m, b = os.path.join(path, "m.bin"), os.path.join(path, "b.bin")
    os.link(m, os.path.join(path, "hard.bin"))
    os.symlink("m.bin", os.path.join(path, "soft.bin"))
    os.symlink("soft.bin", os.path.join(path, "soft2.bin"))
    os.link(b, os.path.join(path, "hard_b.bin"))
    before = contents(path)
    for out in ("m.bin", "./m.bin", "../inputs/m.bin", "hard.bin", "soft.bin", "soft2.bin"):
        for args in (["--quantize", out], [*TURN, "--logits", out],
                     ["-p", "hi", "--score", "--logits", out]):
            got = run("m.bin", *args, cwd=path)
            check_error(got[0] if got[0] in (1, 2) else 1, got, os.path.basename(out))
            equal(contents(path).keys(), before.keys(), f"{args}: files")
            assert contents(path) == before, f"{args}: a file has changed"


def test_names_that_others_own() -> None:
    """Whatever lies beside OUT under the names that a temporary file might have stays as it is."""
    expected = {"--quantize": int8_of("script base"), "--logits": logits_of("script base")}
    for command in expected:
        for kind in ("file", "hard link", "symbolic link", "directory", "dangling link", "model"):
            path = folder(f"others {command} {kind}", model="script base")
            out, m = os.path.join(path, "out"), os.path.join(path, "model.bin")
            for name in ("out.tmp", "out.temp", ".out", "out~", "out.part", f"out.{os.getpid()}"):
                other = os.path.join(path, name)
                if kind == "file":
                    scratch(other, b"mine")
                elif kind == "hard link":
                    os.link(m, other)
                elif kind == "symbolic link":
                    os.symlink("model.bin", other)
                elif kind == "directory":
                    os.mkdir(other)
                elif kind == "dangling link":
                    os.symlink("nowhere", other)
            if kind == "model":                         # the model itself is called so
                os.rename(m, os.path.join(path, "out.tmp"))
                m = os.path.join(path, "out.tmp")
            before = contents(path)
            args = ["--quantize", out] if command == "--quantize" else [*TURN, "--logits", out]
            status, _, err = run(m, *args)
            equal(status, 0, f"{command}, {kind}: {err!r}: exit status")
            after = contents(path)
            assert after.pop("out") == expected[command], f"{command}, {kind}: another result"
            equal(after.keys(), before.keys(), f"{command}, {kind}: files")
            assert after == before, f"{command}, {kind}: a file of others was written to"


def test_an_old_file_is_replaced_whole() -> None:
    path = folder("old", m="script base")
    expected = logits_of("script base")
    for kind in ("file", "symbolic link", "hard link"):
        out, other = os.path.join(path, "out"), os.path.join(path, "other")
        scratch(other, b"precious")
        if os.path.lexists(out):
            os.unlink(out)
        if kind == "file":
            scratch(out, b"old" * 9999)
        elif kind == "symbolic link":
            os.symlink("other", out)
        else:
            os.link(other, out)
        equal(run(os.path.join(path, "m.bin"), *TURN, "--logits", out)[0], 0)
        assert read(out) == expected, f"{kind}: another result"
        equal(sorted(os.listdir(path)), ["m.bin", "other", "out"])
        if kind == "hard link":
            equal(read(other), b"precious", "what it was linked to")


def test_what_is_no_regular_file() -> None:
    path = folder("special", m="script base")
    fifo = os.path.join(path, "fifo")
    os.mkfifo(fifo)
    for out in (fifo, os.devnull, path, os.path.join(path, "nowhere", "out"), ""):
        for args in (["--quantize", out], [*TURN, "--logits", out]):
            got = run(os.path.join(path, "m.bin"), *args)
            check_error(2 if not out else 1, got, out)
    equal(sorted(os.listdir(path)), ["fifo", "m.bin"])


def test_no_file_after_an_error() -> None:
    """The old file stays, the temporary does not."""
    path = folder("errors", m="script base")
    out = scratch(os.path.join(path, "out"), b"old")
    for args in (["-p", "LLLL", "-c", "2"], ["-p", ""], ["-p", "LLLL", "-c", "2", "--score"]):
        check_error(1, run(os.path.join(path, "m.bin"), *args, "--logits", out))
        equal(contents(path).keys(), {"m.bin", "out"}, str(args))
        equal(read(out), b"old", str(args))


def test_a_file_that_becomes_too_large() -> None:
    """More than the process may write is an error like a full disk."""
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, 1 << 13))

    path = folder("limit", m="mha tied")
    out = scratch(os.path.join(path, "out"), b"old")
    check_error(1, run(os.path.join(path, "m.bin"), "--quantize", out, prepare=limit))
    equal(contents(path).keys(), {"m.bin", "out"})
    equal(read(out), b"old")


def test_two_writers_at_once() -> None:
    """Each result is one of the two, whole."""
    path = folder("writers", a="mha tied", b="gqa untied")
    out = os.path.join(path, "out")
    whole = {int8_of("mha tied"), int8_of("gqa untied")}
    for _ in range(12):
        writers = [Started(os.path.join(path, name), "--quantize", out)
                   for name in ("a.bin", "b.bin")]
        for writer in writers:
            status, _, err = writer.end()
            equal(status, 0, f"{err!r}: exit status")
        assert read(out) in whole, "neither the one nor the other"
        equal(sorted(os.listdir(path)), ["a.bin", "b.bin", "out"])


def test_signals_while_logits_are_written() -> None:
    path = folder("signals", m="script base")
    out = scratch(os.path.join(path, "out"), b"old")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        program = Started(os.path.join(path, "m.bin"), "-p", "L", "-n", "1000000", "-c", "1000000",
                          "--logits", out)
        program.wait_for("stdout", b"LLL")
        program.signal(number)
        status, _, err = program.end()
        assert status in (128 + number, -number), f"{number!r}: exit status {status}, {err!r}"
        equal(sorted(os.listdir(path)), ["m.bin", "out"], f"{number!r}")
        equal(read(out), b"old", f"{number!r}")


def being_written(directory: str) -> bool:
    """Whether a temporary file holds something already."""
    for name in set(os.listdir(directory)) - {"m.bin", "out"}:
        try:
            return os.path.getsize(os.path.join(directory, name)) > 0
        except FileNotFoundError:                       # it is out by now
            pass
    return False


def test_signals_while_a_model_is_quantised() -> None:
    path = scratch("quantising")
    os.mkdir(path)
    make_checkpoint(scratch("large"), dim=256, layers=1, heads=1, kv_heads=1, head_dim=2, hidden=8,
                    vocab=120000)
    export.export(scratch("large"), os.path.join(path, "m.bin"))
    out = os.path.join(path, "out")
    equal(run(os.path.join(path, "m.bin"), "--quantize", out)[0], 0)
    whole = read(out)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        scratch(out, b"old")
        for _ in range(50):                             # until it is caught in the middle
            program = Started(os.path.join(path, "m.bin"), "--quantize", out)
            while program.process.poll() is None and not being_written(path):
                pass
            program.signal(number)
            status, _, err = program.end()
            equal(sorted(os.listdir(path)), ["m.bin", "out"], f"{number!r}")
            assert status in (0, 128 + number, -number), f"{number!r}: status {status}, {err!r}"
            if read(out) == b"old":
                break
            assert read(out) == whole, f"{number!r}: half a file"
            scratch(out, b"old")
        else:
            raise Skip("it was always too fast")


# ---------------------------------------------------------------------------------------------
# Numbers that are none
# ---------------------------------------------------------------------------------------------

def poisoned(data: bytes, tensor: Tensor, value: float, row: int = 0, scale: bool = False) -> bytes:
    """The model with one number of a tensor, or of an int8 row's scales, changed."""
    at = tensor.offset + row * tensor.row_size
    number = struct.pack("<f", value)
    if tensor.kind == "int8":
        at += tensor.scales()
        assert scale
    if tensor.kind == "bf16":
        number = number[2:]
    return data[:at] + number + data[at + len(number):]


def refuses(path: str, name: str, what: str, base: str) -> None:
    """Every way in which the numbers are read ends with status 1 and a line that names the file."""
    for args in (["-p", "hello", "-n", "3"], ["-p", "hello", "-n", "3", "--plain"],
                 ["-p", "hello", "--score"], ["-p", "hello", "--answer", "x"],
                 ["-p", "hello", "-n", "3", "--watch", "--temp", "1"],
                 ["-p", "hello", "-n", "3", "--compare", base]):
        status, out, err = run(path, *args)
        lines = [line for line in err.splitlines(True) if line.startswith("qwen: ")]
        where = f"{what} {args}"
        assert status == 1 and len(lines) == 1, f"{where}: status {status}, {out[:80]!r} {err!r}"
        assert os.path.basename(path) in lines[0], f"{where}: {lines[0]!r}"
        rows = [line for line in out.splitlines() if not line.startswith(b"1\t")]   # it has no p
        bad = [row for row in rows if re.search(rb"[\t ]-?(nan|inf)\b", row)]
        assert not bad, f"{where}: {bad}"


def test_nan_and_infinity_in_each_tensor() -> str:
    n = 0
    base, path, out = model("script base"), scratch("poisoned.bin"), scratch("poisoned int8.bin")
    for name in ("mha untied", "qwen3 untied"):
        data = read(model(name))
        token = scored_ids(name, "-p", "hello")[0]
        seen = set()
        for tensor in tensors(data):
            if tensor.name in seen:                     # the first layer stands for all
                continue
            seen.add(tensor.name)
            for value in (math.nan, math.inf):
                row = token if tensor.name == "embedding" else 7 if tensor.name == "output" else 0
                scratch(path, poisoned(data, tensor, value, row))
                refuses(path, name, f"{value} in {tensor.name} of {name}", base)
                if tensor.kind != "f32":                # what --quantize reads
                    check_error(1, run(path, "--quantize", out), "poisoned.bin")
                    assert not os.path.exists(out)
                n += 1
    return f"{n} models"


def test_nan_and_infinity_in_int8_scales() -> None:
    base, path = model("script base"), scratch("poisoned scale.bin")
    data = int8_of("mha untied")
    token = scored_ids("mha untied", "-p", "hello")[0]
    for tensor in tensors(data):
        if tensor.kind == "int8" and tensor.name in ("embedding", "wk", "down", "output"):
            row = token if tensor.name == "embedding" else 5
            for value in (math.nan, math.inf):
                scratch(path, poisoned(data, tensor, value, row, scale=True))
                refuses(path, "", f"{value} in a scale of {tensor.name}", base)


def test_an_overflow_before_the_last_token() -> None:
    """The MLP of the last layer overflows at "B" alone, which no later token can tell."""
    directory, path = scratch("overflow"), scratch("overflow.bin")
    make_scripted(directory, "base")
    at_b = [0.0] * (8 * STATES)
    at_b[state_of("B")] = 1e20
    set_tensors(directory, {"model.layers.0.mlp.gate_proj.weight": at_b,
                            "model.layers.0.mlp.up_proj.weight": at_b,
                            "model.layers.0.mlp.down_proj.weight": [1e20] * (8 * STATES)})
    export.export(directory, path)
    equal(run(path, "-p", "AA", "-n", "3")[0], 0)
    for prompt in ("ABA", "AB"):
        check_error(1, run(path, "-p", prompt, "-n", "3"), "overflow.bin")


def test_an_unused_row_may_hold_anything() -> None:
    """No walk over all weights at start: a row of the embedding that no prompt uses is not read."""
    data, path = read(model("mha untied")), scratch("unused.bin")
    embedding = next(tensors(data))
    scratch(path, poisoned(data, embedding, math.nan, embedding.rows - 1))
    equal(run(path, *TURN)[0], 0)


# ---------------------------------------------------------------------------------------------
# int8 rows
# ---------------------------------------------------------------------------------------------

def test_int8_is_what_its_description_says() -> str:
    """Whole numbers, zeros up to a multiple of four bytes, then a float32 scale per 64 columns."""
    n = 0
    for name in ("mha untied", "gqa tied", "gqa untied", "from f32"):     # 99, 101, 130, 77 columns
        before, after = read(model(name)), int8_of(name)
        equal(get(after, "group_size"), 64)
        for a, b in zip(tensors(before), tensors(after)):
            equal(b[:1] + b[2:4], a[:1] + a[2:4])
            if b.kind == "f32":
                size = 4 * a.cols
                equal(after[b.offset:b.offset + size], before[a.offset:a.offset + size], b.name)
                continue
            for row in (0, 1, b.rows - 1):
                halves = struct.unpack_from(f"<{a.cols}H", before, a.offset + row * a.row_size)
                floats = [struct.unpack("<f", struct.pack("<I", x << 16))[0] for x in halves]
                at = b.offset + row * b.row_size
                numbers = struct.unpack_from(f"<{b.cols}b", after, at)
                padding = after[at + b.cols:at + b.scales()]
                equal(padding, bytes(len(padding)), f"{name}, {b.name}: padding")
                for begin in range(0, b.cols, 64):
                    scale, = struct.unpack_from("<f", after, at + b.scales() + begin // 64 * 4)
                    group = floats[begin:begin + 64]
                    most = max(map(abs, group))
                    assert abs(scale * 127 - most) <= 1e-6 * most, f"{name}, {b.name}: {scale}"
                    for number, x in zip(numbers[begin:], group):
                        assert abs(number * scale - x) <= 0.501 * scale, \
                            f"{name}, {b.name}: {number} for {x}"
                n += 1
        last = b.offset + b.rows * b.row_size
        equal(len(after), last, f"{name}: the end of the file")
    return f"{n} rows"


# ---------------------------------------------------------------------------------------------
# A map that changes
# ---------------------------------------------------------------------------------------------

ENDLESS = ["-m", "base", "-p", "hello", "--ignore-stop", "-n", "1000000", "--pace", "1", "--watch"]


def truncate(size: int) -> Callable[[str], None]:
    return lambda path: os.truncate(path, size)


def overwrite(byte: Optional[int]) -> Callable[[str], None]:
    def change(path: str) -> None:
        with open(path, "r+b") as file:
            size = os.path.getsize(path)
            file.write(random.Random(1).randbytes(size) if byte is None else bytes([byte]) * size)
    return change


def test_a_model_that_changes_while_it_is_read() -> None:
    for what, change in (("cut to nothing", truncate(0)), ("cut to its header", truncate(1152)),
                         ("cut in the middle", truncate(80000)),
                         ("overwritten with 0xff", overwrite(0xFF)),
                         ("overwritten by chance", overwrite(None))):
        path = scratch("changing\x1b.bin")
        shutil.copy(model("mha tied"), path)
        program = Started(path, *ENDLESS)
        program.wait_for("stdout", b"\n2\t")
        change(path)
        status, _, err = program.end()
        lines = [line for line in err.splitlines(True) if not line.startswith("qwen: note: ")]
        assert status == 1, f"{what}: exit status {status}, {err!r}"
        equal(len(lines), 1, f"{what}: {err!r}: lines")
        assert "changing?.bin" in err and "\x1b" not in err, f"{what}: {err!r}"
        os.remove(path)


def test_no_temporary_after_a_map_that_changed() -> None:
    path = folder("cut", m="mha tied")
    m, out = os.path.join(path, "m.bin"), os.path.join(path, "out")
    program = Started(m, *ENDLESS, "--logits", out)
    program.wait_for("stdout", b"\n2\t")
    os.truncate(m, 0)
    equal(program.end()[0], 1)
    equal(os.listdir(path), ["m.bin"])


# ---------------------------------------------------------------------------------------------
# Names are text
# ---------------------------------------------------------------------------------------------

EVIL = "\x1b]0;title\x07\x1b[31m\x7f\x08\r\n\u009b31m\u0085\u202egnp\u2066\u200f\u061c\u2028"
HARMFUL = [c for c in "\x1b\x07\x7f\x08\u009b\u0085\u202e\u2066\u200f\u061c\u2028"]


def check_harmless(*args: str) -> str:
    """At a terminal, on both streams."""
    terminal = Terminal(*args, stdin=subprocess.DEVNULL, env={"NO_COLOR": "1"})
    shown = terminal.end()[1]                           # which is nothing but UTF-8
    found = [c for c in HARMFUL if c in shown]
    assert not found, f"{args}: {found} in {shown!r}"
    return shown


def test_names_of_files_and_flags() -> None:
    evil = scratch("evil")
    os.mkdir(evil)
    name = EVIL.replace("\n", "")
    good, path = model("script chat"), os.path.join(evil, name + ".bin")
    shutil.copy(good, path)
    bad = os.path.join(evil, "not " + name)
    scratch(bad, b"nothing")
    raw = os.fsdecode(b"\x9b31m\xff\xc2")
    for args in (
            [bad, "-p", "hi"], [bad + "none", "-p", "hi"], [good, "-p", "hi", "--compare", bad],
            [good, "-p", "hi", "-n", "2", "--compare", path], [path, "--info"],
            [path, "-p", "hi", "-n", "2", "-c", "40000"], [path, "--quantize", path + "8"],
            [path, "--quantize", path], [good, "--quantize", os.path.join(bad, "x")],
            [good, "-p", "hi", "--logits", bad + "/x"], [good, "--" + EVIL], [good, "-n", EVIL],
            [good, "-m", EVIL], [good, "--ids", EVIL], [good, EVIL], [good, raw],
            [good, "-n", raw], [good, "--" + raw], [raw, "-p", "x"],
            [good, "-p", "hi", "--stop", EVIL], [good, "-p", EVIL, "--score"],
            [good, "-p", raw, "--score"], [good, "-p", EVIL, "-n", "3", "--compare", path]):
        check_harmless(*args)
    check_harmless(good, "-p", "j", "-m", "base", "--stop", "\n")
    shown = check_harmless("苹果", "-p", "hi")
    assert "苹果" in shown, f"what is harmless is shown: {shown!r}"


def test_names_inside_a_model() -> None:
    path, data = scratch("inside.bin"), read(model("script chat"))
    evil = EVIL.encode()
    for name in (evil.ljust(64, b"\0"), b"\x9b31m\xff".ljust(64, b"\0")):
        scratch(path, with_fields(data, name=name, system=evil.ljust(768, b"x"),
                                  system_size=len(evil)))
        for args in (["--info"], ["-p", "hi", "-n", "2", "--compare", path],
                     ["-p", "hi", "--score"]):
            check_harmless(path, *args)


if __name__ == "__main__":
    sys.exit(main("files", globals()))
