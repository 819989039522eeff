"""Compares ./tokenizer with the `tokenizers` library on generated strings or on files, and counts
differences: in the ids, and between the text that the ids decode to and the text's NFC.

    python3 tests/compare_tokenizer.py ./tokenizer MODEL.bin tokenizer.json [--strings N] [--seed N]
    [--files PATH ...]

Needs `tokenizers`; no part of test_all.sh. Many strings go through one process: they are joined by
an added token, at which both sides cut the text before they look at it, and the ids are split there
again. Code points that only one side's version of Unicode has are left out.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import subprocess
import sys
import time
from typing import Callable, List, Set, Tuple

import tokenizers

try:
    import unicodedata2 as unicodedata  # 16.0.0 is the version of export.py's tables
except ImportError:
    import unicodedata

SEPARATOR = "<|endoftext|>"
SPACES = [
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\v",
    "\f",
    "\x1c",
    "\x1f",
    "\x85",
    "\xa0",
    "\u1680",
    "\u2002",
    "\u2028",
    "\u2029",
    "\u202f",
    "\u205f",
    "\u3000",
    "\ufeff",
    "\u200b",
     "\u180e"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE",
    "'vE", "'lL", "'D", "'\u017f", "\u2019s", "''", "'r", "'l", "'x", "'"]
LOOK_ALIKES = [
    "<|im_start|>",
    "<|im_end|>",
    "<|im_end",
    "|>",
    "<|",
    "<",
    "<|im_end |>",
    "<|IM_END|>",
    "<|im_start|",
    "<<|im_end|>>",
     "|im_end|>"]
WORDS = (
    "the The THE colour naïve façade über Ærøskøbing don't I'll we've it's 3.14 1,000,000 "
    "x² ½ Ⅳ ① e-mail http://a.b/c?d=e f(x) != -> "
    "苹果是什么颜色 你好世界 東京 こんにちは カタカナ "
    "ｶﾞ 한국어 안녕하세요 Привет мир "
    "Ελληνικά ΐ שָׁלוֹם مرحبا हिन्दी नमस्ते "
    "বাংলা தமிழ் ไทยนี้ ລາວ "
    "မြန်မာ ខ្មែរ አማርኛ ქართული հայերեն "
    "👍🏽 👩‍👩‍👧 🇨🇳 ☃ ∑ √ § € "
    "int main(void) { return 0; } #include <stdio.h>"
).split(" ")
RANGES = [
    (0x20, 0x7F), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00),
    (0xE00, 0x1000), (0x1000, 0x1100), (0x1100, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2C00),
    (0x3000, 0x3400), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xD7B0, 0xD800), (0xE000, 0xE100),
    (0xF900, 0xFB50), (0xFB50, 0x10000), (0x10000, 0x12000), (0x1D000, 0x1D800), (0x1F000, 0x1FB00),
    (0x20000, 0x20100), (0x2F800, 0x2FA20), (0xE0000, 0xE01F0), (0x100000, 0x100010), (0, 0x110000)]


def shared_code_points() -> Tuple[Set[int], List[int], List[int]]:
    """(code points that behave alike on both sides, those that only one side's Unicode assigns or
    that are classed differently, those whose NFC differs). Our side is unicodedata2, or else this
    Python's; the library's is found from what its patterns and its normaliser do."""

    def matched(pattern: str) -> Set[int]:
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "removed", invert=True)
        return {
            ord(c) for piece, _ in split.pre_tokenize_str("".join(map(chr, points))) for c in piece
        }

    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    letters, numbers, spaces, unassigned = (
        matched(p) for p in (r"\p{L}", r"\p{N}", r"\s", r"\p{Cn}")
    )
    nfc = tokenizers.normalizers.NFC()
    classed, normalised = [], set()
    for c in points:
        char, category = chr(c), unicodedata.category(chr(c))
        ours = (
            category[0] == "L",
            category[0] == "N",
            char.isspace() and not 0x1C <= c <= 0x1F,
            category == "Cn",
        )
        if ours != (c in letters, c in numbers, c in spaces, c in unassigned):
            classed.append(c)
        # Alone, and as a mark that moves or blocks by its combining class.
        decomposed = unicodedata.normalize("NFD", char)
        for text in (
            char,
            decomposed,
            "a\u0301\u0345" + char,
            "a" + char + "\u0334\u0301",
            "\u1ea1" + char + "\u0302",
        ):
            if unicodedata.normalize("NFC", text) != nfc.normalize_str(text):
                normalised.update([c, *map(ord, decomposed)])
    return set(points).difference(classed, normalised), classed, sorted(normalised)


def ranges(points: List[int]) -> str:
    """Code points as U+0041-0043 U+0061."""
    groups = itertools.groupby(enumerate(points), lambda pair: pair[1] - pair[0])
    runs = [[c for _, c in group] for _, group in groups]
    return " ".join(f"U+{run[0]:04X}" + (f"-{run[-1]:04X}" if len(run) > 1 else "") for run in runs)


def make_generator(rng: random.Random, known: Set[int], longest: int = 12) -> Callable[[], bytes]:
    """A function that returns a new string, of up to `longest` parts and of code points of `known`,
    at each call; one in ten is no valid UTF-8."""
    marks = sorted(c for c in known if unicodedata.combining(chr(c)))
    bases = sorted(
        c
        for c in known
        if unicodedata.decomposition(chr(c))
        and not unicodedata.decomposition(chr(c)).startswith("<")
    )
    assigned = sorted(c for c in known if unicodedata.category(chr(c)) != "Cn")

    def from_range() -> str:
        low, high = rng.choice(RANGES)
        return "".join(
            chr(c)
            for c in (rng.randrange(low, high) for _ in range(rng.randint(1, 8)))
            if c in known
        )

    def run() -> str:
        return rng.choice(
            [
                " ",
                "a",
                "的",
                "\n",
                " \n",
                "ab",
                "́",
                "̣́",
                "가",
                "-",
                "1",
                "<|im_",
                "👍",
                "\r\n",
                "\t ",
            ]
        ) * rng.choice([2, 3, 7, 30, 200])

    makers = [
        lambda: rng.choice(WORDS),
        lambda: rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 5]),
        lambda: rng.choice(CONTRACTIONS),
        lambda: rng.choice(LOOK_ALIKES),
        from_range,
        from_range,
        lambda: chr(rng.choice(assigned)),
        lambda: chr(rng.choice(bases)),
        lambda: unicodedata.normalize("NFD", chr(rng.choice(bases)) + chr(rng.choice(bases))),
        lambda: rng.choice("aeiouAEO가ᄀ각αяक" + chr(rng.choice(bases)))
        + "".join(chr(rng.choice(marks)) for _ in range(rng.randint(1, 4))),
        lambda: "".join(
            chr(rng.randrange(low, high))
            for low, high in [(0x1100, 0x1113), (0x1161, 0x1176), (0x11A7, 0x11C3)][
                : rng.randint(1, 3)
            ]
        ),
        lambda: str(rng.randrange(10 ** rng.randint(1, 9))),
        lambda: "".join(
            rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ") for _ in range(rng.randint(1, 12))
        ),
        run,
    ]
    weights = [6, 8, 2, 1, 4, 4, 2, 2, 2, 3, 2, 2, 4, 0.3]

    def generate() -> bytes:
        while True:
            text = "".join(
                rng.choices(makers, weights)[0]() for _ in range(rng.randint(1, longest))
            )
            data = damage(rng, text) if rng.random() < 0.1 else text.encode()
            if data and is_known(data, known):
                return data

    return generate


def damage(rng: random.Random, text: str) -> bytes:
    """The text in UTF-8 with bytes dropped, changed and inserted."""
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            data[at:at] = bytes(
                rng.choice([0x80, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xF5, 0xFF, 0xA0, 0x90])
                for _ in range(rng.randint(1, 3))
            )
        elif kind == 1:
            del data[at : at + 1]
        elif at < len(data):
            data[at] = rng.randrange(256)
    return bytes(data)


def is_known(data: bytes, known: Set[int]) -> bool:
    """Whether it can be compared: of code points of `known`, and without the separator."""
    return SEPARATOR.encode() not in data and known.issuperset(
        map(ord, data.decode("utf-8", "replace"))
    )


def nfc(data: bytes) -> bytes:
    """What should come back: NFC, with U+FFFD for what is no UTF-8, of each part between special
    tokens."""
    parts = re.split(r"(<\|im_start\|>|<\|im_end\|>)", data.decode("utf-8", "replace"))
    return "".join(unicodedata.normalize("NFC", part) for part in parts).encode()


def read_lines(path: str) -> List[bytes]:
    with open(path, "rb") as file:
        return file.read().splitlines(keepends=True)


def run(program: str, model: str, data: bytes, flag: str) -> bytes:
    return subprocess.run(
        [program, model, flag], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def our_ids(program: str, model: str, data: bytes) -> List[int]:
    return list(map(int, run(program, model, data, "--ids").split()))


def compare(
    program: str, model: str, library: tokenizers.Tokenizer, strings: List[bytes]
) -> Tuple[List[bytes], List[bytes]]:
    """The strings whose ids differ, and those that do not come back as their NFC. None is empty."""
    separator = library.token_to_id(SEPARATOR)
    output = run(program, model, SEPARATOR.encode().join(strings), "--ids")
    ids = list(map(int, output.split()))
    ours = [
        list(group)
        for is_separator, group in itertools.groupby(ids, lambda i: i == separator)
        if not is_separator
    ]
    theirs = library.encode_batch_fast(
        [s.decode("utf-8", "replace") for s in strings], add_special_tokens=False
    )
    backs = run(program, model, output, "--decode").split(SEPARATOR.encode())
    assert len(ours) == len(backs) == len(strings), "ids of the separator where there is none"
    return (
        [s for s, our, their in zip(strings, ours, theirs) if our != their.ids],
        [s for s, back in zip(strings, backs) if back != nfc(s)],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program")
    parser.add_argument("model", metavar="MODEL.bin")
    parser.add_argument("tokenizer", metavar="tokenizer.json")
    parser.add_argument("--strings", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--files",
        nargs="+",
        metavar="PATH",
        help="compare these, some lines at a time, instead of generated strings",
    )
    args = parser.parse_args()
    library = tokenizers.Tokenizer.from_file(args.tokenizer)
    known, classed, normalised = shared_code_points()
    print(
        f"Unicode here {unicodedata.unidata_version}, tokenizers {tokenizers.__version__}. "
        f"Left out: {len(classed)} code points that only one side assigns; {len(normalised)} in "
        f"whose NFC they differ: {ranges(normalised)}",
        flush=True,
    )
    rng = random.Random(args.seed)
    if args.files:
        lines = [line for path in args.files for line in read_lines(path)]
        shared = [line for line in lines if is_known(line, known)]
        print(f"{len(lines)} lines, {len(lines) - len(shared)} of them left out", flush=True)
        rest = iter(shared)
        strings = iter(lambda: b"".join(itertools.islice(rest, rng.randint(1, 20))), b"")
    else:
        generate = make_generator(rng, known)
        strings = (generate() for _ in range(args.strings))
    differing: List[bytes] = []
    lost: List[bytes] = []
    count = size = 0
    start = time.time()
    for batch in iter(lambda: list(itertools.islice(strings, 10000)), []):
        different, other = compare(args.program, args.model, library, batch)
        differing, lost = differing + different, lost + other
        count, size = count + len(batch), size + sum(map(len, batch))
        if sys.stderr.isatty():
            print(
                f"\r{count} strings, {len(differing)} differ, {time.time() - start:.0f} s ",
                end="",
                file=sys.stderr,
            )
    for s in differing[:20]:
        print(
            ascii(s),
            our_ids(args.program, args.model, s),
            library.encode(s.decode("utf-8", "replace"), add_special_tokens=False).ids,
        )
    for s in lost[:20]:
        print(ascii(s), "does not come back")
    print(
        f"{count} strings, {size} bytes: {len(differing)} differ, "
        f"{len(lost)} do not come back as their NFC"
    )
    return 1 if differing or lost else 0


if __name__ == "__main__":
    sys.exit(main())
