"""Writes tests/tokenizer_golden.json: texts and the ids that the `tokenizers` library gives for
them.

    python3 tests/tokenizer_golden.py QWEN/tokenizer.json

The ids are those of the real tokenizer, and for a part of the texts of the small one of
test_tokenizer.py. Needs `tokenizers` and unicodedata2 16.0.0. Characters on which the two disagree
(see compare_tokenizer.py) are left out.
"""
from __future__ import annotations

import json
import os
import random
import sys
from typing import Any, Dict, List

import tokenizers

sys.dont_write_bytecode = True
import compare_tokenizer                                # noqa: E402
from compare_tokenizer import unicodedata               # noqa: E402
import test_tokenizer                                   # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer_golden.json")
N_GENERATED = 500
N_SMALL = 100                           # of these, with ids of the small tokenizer too

# By hand: each branch of the split pattern, each step of NFC, each way in which bytes are no UTF-8.
TEXTS = [
    "", " ", "a", "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "What colour is an apple?", "苹果是什么颜色？",
    "Qwen1.5 的 base 和 chat 模型", "이것은 사과입니다. 한국어",
    "これはリンゴです。カタカナ", "Что такое яблоко?",
    "Τι χρώμα έχει το μήλο;",
    "ما لون التفاحة؟", "סֵפֶר עִבְרִית",
    "सेब का रंग क्या है?", "แอปเปิ้ลสีอะไร",
    "ক্ষ ত্র জ্ঞ",
    "தமிழ்", "მწვანე", "ቀይ", "Tiếng Việt: quả táo màu gì?",
    # contractions, also where they are none
    "I'm you're he's we'll they've I'd don't", "I'M YOU'RE HE'S WE'LL THEY'VE I'D DON'T",
    "'s't're've'm'll'd", "'S'T'RE'VE'M'LL'D", "'rE 'Ve 'lL",
    "it\u2019s", "'\u017fx", "'sa 'tt 'reb 'r 'v 'l 'x", "''s", " 's", "1's", "'",
    "o'clock rock'n'roll", "'\u212a", "x'S\u0301",
    # letters and what may stand before them
    "abc", " abc", "\tabc", "\nabc", "\rabc", "-abc", "_abc_", "1abc", "\u3000中文", "\u00a0nbsp",
    "\u200babc", "\ufeffbom", "#tag @name $x",
    "\u0301abc", "\U0001f34eapple", "a\u0301b\u0323c", "e\u0301\u0302\u0303", "ªº", "ʰʱ",
    "ǅ", "ﬁ",
    "𝒜𝓑", "ａｂｃ", "ⓐⓑ", "ⅷ",
    # numbers, one by one
    "1234567890", "3.14159", "1,000,000", "x² + y³", "½ ¾", "Ⅳ ⅷ", "①②③",
    "٠١٢٣", "०१२", "〇一二三",
    "１２３", "𝟏𝟐", "a1b2",
    # punctuation and symbols, with a space before and newlines after
    "!!!", " !!!", "  !!!", "...\n\n", " ...\r\n\r\nx", "->\n\t=>", "()[]{}<>", "a - b -- c --- d",
    "/*\n * comment\n */", "€£¥ ©®™ §¶ °±×÷", "\U0001f44d\U0001f3fd",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e8\U0001f1f3", "\u2603\ufe0f",
    "\ue000\uf8ff\U000f0000\U0010fffd", "\x00\x01\x1b[31m\x7f\x80\x9f",
    # white space
    "  ", "   a", "a   ", "a   b", "a\tb", "a\t\tb", "a \t b", "\n", "\n\n\n", "a\n", "a\nb",
    "a\n\nb", "a \n b", "a  \n  b", " \n \n ", "\n \n a", "\r\n", "a\r\n b",
    "\r\r\n\n", " \r \n x", "\t\n\t", "\v\f", "a\x0bb", "a\x0cb", "a\x85b", "a \x85 \n b",
    "\xa0\xa0x", "\u1680x", "\u180ex", "\u2000\u2001x", "\u2028x", "a\u2029\nb", "\u202f\u205fx",
    "\u3000\u3000x", "\u200b\u200b", "\ufeff \ufeff", "\x1c\x1d\x1e\x1f", " \x1c ",
    "    return x\n        if y:\n\t\tz", "x" + \
        " " * 100 + "y", "\n" * 50, " \n" * 20,
    # NFC: composition, order of marks, exclusions, singletons, Hangul, blocked marks
    "e\u0301", "\u00e9", "a\u0323\u0302", "a\u0302\u0323", "\u1ead", "\u1e63\u0307",
    "s\u0307\u0323", "q\u0307\u0323", "d\u0307\u0323", "o\u031b\u0301", "\u0344", "\u0308\u0301",
    "\u0390 \u1fd3", "\u03b1\u0345\u0301", "\u1f71", "\u212b \u2126 \u212a", "\u0958 \u0915\u093c",
    "\u09c7\u09be", "\u0b47\u0b3e", "\u0dd9\u0dcf\u0dca", "\u0f71\u0f72\u0f74", "\u0f73",
    "\ufb1d \ufb2a \ufb49", "\uf900 \ufa10 \U0002f800", "\u2adc", "\U0001d15e \U0001d160",
    "\u3046\u3099 \u309d\u3099", "か\u3099き\u309a", "\u1100\u1161", "\u1100\u1161\u11a8",
    "\uac00\u11a8", "\uac01\u11a8", "\u1112\u1175\u11c2", "\u1100\u1100\u1161", "\u1161\u11a8",
    "\ua960\ud7b0", "\u1100\u0301\u1161", "\uac00\u0301\u11a8", "a\u0301\u0301", "\u0301",
    "\u0300\u0316", "a\u0315\u0300\u05ae\u0062", "a" + "\u0323\u0301" * \
        20, "\u0041\u030a\u0301", "\u1111\u1171\u11b6", "x\u0338 <\u0338 =\u0338",
    # added tokens and what resembles them
    "<|im_end|>", "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n",
    "a<|im_end|>\u0301", "<|im_end|><|im_end|>", " <|endoftext|> ", "<|im_end|> \n",
    "  <|im_end|>  ",
    "<|im_end", "|im_end|>", "<<|im_end|>>", "<|im_end|", "<|IM_END|>", "<|im_<|im_end|>end|>",
    "<|im_end |>", "< |im_end|>", "e<|im_start|>\u0301e", "\n\n<|im_end|>\n\n", "1<|im_end|>1",
    # code, addresses, long words
    "int main(void) { return 0; }\n", "https://example.org/a?b=c&d=%20#e",
    "def f(x):\n    return x ** 2  # square\n", "{\"key\": [1, 2.5, null]}",
    "antidisestablishmentarianism",
    "a" * 300, "ab" * 100, "的" * 100,
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏",
    "=" * 80, "\U0001f34e" * 20, "-" * 7 + ">" * 9, "AAAAaaaaBBBB", "ÀÉÎÕÜ", "ßẞ", "İıſ",
]
BYTES = [
    b"\xff",
    b"a\x80b",
    b"\xc3",
    b"\xc3(",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe2\x82",
    b"\xe2\x82x",
    b"\xe2(\xa1",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x9f\x8d",
    b"\xf0\x9f\x8dx",
    b"\xf0\x9f",
    b"\xf0x",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xfe\xfe\xff\xff",
    b"\x80\x80\x80",
    b"\xe4\xb8\xad\xe4\xb8",
    b"e\xcc\x81\xcc",
    b"\xf0\x90\xf0\x90\x80\xf0\x9f\x8d\x8e",
    b"<|im_end|\xff>",
    b"\xff<|im_end|>\xff",
    b"\xe8\x8b<|im_end|>\xb9",
    b" \xff\n\xfe ",
     ]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    real = tokenizers.Tokenizer.from_file(sys.argv[1])
    small = tokenizers.Tokenizer.from_str(json.dumps(test_tokenizer.small_tokenizer()))
    added = tokenizers.Tokenizer.from_str(
    json.dumps(
        test_tokenizer.with_added(
            test_tokenizer.small_tokenizer())))
    rng = random.Random(20240205)
    known, _, _ = compare_tokenizer.shared_code_points()
    assigned = {c for c in known if unicodedata.category(chr(c)) != "Cn"}
    generate = compare_tokenizer.make_generator(rng, assigned, longest=4)
    data = [text.encode() for text in TEXTS + test_tokenizer.WRONG_CUTS] + BYTES
    data += ["".join(rng.choice("abcd") for _ in range(rng.randint(5, 60))).encode()
                     for _ in range(50)]
    data += ["".join(rng.choice(test_tokenizer.WRONG_CUTS)
                     for _ in range(5)).encode() for _ in range(100)]
    n_small = len(data) + N_SMALL
    data += [generate() for _ in range(N_GENERATED)]
    n_real = len(data)                  # what follows is for the small tokenizer with ADDED
    parts = [text for text,
    _,
    _ in test_tokenizer.ADDED] + [ "<|im_end|>",
    "<|im_start|>",
    "a",
    "b",
    "c",
    "x",
    "y",
    "q",
    " ",
    "\n",
    "\u0301",
    "e",
    "\u0323",
    "<",
    "S",
    "E",
    "G",
    ">",
    "1",
    "!",
    "e\u0301",
    "<SE",
    "xqx\u0301",
    "yqy\u0301",
    "\u82f9",
    "\u679c",
    "<|im",
     "_end|>"]
    data += [b"a<SEG>b",
    b"Explain <tool_call>",
    b"<SEG>\xcc\x81",
    b"<tool_call>\xcc\x81",
     b"<|im_end|>\xcc\x81"]
    data += ["".join(rng.choice(parts) for _ in range(rng.randint(1, 9))).encode()
                     for _ in range(300)]

    lines: List[str] = []
    for i, text in enumerate(data):
        replaced = text.decode("utf-8", "replace")
        for plain in (False, True):
            case: Dict[str, Any] = {"text": replaced} if replaced.encode() == text else {
                                                                         "hex": text.hex()}
            if plain:
                case["plain"] = True
            for name, library in (("real", real), ("small", small), ("added", added)):
                library.encode_special_tokens = plain
                ids = library.encode(replaced, add_special_tokens=False).ids
                library.encode_special_tokens = False
                if (name == "real" and i < n_real) or (name == "small" and i < n_small) or (
                        name == "added" and i >= n_real):
                    case[name] = " ".join(map(str, ids))
            if not plain or "<|" in replaced or i >= n_real:
                lines.append(json.dumps(case, ensure_ascii=False, separators=(",", ":")))
    with open(OUT, "w", encoding="utf-8", newline="") as file:
        versions = {"tokenizers": tokenizers.__version__,
            "unicodedata": unicodedata.unidata_version}
        file.write('{"made_with":' + json.dumps(versions) + \
                   ',\n"cases":[\n' + ",\n".join(lines) + "\n]}\n")
    print(f"{OUT}: {len(lines)} cases, {os.path.getsize(OUT)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
