"""Prints the constant UNICODE of export.py: what of the Unicode Character Database it needs and
Python's frozen copy of Unicode 3.2 (`unicodedata.ucd_3_2_0`) lacks.

    pip install unicodedata2==16.0.0; python3 tests/unicode_tables.py

Version 16.0 is that of the tables in `tokenizers` 0.23 (\\p{L}, \\p{N}, \\s). The numbers, each as
a LEB128, are described at unicode_tables() of export.py, which reads them.
"""
from __future__ import annotations

import base64
import itertools
import unicodedata
import zlib
from typing import Callable, List

import unicodedata2

POINTS = [*range(0x40000), *range(0xE0000, 0xE1000)]    # all others are alike
old, new = unicodedata.ucd_3_2_0, unicodedata2


def kind(database: object, c: int) -> int:
    """combining class | 1 letter, 2 number << 8 | no column of its own << 10"""
    category = database.category(chr(c))
    return (database.combining(chr(c)) | {"L": 1, "N": 2}.get(category[0], 0) << 8
            | (category in ("Mn", "Me", "Cf")) << 10)


def is_wide(c: int) -> int:
    return new.category(chr(c)) != "Cn" and new.east_asian_width(chr(c)) in "WF"


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
    kinds = runs(lambda c: 0 if kind(new, c) == kind(old, c) else 1 + kind(new, c))
    widths = runs(is_wide)[0]
    pairs = []
    for c in POINTS:
        parts = new.decomposition(chr(c))
        if parts and not parts.startswith("<"):
            assert old.decomposition(chr(c)) in ("", parts)
            if not old.decomposition(chr(c)):
                pairs.append([c] + [int(part, 16) for part in (parts + " 0").split()[:2]])
    columns = [changes(list(column)) for column in zip(*pairs)]
    numbers = [len(kinds[0]), *kinds[0], *kinds[1], len(widths), *widths, len(pairs), *columns[0],
               *columns[1], *columns[2]]
    data = bytearray()
    for n in numbers:
        while n > 127:
            data.append(n & 127 | 128)
            n >>= 7
        data.append(n)
    text = base64.b85encode(zlib.compress(bytes(data), 9)).decode()
    print('UNICODE = """', *(text[i:i + 100] for i in range(0, len(text), 100)), '"""', sep="\n")


if __name__ == "__main__":
    main()
