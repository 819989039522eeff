"""Tests of ./tokenizer: ids against golden ones, text normalisation against `unicodedata`, the
command line, files that lie.

    python3 tests/test_tokenizer.py ./tokenizer [REAL.bin]

REAL.bin is the export of any checkpoint with the real tokenizer; a small one is made here. A line
per test, `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one failed.
Standard library only.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import traceback
import unicodedata
import zlib
from typing import Any, Callable, Dict, List, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
sys.dont_write_bytecode = True
from export import byte_alphabet  # noqa: E402
from make_checkpoint import make_checkpoint, synthetic_tokenizer  # noqa: E402

PROGRAM = ""
MODELS: Dict[str, str] = {}
SCRATCH = ""  # a directory of this run's own


class Skip(Exception):
    """Why a test cannot run here."""


def run(
    *args: str, data: bytes = b"", model: str = "", timeout: float = 60
) -> Tuple[int, bytes, str]:
    """(exit status, standard output, standard error) of the program."""
    done = subprocess.run(
        [PROGRAM, model or MODELS["small"], *args],
        input=data,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=timeout,
    )
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


def output(*args: str, data: bytes = b"", model: str = "") -> bytes:
    status, out, err = run(*args, data=data, model=model)
    assert (status, err) == (0, ""), f"{args}: exit status {status}, {err!r}"
    return out


def check_error(status: int, got: Tuple[int, bytes, str], *words: str) -> None:
    """One line on standard error that holds the words, nothing on standard output."""
    assert got[0] == status, f"exit status {got[0]} instead of {status}: {got[2]!r}"
    assert got[1] == b"", f"standard output {got[1][:100]!r}"
    assert (
        got[2].startswith("tokenizer: ") and got[2].count("\n") == 1 and got[2].endswith("\n")
    ), repr(got[2])
    for word in words:
        assert word in got[2], f"no {word!r} in {got[2]!r}"


def roundtrip(data: bytes, *flags: str) -> bytes:
    """decode(encode(data))"""
    return output("--decode", data=output("--ids", *flags, data=data))


# --------------------------------------------------------------------------------------------------
# A small tokenizer that shows what the program does
# --------------------------------------------------------------------------------------------------

# Each of these is a token, though no word: it appears if the text is cut in a wrong place, as
# each branch of the
# pattern could be.
WRONG_CUTS = [
    "'sa",
    "'\u017fa",
    "'Ta",
    "'rea",
    "'VEa",
    "'ma",
    "'lLa",
    "'da",
    "'ra",
    "x'",
    "1a",
    "a1",
    "12",
    "\u00b22",
    "\na",
    "\ra",
    "a\n",
    " a",
    "\ta",
    "-a",
    "  a",
    " 1",
    "-1",
    " -",
    "  -",
    "-\n",
    "-\n\n",
    "-\r\n",
    "\t-",
    "- ",
    "-a-",
    " \n",
    " \n ",
    "\n ",
    "\n\n",
    " \n\n",
    "\n \n",
    "   ",
    "\n-",
    "\u3000\u4e2d",
    "\u4e2d\u6587",
    "\u4e2d-",
    "\x85a",
    "\x85-",
    "\u2028\n",
    "a<|im_end|>",
    "\u00e9",
    "e\u0301",
    "\u1ead",
    "a\u0323",
    "a\u0302",
    "\u0302\u0323",
    "\u0323\u0302",
    "\uac00",
    "\uac01",
    "\u1100\u1161",
    "\ufffd",
    "\ufffd\ufffd",
     "a\ufffd"]


def small_tokenizer() -> Dict[str, Any]:
    """tokenizer.json: the merges that build WRONG_CUTS from the left, then any two and three of the
    letters a to d, mixed."""
    stand_in = {byte: chr(c) for c, byte in byte_alphabet().items()}
    vocab = {stand_in[byte]: byte for byte in range(256)}
    merges: List[str] = []

    def merge(left: str, right: str) -> None:
        vocab.setdefault(left + right, len(vocab))
        if left + " " + right not in merges:
            merges.append(left + " " + right)

    for text in WRONG_CUTS:
        symbols = [stand_in[byte] for byte in text.encode()]
        for i in range(1, len(symbols)):
            merge("".join(symbols[:i]), symbols[i])
    pairs = ["".join(pair) for pair in itertools.product("abcd", repeat=2)]
    for level in (
        itertools.product("abcd", "abcd"),
        [*itertools.product(pairs, "abcd"), *itertools.product("abcd", pairs)],
    ):
        for left, right in sorted(level, key=lambda pair: zlib.crc32(" ".join(pair).encode())):
            merge(left, right)
    tokenizer, _ = synthetic_tokenizer()
    tokenizer["model"].update(vocab=vocab, merges=merges)
    for i, token in enumerate(tokenizer["added_tokens"]):
        token["id"] = len(vocab) + i
    return tokenizer


# Added tokens of each kind, special and normalized, some of which
# overlap: (text, special, normalized)
ADDED = (("<SEG>", False, True), ("<tool_call>", False, False), ("<think>", False, False),
         ("<|im_", False, False), ("<SEGMENT>", False, True), ("EG", False, True),
         ("\u0416", False, True), ("SEG>x", True, True), ("<|im_end|>!", False, False),
         ("xqx", True, False), ("\u82f9\u679c", False, True), ("yqy", False, True))


def with_added(tokenizer: Dict[str, Any]) -> Dict[str, Any]:
    """The tokenizer and ADDED."""
    first = tokenizer["added_tokens"][0]
    n = 1 + max(token["id"] for token in tokenizer["added_tokens"])
    tokenizer["added_tokens"] += [
        dict(first, id=n + i, content=text, special=special, normalized=normalized)
        for i, (text, special, normalized) in enumerate(ADDED)
    ]
    return tokenizer


def make_model(name: str, tokenizer: Dict[str, Any]) -> str:
    directory, path = os.path.join(SCRATCH, name), os.path.join(SCRATCH, name + ".bin")
    os.mkdir(directory)
    for file_name, values in (
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", synthetic_tokenizer()[1]),
    ):
        with open(os.path.join(directory, file_name), "w", encoding="utf-8") as file:
            json.dump(values, file)
    checkpoint = os.path.join(SCRATCH, name + "-checkpoint")
    make_checkpoint(checkpoint, dim=8, layers=1, heads=1, kv_heads=1, hidden=8, tokenizer=directory)
    subprocess.run(
        [sys.executable, os.path.join(os.path.dirname(HERE), "export.py"), checkpoint, path],
        check=True,
        stderr=subprocess.PIPE,
    )
    return path


# --------------------------------------------------------------------------------------------------
# ids
# --------------------------------------------------------------------------------------------------


def golden(name: str) -> str:
    if name not in MODELS:
        raise Skip("no model with the real tokenizer was given")
    with open(os.path.join(HERE, "tokenizer_golden.json"), encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    n_compared = 0
    for case in cases:
        text = case["text"].encode() if "text" in case else bytes.fromhex(case["hex"])
        if name not in case:
            continue
        ids = (
            output("--ids", *["--plain"] * case.get("plain", False), data=text, model=MODELS[name])
            .decode()
            .strip()
        )
        assert ids == case[name], f"{case}: {ids} instead of {case[name]}"
        n_compared += 1
    assert n_compared > 200, f"only {n_compared} cases"
    return f"{n_compared} texts"


def test_golden_small() -> str:
    return golden("small")


def test_golden_added() -> str:
    return golden("added")


def test_golden_real() -> str:
    return golden("real")


def test_long_words_take_no_square() -> None:
    rng = random.Random(1)
    texts = {
        "one letter": "a" * 10**6,
        "letters": "".join(rng.choice("helowrdt") for _ in range(10**6)),
        "spaces": " " * 10**6,
        "newlines": " \n" * 500000,
        "Chinese": "苹果是什么颜色" * 50000,
        "marks": "a" + "".join(rng.choice("\u0301\u0323\u0345") for _ in range(500000)),
        "jamo": "\u1112\u1161\u11ab" * 110000,
        "quotes": "'" * 10**6,
        "openings": "<|im_" * 200000,
    }
    for model in MODELS.values():
        for what, text in texts.items():  # n log n: well under a second; n * n: hours
            status, out, err = run("--ids", data=text.encode(), model=model, timeout=120)
            assert status == 0 and out, f"{what}: exit status {status}, {err!r}"


# --------------------------------------------------------------------------------------------------
# UTF-8 and NFC: the bytes come back as Python's decoder and `unicodedata` have them
# --------------------------------------------------------------------------------------------------


def check_texts(texts: List[bytes], separator: bytes) -> None:
    for begin in range(0, len(texts), 5000):
        part = texts[begin : begin + 5000]
        for text, back in zip(part, roundtrip(separator.join(part)).split(separator)):
            expected = unicodedata.normalize("NFC", text.decode("utf-8", "replace")).encode()
            assert back == expected, f"{text!r} became {back!r} instead of {expected!r}"


def test_bad_utf8_is_replaced_as_python_does() -> None:
    edges = [
        0x41,
        0x7F,
        0x80,
        0x8F,
        0x90,
        0x9F,
        0xA0,
        0xBF,
        0xC0,
        0xC1,
        0xC2,
        0xDF,
        0xE0,
        0xE1,
        0xEC,
        0xED,
        0xEE,
        0xEF,
        0xF0,
        0xF1,
        0xF3,
        0xF4,
        0xF5,
        0xFF,
    ]
    texts = [
        bytes(pair) for pair in itertools.product(range(0x80, 0x100), range(256)) if 10 not in pair
    ]
    texts += [
        bytes(t)
        for n in (3, 4)
        for t in itertools.product(edges[8:], *[edges[:: 2 if n == 4 else 1]] * (n - 1))
    ]
    check_texts(texts, b"\n")


def test_nfc_of_every_character() -> None:
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c != 10]
    decomposed = [unicodedata.normalize("NFD", c) for c in characters]
    texts = [c.encode() for c in characters] + [
        d.encode() for c, d in zip(characters, decomposed) if c != d
    ]
    texts += [
        "".join(t).encode()
        for t in itertools.product(
            "\u1100\u1112\u1113", "\u1161\u1175\u1176", ["", "\u11a7", "\u11a8", "\u11c2", "\u11c3"]
        )
    ]
    check_texts(texts, b"\n")


def test_nfc_of_mixed_marks() -> None:
    rng = random.Random(2)
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    bases = (
        [chr(c) for c in range(0x80, 0x30000) if unicodedata.decomposition(chr(c))]
        + list("aeiosAEO<=qx")
        + [chr(c) for c in range(0x1100, 0x1200)]
    )
    common = [
        chr(c)
        for c in (
            0x300,
            0x301,
            0x302,
            0x307,
            0x308,
            0x31B,
            0x323,
            0x327,
            0x328,
            0x338,
            0x342,
            0x345,
            0x93C,
            0x9BE,
            0x3099,
        )
    ]
    texts = [
        "".join(
            rng.choice(rng.choice((marks, bases, common, common))) for _ in range(rng.randint(1, 8))
        ).encode()
        for _ in range(30000)
    ]
    check_texts(texts + ["".join(rng.choice(marks) for _ in range(1000)).encode()], b"\n")


def test_any_bytes_come_back() -> None:
    rng = random.Random(3)
    choice = b"\x00\x09 abz'<|>09\xc3\xa9\xcc\x81\xe4\xb8\xad\xf0\x9f\x8d\x8e\xff"
    check_texts(
        [bytes(rng.choice(choice) for _ in range(rng.randint(0, 30))) for _ in range(5000)], b"\n"
    )
    data = bytes(rng.randrange(0x20, 0x7F) for _ in range(10000)) + b"\r\n"
    assert (
        roundtrip(data) == data and roundtrip(data, "--plain") == data
    ), "nothing is added or stripped"


# --------------------------------------------------------------------------------------------------
# command line
# --------------------------------------------------------------------------------------------------


def test_pieces() -> None:
    text = (
        b"abcd\tthe\n\\ \xe4\xb8\x80\xff\x00\x1b[0m\r\x7f\xc2\x85\xe2\x80\xa8\xe2\x80\xae"
        b"\xe3\x80\x80\xef\xbf\xbd"
    )
    lines = output(data=text).decode().split("\n")
    assert lines.pop() == "", "a newline ends the last line"
    pieces = [line.split("\t")[1] for line in lines]
    assert [line.split("\t")[0] for line in lines] == output("--ids", data=text).decode().split()
    assert {"t", "\\t", "\\n", "\\\\", "\\x00", "\\x1b", "\\x0d", "\\x7f"} <= set(pieces), pieces
    raw = b"".join(p.encode() for p in pieces)
    assert all(
        byte >= 0x20 and byte != 0x7F for byte in raw
    ), "control characters are shown, not sent"


def test_text_or_standard_input() -> None:
    assert (
        output("--ids", "hello world")
        == output("--ids", data=b"hello world")
        == output("hello world", "--ids")
    )
    assert output("--ids", "") == output("--ids") == b"\n" and output("") == output() == b""
    assert output("--ids", "a\n") != output("--ids", "a")
    assert output("--ids", "--", "--ids") == output("--ids", data=b"--ids") and output(
        "--ids", "-"
    ) == output("--ids", data=b"-")


def test_special_or_plain() -> None:
    special, plain = output("a<|im_end|>b"), output("--plain", "a<|im_end|>b")
    assert (
        b"\t<|im_end|>\n" in special
        and b"<|im_end|>" not in plain
        and len(plain.split(b"\n")) > len(special.split(b"\n"))
    )


def test_decode() -> None:
    ids = output("--ids", "Hello 苹果<|im_end|>").decode().split()
    expected = "Hello 苹果<|im_end|>".encode()
    assert (
        output("--decode", *ids)
        == output("--decode", " ".join(ids))
        == output("--decode", data="\n".join(ids).encode())
        == expected
    )
    vocab_size, n_vocab = (read_u32(MODELS["small"], at) for at in (88, 1152))
    assert (
        n_vocab < vocab_size and output("--decode", str(n_vocab), str(vocab_size - 1), "97") == b"a"
    ), "ids without a token decode to nothing"
    assert output("--decode", data=b" \n") == b""
    for wrong in (
        str(vocab_size),
        "x",
        "1x",
        "-1",
        "+1",
        "1.0",
        "99999999999999999999",
        "4294967296",
        "18446744073709551616",
    ):
        check_error(2, run("--decode", "97", "--", wrong), wrong)
        check_error(2, run("--decode", data=b"97 " + wrong.encode()), wrong)


def test_decode_refuses_a_nul() -> None:
    for data in (b"97\x00 98", b"\x00", b"97 98\x00"):
        check_error(2, run("--decode", data=data), "NUL", "--decode")


def test_errors_are_harmless() -> None:
    """What a terminal would obey is shown as a question mark; other characters pass."""
    for text, shown in (
        ("\x1b[31m", "?[31m"),
        ("a\u009bb", "a?b"),
        ("\u202e\u2066\u200f\u061c", "????"),
        ("\u2028\x7f\n\r", "????"),
        ("苹é👍", "苹é👍"),
        ("a\udcffb\udce2\udc82", "a?b?"),
    ):
        check_error(2, run("--" + text + "x"), f"no such flag: --{shown}x: see")
        check_error(1, run(model=os.path.join(SCRATCH, text + "x")), f"/{shown}x: No such file")


def test_file_that_changes() -> None:
    """The tables are the program's own: what becomes of the file later does not matter."""
    for size, byte in ((0, b""), (None, b"\xff"), (None, b"\x00")):
        path = with_file(small_model())
        process = subprocess.Popen(
            [PROGRAM, path, "--ids"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin
        process.stdin.write(b"x" * 200000)  # more than a pipe holds: it is being read
        process.stdin.flush()
        with open(path, "r+b") as file:
            file.write(byte * os.path.getsize(path))
            if size is not None:
                file.truncate(size)
        out, _ = process.communicate(b"hello")
        assert process.returncode == 0, process.returncode
        expected = subprocess.run(
            [PROGRAM, with_file(small_model()), "--ids"], input=b"x" * 200000 + b"hello",
            stdout=subprocess.PIPE, check=True
        ).stdout
        assert out == expected, "other ids"


def test_wrong_command_lines() -> None:
    for args in (
        ["--no-such-flag"],
        ["-x"],
        ["a", "b"],
        ["--decode", "--ids"],
        ["--decode", "--plain", "1"],
    ):
        check_error(2, run(*args))
    done = subprocess.run([PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (
        done.returncode == 2
        and done.stderr.startswith(b"tokenizer: no model")
        and done.stderr.count(b"\n") == 1
    )
    done = subprocess.run([PROGRAM, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0 and done.stdout.startswith(b"usage: ") and not done.stderr


def test_output_that_ends_early() -> None:
    for flags in ([], ["--ids"], ["--decode"]):
        data = b"97 " * 200000 if "--decode" in flags else b"x " * 200000
        with open(os.path.join(SCRATCH, "input"), "wb") as file:
            file.write(data)
        with open(os.path.join(SCRATCH, "input"), "rb") as file:
            process = subprocess.Popen(
                [PROGRAM, MODELS["small"], *flags],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert process.stdout and process.stderr
            process.stdout.read(10)
            process.stdout.close()
            errors = process.stderr.read()
            process.stderr.close()
            assert (
                process.wait(60) == 0 and errors == b""
            ), f"{flags}: exit status {process.returncode}, {errors!r}"
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full here for the second half")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [PROGRAM, MODELS["small"], "hello"], stdout=full, stderr=subprocess.PIPE
        )
    check_error(1, (done.returncode, b"", done.stderr.decode()), "standard output")


# --------------------------------------------------------------------------------------------------
# files
# --------------------------------------------------------------------------------------------------


def read_u32(path: str, at: int) -> int:
    with open(path, "rb") as file:
        file.seek(at)
        return struct.unpack("<I", file.read(4))[0]


def layout(data: bytes) -> Dict[str, Tuple[int, int]]:
    """{array: (offset in the file, size in bytes)} of the tokenizer section, as the description of
    the format has it."""
    n_vocab, n_added, n_slots, n_blocks, n_decompositions, n_compositions, n_bytes = (
        struct.unpack_from("<7I", data, 1152)
    )
    arrays, at = {}, 64
    for name, size in (
        ("byte_id", 1024),
        ("token_start", 4 * n_vocab + 4),
        ("added", 4 * n_added),
        ("merges", 16 * n_slots),
        ("block", 2 * 4352),
        ("chars", 512 * n_blocks),
        ("decompositions", 12 * n_decompositions),
        ("compositions", 12 * n_compositions),
        ("bytes", n_bytes),
    ):
        at = (at + 63) // 64 * 64
        arrays[name] = (1152 + at, size)
        at += size
    assert at == struct.unpack_from("<Q", data, 32)[0], "tokenizer_size"
    return arrays


def with_file(data: bytes) -> str:
    path = os.path.join(SCRATCH, "changed.bin")
    with open(path, "wb") as file:
        file.write(data)
    return path


def small_model() -> bytes:
    with open(MODELS["small"], "rb") as file:
        return file.read()


def test_what_is_no_model() -> None:
    check_error(1, run(model=os.path.join(SCRATCH, "missing.bin")), "missing.bin", "No such file")
    check_error(1, run(model=SCRATCH), "directory")
    check_error(1, run(model=with_file(b"")), "empty", "changed.bin")
    check_error(
        1,
        run(model=with_file(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")),
        "git lfs pull",
    )
    for data in (b"q", b"qwen.c\n\0", b"\0" * 4096, small_model()[:1000]):
        check_error(1, run(model=with_file(data)), "changed.bin", "export.py")
    fifo = os.path.join(SCRATCH, "fifo")
    os.mkfifo(fifo)
    check_error(1, run(model=fifo), "fifo", "regular")
    data = small_model()
    for size in (1152, 1153, len(data) // 2, len(data) - 1):
        check_error(1, run(model=with_file(data[:size])), str(len(data)))
    check_error(1, run(model=with_file(data + b"\0")), str(len(data)))


def test_numbers_that_cannot_be() -> None:
    data = small_model()
    arrays = layout(data)
    (n_vocab,) = struct.unpack_from("<I", data, 1152)
    changes: List[Tuple[str, int, int]] = [
        ("version", 8, 1),
        ("header_size", 12, 1000),
        ("file_size", 16, 1),
        ("tokenizer_offset", 24, 1216),
        ("tokenizer_offset", 28, 1),
        ("weights_offset", 40, 64),
        ("weights_size", 48, 0),
        ("vocab_size", 88, n_vocab - 1),
        ("vocab_size", 88, 1 << 31),
    ]
    changes += [
        (f"tokenizer_size or count {i}", at, value)
        for i, at in enumerate((32, 1152, 1156, 1160, 1164, 1168, 1172, 1176))
        for value in (17, 65, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    ]
    for name, value in (
        ("byte_id", n_vocab),
        ("byte_id", 0xFFFFFFFF),
        ("token_start", 0xFFFFFFFF),
        ("added", n_vocab),
        ("added", 0xFFFFFFFF),
        ("block", 0xFFFFFFFF),
        ("decompositions", 0x110000),
        ("compositions", 0xFFFFFFFF),
    ):
        begin, size = arrays[name]
        changes += [(name, at, value) for at in (begin, begin + size // 8 * 4, begin + size - 4)]
    added = struct.unpack_from("<I", data, arrays["added"][0])[0] & 0x3FFFFFFF
    start = arrays["token_start"][0] + 4 * added
    changes += [
        ("an empty added token", start + 4, struct.unpack_from("<I", data, start)[0]),
        ("an empty added token", start, struct.unpack_from("<I", data, start + 4)[0]),
    ]
    changes += [("n_slots", 1160, n) for n in (0, 1, 3)]
    changes += [
        ("the last token's end", arrays["token_start"][0] + 4 * n_vocab, n) for n in (0, 1 << 20)
    ]
    changes += [("the first token's start", arrays["token_start"][0], 1)]
    used = [
        at
        for at in range(*(arrays["merges"][0], sum(arrays["merges"])), 16)
        if data[at + 12 : at + 16] != b"\xff" * 4
    ]
    changes += [("merges", used[0] + 12, n_vocab), ("merges", used[-1] + 12, 0xFFFFFFFE)]
    for what, at, value in changes:
        changed = bytearray(data)
        struct.pack_into("<I", changed, at, value)
        try:
            check_error(
                1, run("hello the 苹果 e\u0301", model=with_file(bytes(changed))), "changed.bin"
            )
        except AssertionError as error:
            raise AssertionError(f"{what} at byte {at} set to {value}: {error}") from None
    for at, value, words in (
        (88, 1 << 31, ["vocab_size", "header"]),
        (88, 0, ["vocab_size", "header"]),
        (8, 1, ["version 1", "version 2", "export it again"]),
    ):
        changed = bytearray(data)
        struct.pack_into("<I", changed, at, value)
        check_error(1, run("hello", model=with_file(bytes(changed))), *words)
    # A table of 1 slot or of 3 whose section is right in every other way.
    for n_slots in (1, 3):
        begin, size = arrays["merges"]
        section = bytearray(data[1152:begin])
        struct.pack_into("<I", section, 8, n_slots)
        section += struct.pack("<4I", 0, 0, 0, 0xFFFFFFFF) * n_slots
        for name in ("block", "chars", "decompositions", "compositions", "bytes"):
            section += bytes(-len(section) % 64) + data[arrays[name][0] : sum(arrays[name])]
        tokenizer_size, old_weights = len(section), struct.unpack_from("<Q", data, 40)[0]
        section += bytes(-len(section) % 64)
        changed = bytearray(data[:1152]) + section + data[old_weights:]
        struct.pack_into(
            "<5Q",
            changed,
            16,
            len(changed),
            1152,
            tokenizer_size,
            1152 + len(section),
            len(data) - old_weights,
        )
        check_error(1, run("hello", model=with_file(bytes(changed))), "merge table")
    full = bytearray(data)  # no empty slot: a search would have no end
    for at in range(arrays["merges"][0], sum(arrays["merges"]), 16):
        if at not in used:
            struct.pack_into("<4I", full, at, 0, 0, 0, 0)
    check_error(1, run("hello", model=with_file(bytes(full))), "merges")


def test_damaged_files() -> None:
    data, rng = small_model(), random.Random(4)
    end = 1152 + struct.unpack_from("<Q", data, 32)[0]
    text = "hello world the 苹果是什么 e\u0301\u0323 ậ 한국어 \u1100\u1161 \ud7a3 "
    text = (text + "<|im_end|> It's 3.14\n\n \x85").encode()
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 10, 1000))):
            at = rng.randrange(rng.choice((1152, 2048, end, end)))
            changed[at] = rng.choice(
                (0, 0xFF, changed[at] ^ 1 << rng.randrange(8), rng.randrange(256))
            )
        if rng.random() < 0.7:
            # else the header and the counts refuse nearly all
            changed[:1216] = data[:1216]
        status, out, err = run(data=text, model=with_file(bytes(changed)), timeout=60)
        assert status in (0, 1) and err.count("\n") == status, f"exit status {status}, {err!r}"
        if status == 1:
            check_error(1, (status, out, err), "changed.bin")


def main() -> int:
    global PROGRAM, SCRATCH
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    PROGRAM = os.path.abspath(sys.argv[1])
    if len(sys.argv) == 3:
        MODELS["real"] = sys.argv[2]
    tests: Dict[str, Callable[[], Any]] = {
        name[5:].replace("_", " "): test
        for name, test in globals().items()
        if name.startswith("test_")
    }
    failed = 0
    with tempfile.TemporaryDirectory() as SCRATCH:
        MODELS["small"] = make_model("small", small_tokenizer())
        MODELS["added"] = make_model("added", with_added(small_tokenizer()))
        for name, test in tests.items():
            try:
                test()
                print(f"ok   tokenizer: {name}", flush=True)
            except Skip as why:
                print(f"skip tokenizer: {name}: {why}", flush=True)
            except Exception as error:  # the other tests still say something
                failed += 1
                reason = (
                    str(error)
                    if isinstance(error, AssertionError)
                    else traceback.format_exc().strip().replace("\n", " | ")
                )
                print(f"FAIL tokenizer: {name}: {reason[:600]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
