"""Prints the constant UNICODE of export.py: what of the Unicode Character Database it needs and
Python's frozen copy of Unicode 3.2 (`unicodedata.ucd_3_2_0`) lacks.

    pip install unicodedata2==16.0.0; python3 tests/unicode_tables.py

Version 16.0 is that of the tables in `tokenizers` 0.23 (\\p{L}, \\p{N}, \\s). The numbers, each as
a LEB128, are described at unicode_tables() of export.py, which reads them.
"""
from __future__ import annotations

import base64
import itertools
import os
import sys
import unicodedata
import zlib
from typing import Callable, List

import unicodedata2

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from export import POINTS, kind                                          # noqa: E402

old, new = unicodedata.ucd_3_2_0, unicodedata2
WHITE_SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
               0x202F, 0x205F, 0x3000}


def new_kind(c: int) -> int:
    """The kind in Unicode 16.0, and 0 if that is what kind() makes of 3.2."""
    if 0x1160 <= c < 0x1200 or 0xD7B0 <= c < 0xD800:        # vowels and finals of Hangul
        made = kind(new, c) & 0x3FF | 1 << 10
    elif c == 0xAD:                                         # a soft hyphen is shown
        made = 1 << 11
    else:
        made = kind(new, c) | (c in WHITE_SPACE) * (3 << 8)
    return 0 if made == kind(old, c) else 1 + made


def runs(value: Callable[[int], int]) -> List[List[int]]:
    """[lengths], [values] of the runs of equal values"""
    return [list(part) for part in zip(*((len(list(group)), key) for key, group in
                                         itertools.groupby(map(value, POINTS))))]


def changes(values: List[int]) -> List[int]:
    """Differences between neighbours, d >= 0 as 2 * d and others as -2 * d - 1"""
    pairs = zip([0] + values, values)
    return [2 * (b - a) if b >= a else 2 * (a - b) - 1 for a, b in pairs]


def main() -> None:
    assert new.unidata_version == "16.0.0"
    kinds = runs(new_kind)
    pairs = []
    for c in POINTS:
        parts = new.decomposition(chr(c))
        if parts and not parts.startswith("<"):
            assert old.decomposition(chr(c)) in ("", parts)
            if not old.decomposition(chr(c)):
                pairs.append([c] + [int(part, 16) for part in (parts + " 0").split()[:2]])
    arrays = [*kinds, *(changes(list(column)) for column in zip(*pairs))]
    data = bytearray()
    for n in itertools.chain.from_iterable((len(array), *array) for array in arrays):
        while n > 127:
            data.append(n & 127 | 128)
            n >>= 7
        data.append(n)
    text = base64.b85encode(zlib.compress(bytes(data), 9)).decode()
    print('UNICODE = """', *(text[i:i + 100] for i in range(0, len(text), 100)), '"""', sep="\n")


if __name__ == "__main__":
    main()
