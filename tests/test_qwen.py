"""Tests of ./qwen: logits and distributions against `transformers`, stopping, chat, tables, flags.

    python3 tests/test_qwen.py [--only WORD] ./qwen

What needs a terminal is in test_terminal.py. A line per test, `ok   NAME`, `FAIL NAME: reason` or
`skip NAME: why`; exit status 1 if one failed. Standard library only.
"""
from __future__ import annotations

import math
import os
import re
import struct
import subprocess
import sys
import time
from typing import List, Optional, Sequence, Tuple

sys.dont_write_bytecode = True
import harness                                                          # noqa: E402
import models                                                           # noqa: E402
from binfile import HEADER_SIZE, get, tensors                          # noqa: E402
from harness import PATIENCE, check_error, equal, main, read, run, scratch      # noqa: E402
from make_checkpoint import make_checkpoint                             # noqa: E402
from models import (CASES, CHATS, COUNT, ENDOFTEXT, GREEDY, IM_END, IM_START,       # noqa: E402
                    N_GREEDY, QUESTIONS, REASON, SHAPES, STOPS, TOKENS, VOCAB, Row, Rows, Turn,
                    argmax, closing, difference, export, following, generate, golden, ids_flag,
                    logits, model, random_ids, rows_of, sampling_logits, score, scored_ids,
                    set_json, softmax, table, vocab_of, watched_ids, within)


def output(name: str, *args: str) -> str:
    """Standard output of what says nothing on standard error."""
    status, out, err = run(model(name), *args)
    assert (status, err) == (0, ""), f"{args}: exit status {status}, {err!r}"
    return out.decode()


def flags_of(flag: str, values: Sequence[str]) -> List[str]:
    return [word for value in values for word in (flag, value)]


# ---------------------------------------------------------------------------------------------
# Exactness
# ---------------------------------------------------------------------------------------------

def test_logits_of_the_reference() -> str:
    largest = 0.0
    for name, expected in golden("logits").items():
        vocab = vocab_of(name)
        columns = models.sampled_columns(vocab)
        for prompt in expected["prompts"]:
            length = prompt["length"]
            ids = random_ids(name, length, vocab)
            rows = logits(name, *ids_flag(ids), "--score")
            equal(len(rows), length, f"{name}, prompt of {length}: rows of --score")
            rows += following(name, ids, 1)
            places = [*zip(models.sampled_positions(length), prompt["rows"]),
                      (length, prompt["rows"][-1])]
            for at, (*values, best) in places:
                where = f"{name}, prompt of {length}, position {at}"
                largest = max(largest, difference([rows[at][i] for i in columns], values))
                assert largest <= 1e-3, f"{where}: {largest:.2g} from the reference"
                assert rows[at][best] >= max(rows[at]) - 2e-3, f"{where}: another best token"
    return within(1e-3, largest)


def greedy_ids(name: str, ids: Sequence[int], n: int) -> List[int]:
    """The n most likely tokens after these."""
    return watched_ids(name, *ids_flag(ids), *GREEDY, "--ignore-stop", "-n", str(n))


def test_greedy_text_of_the_reference() -> str:
    compared = 0
    for name, expected in golden("logits").items():
        for prompt in expected["prompts"]:
            text = prompt["greedy"]
            if text:
                ids = random_ids(name, prompt["length"], vocab_of(name))
                equal(greedy_ids(name, ids, N_GREEDY)[:len(text)], text,
                      f"{name}, prompt of {prompt['length']}")
                compared += len(text)
    assert compared > 500
    return f"{compared} tokens"


def test_one_batch_several_or_token_by_token() -> str:
    largest = 0.0
    for name in ("gqa tied", "mha untied", "qwen3 untied", "even"):
        ids = random_ids(name, 1, vocab_of(name))
        one_by_one = following(name, ids, 300)
        ids += greedy_ids(name, ids, 300)
        scored = logits(name, *ids_flag(ids[:300]), "--score")
        for a, b in zip(one_by_one, scored):
            largest = max(largest, difference(a, b))
        for length in (2, 5, 7, 8, 9, 16, 31, 32, 33, 64, 100, 255, 256, 257, 263, 264, 300):
            batch, = following(name, ids[:length], 1)
            largest = max(largest, difference(batch, one_by_one[length - 1]))
    return within(1e-4, largest)


def test_plain_loops() -> str:
    """--plain computes the same numbers in another order."""
    largest = 0.0
    for name in SHAPES:
        for length in (1, 9, 70, 290):
            ids = random_ids("plain", length, vocab_of(name))
            for command in (lambda *more: logits(name, *ids_flag(ids), "--score", *more),
                            lambda *more: following(name, ids, 5, *more)):
                for a, b in zip(command(), command("--plain"), strict=True):
                    largest = max(largest, difference(a, b))
    return within(1e-4, largest)


def test_threads_bit_for_bit() -> None:
    for name in ("gqa tied", "mha untied", "even"):
        for length, context in ((290, "32768"), (997, "997")):      # odd sizes, and a full cache
            ids, path = random_ids("threads", length, vocab_of(name)), scratch("threads.f32")
            for command in (["--score"], [*GREEDY, "--ignore-stop", "-n", "12"]):
                files = {}
                for threads in "12347":
                    args = [*ids_flag(ids), *command, "-c", context, "-t", threads]
                    equal(run(model(name), *args, "--logits", path)[0], 0, f"{name} {args[2:]}")
                    files[threads] = read(path)
                assert len(files["1"]) >= 4 * vocab_of(name)
                other = [threads for threads in files if files[threads] != files["1"]]
                assert not other, f"{name}, {length} ids, {command}: other bits, threads {other}"


# ---------------------------------------------------------------------------------------------
# Stopping
# ---------------------------------------------------------------------------------------------

LONG = b"Red!<|im_end|>UV<|im_start|>w<|endoftext|>xyzUV<|im_start|>"


def check_turn(name: str, args: Sequence[str], out: bytes, reason: str, n: int) -> Turn:
    got, turn = generate(name, *args)
    equal((got, turn.reason, turn.n), (out, reason, n), f"{name} {list(args)}")
    return turn


def test_stop_tokens() -> None:
    for name, args, out, reason, n in (
            ("script chat", ["-p", "hi"], b"Red!", "<|im_end|>", 5),
            ("script chat", ["-p", "hi", "-n", "5"], b"Red!", "<|im_end|>", 5),
            ("script base", ["-p", "hi", "-m", "chat"], b"Red!", "<|im_end|>", 5),
            ("script base", ["-p", "hi\n"], b"Red!<|im_end|>UV<|im_start|>w", "<|endoftext|>", 10),
            # base mode: the checkpoint's eos_token_id; special tokens typed by hand count
            ("script chat", ["-p", "hi\n", "-m", "base"], b"Red!", "<|im_end|>", 5),
            ("script chat", ["-p", "D", "-m", "base"], b"", "<|endoftext|>", 1),
            ("script chat", ["--ids", str(ord("D"))], b"", "<|endoftext|>", 1),
            ("script base", ["--ids", "10", "-m", "chat"], b"Red!", "<|im_end|>", 5),
            ("script base", ["-p", "hi<|im_end|>", "-n", "2"], b"UV", "-n 2", 2),
            # chat mode: all of eos_token_id, and its own two
            ("three stops", ["-p", "hi"], b"Red", "!", 4),
            ("three stops", ["-p", "hi\n", "-m", "base"], b"Red", "!", 4),
            ("three stops", ["--ids", str(IM_START), "-m", "chat"], b"w", "<|endoftext|>", 2)):
        check_turn(name, args, out, reason, n)


def test_limits() -> None:
    for name, args, out, n in (
            ("script chat", ["-p", "hi", "-n", "4"], b"Red!", 4),
            ("script chat", ["-p", "hi", "--max-tokens", "1"], b"R", 1),
            ("script chat", ["-p", "hi", "-n", "0"], b"", 0),
            ("script base", ["-p", "L"], b"L" * 512, 512),
            ("short answers", ["-p", "L"], b"L" * 7, 7),        # the checkpoint's max_new_tokens
            ("short answers", ["-p", "L", "-n", "9"], b"L" * 9, 9)):
        check_turn(name, args, out, f"-n {n}", n)
    out, turn = generate("script base", "-p", "LLLLL", "-c", "20")
    equal(turn.reason, "context full")
    assert turn.n in (15, 16) and out == b"L" * turn.n, f"{turn.n} tokens after 5 in room for 20"
    out, turn = generate("script base", "-p", "LLLLL", "-c", "5")
    assert turn.reason == "context full" and turn.n in (0, 1), f"{turn}"
    check_error(1, run(model("script base"), "-p", "LLLLL", "-c", "4"), "5", "4")
    check_error(1, run(model("script base"), "-p", "LLLLL", "-c", "4", "--score"), "5", "4")


def test_ignore_stop() -> None:
    check_turn("script chat", ["-p", "hi", "--ignore-stop", "-n", "16"], LONG, "-n 16", 16)
    check_turn("script base", ["-p", "hi\n", "--ignore-stop", "-n", "16"], LONG, "-n 16", 16)
    check_turn("script chat", ["-p", "hi", "--ignore-stop", "-n", "5"], b"Red!<|im_end|>", "-n 5",
               5)


def test_stop_texts() -> None:
    for stops, out, reason, n in (
            (["d!"], b"Re", "d!", 4),                           # in two tokens
            (["e"], b"R", "e", 2),
            (["Red!"], b"", "Red!", 4),
            (["d!", "ed"], b"R", "ed", 3),                      # whichever comes first
            (["ed", "d!"], b"R", "ed", 3),
            (["!", "d!"], b"Re", "d!", 4),                      # no part of any is printed
            (["d!", "!"], b"Re", "d!", 4),
            (["RE", "Red?", "x", "ed"], b"R", "ed", 3)):
        for more in ([], ["--ignore-stop"]):
            check_turn("script chat", ["-p", "hi", *flags_of("--stop", stops), *more], out,
                       f'--stop "{reason}"', n)
    for stop, out, n in (("V<|im_start|>w", b"Red!<|im_end|>U", 9), ("im_end", b"Red!<|", 5),
                         ("<|im_end|>U", b"Red!", 6),
                         ("<|endoftext|>", b"Red!<|im_end|>UV<|im_start|>w", 10)):
        check_turn("script chat", ["-p", "hi", "--ignore-stop", "--stop", stop], out,
                   f'--stop "{stop}"', n)
    for stops in (["<|im", "<|im_end|>"], ["<|im_end|>", "<|im"]):     # of two at once the first
        check_turn("script chat", ["-p", "hi", "--ignore-stop", *flags_of("--stop", stops)],
                   b"Red!", f'--stop "{stops[0]}"', 5)
    check_turn("script base", ["-p", "j", "--stop", "\n"], b"", '--stop "\\n"', 1)   # in one line


def test_what_was_held_back_is_printed() -> None:
    for name, prompt, stops, more, out, reason, n in (
            ("script chat", "hi", ["d!x"], ["-n", "4"], b"Red!", "-n 4", 4),
            ("script chat", "hi", ["d!x"], [], b"Red!", "<|im_end|>", 5),
            ("script chat", "hi", ["!<|im_end|>V"], ["--ignore-stop", "-n", "5"], b"Red!<|im_end|>",
             "-n 5", 5),
            ("script base", "L", ["LLLM", "LLLLLLLLN"], ["-n", "20"], b"L" * 20, "-n 20", 20),
            ("script base", "L", ["LLLLLLL"], [], b"", '--stop "LLLLLLL"', 7)):
        check_turn(name, ["-p", prompt, *flags_of("--stop", stops), *more], out, reason, n)


# ---------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------

P = r"(?:0\.\d+|< 0\.000001)"
MAX = 1 - 412 * math.exp(-20)                           # of a token with a logit of 20, others 0
MIN = math.exp(-20)
NO_END = "the model saw no end (highest P(<|im_end|>) #, token 1)"
VERDICTS = (                                            # model, flags, words with # for P, P
    ("script chat", "-p hi", "the model ended its turn (P #)", MAX),
    ("script base", "-p D", "the model ended a document (P #)", MAX),
    ("script chat", "-p D -m base", "the model ended a document (P #)", MAX),
    ("script base", "-p L -n 3", NO_END, MIN), ("script base", "-p g -n 3", NO_END, 3.73e-6),
    ("script chat", "-p hi -n 3", NO_END, MIN),
    ("script base", "-p a -n 3", "the model thought of an end at token 1 (P #)", 0.3208),
    ("script base", "-p f -n 3", "the model thought of an end at token 1 (P #)", 0.3208),
    ("script base", "-p <|im_end|>c -n 3 --repeat-penalty 1.5",
     "at token 1 <|im_end|> was the most likely (P #), the repetition penalty took it away: "
     "try --repeat-penalty 1", 0.6225),
    ("script chat", "-p hi --ignore-stop -n 16",
     "the model ended its turn at token 5, the runner ignored it", None),
    ("script chat", "-p D -m base --ignore-stop -n 4",
     "the model ended a document at token 1, the runner ignored it", None),
    ("one stop", "-p D -m base -n 3 --greedy --repeat-penalty 1",
     "the model ended a document at token 1, <|endoftext|> is not among this checkpoint's "
     "eos_token_id: -m chat stops there", None),
    ("script base", "-p c -n 3",
     "the model ended its turn at token 1, <|im_end|> is not among this checkpoint's eos_token_id: "
     "-m chat stops there", None),
)


def check_words(words: str, form: str, p: Optional[float], what: str) -> None:
    found = re.fullmatch(re.escape(form).replace(r"\#", f"({P})"), words)
    assert found, f"{what}: {words!r} is not of the form {form!r}"
    if p is not None and p < 1e-6:
        equal(found[1], "< 0.000001", what)
    elif p is not None:
        got, off = float(found[1]), 0.2 if p < 0.01 else 0.02
        assert got < 1 and abs(got / p - 1) < off, f"{what}: {words!r} instead of {p:g}"


def test_verdicts() -> None:
    for name, line, form, p in VERDICTS:
        check_words(generate(name, *line.split())[1].words, form, p, f"{name} {line}")


def test_chance_took_another() -> None:
    for stop, flags in (("<|im_end|>", ["-p", "c"]), ("<|endoftext|>", ["-p", "i"]),
                        ("<|im_end|>", ["-p", "<|im_end|>c", "--repeat-penalty", "1.01"])):
        flags += ["--temp", "1", "--top-k", "0", "-n", "1", "--seed"]
        for seed in map(str, range(100)):
            out, turn = generate("script base", *flags, seed)
            if out == b"b":
                form = f"at token 1 {stop} was the most likely (P #), chance took another"
                check_words(turn.words, form, 0.6225, str(flags))
                break
        else:
            raise AssertionError("chance never took another")


def test_a_verdict_is_of_its_own_turn() -> None:
    """The third token of the first turn was an end. The second turn has two."""
    err = run(model("script base"), "-p", "V", "-p", "L", "--stop", "LL")[2]
    turns = closing(err)
    equal([(turn.reason, turn.n) for turn in turns], [("<|endoftext|>", 3), ('--stop "LL"', 2)])
    check_words(turns[1].words, NO_END, MIN, "the second turn")


def test_singular_and_plural() -> None:
    err = run(model("script base"), "-p", "L", "-n", "1")[2]
    assert "after 1 token; " in err and "prompt 1 token, " in err and "new 1 token, " in err, err


def test_nothing_was_generated() -> None:
    words = generate("script chat", "-p", "hi", "-n", "0")[1].words
    assert "P(" not in words, f"{words!r} speaks of a probability"


# ---------------------------------------------------------------------------------------------
# Streams
# ---------------------------------------------------------------------------------------------

MIXED = b"\t\\\x1b[\xff\xe8\x8b\xb9\xe8\x8b\xb9\xe6\x9e\x9cB\r\x07C"    # what follows "A"


def test_bytes_on_a_pipe() -> None:
    check_turn("script chat", ["-p", "A", "-m", "base"], MIXED, "<|im_end|>", 15)
    # a byte that is no UTF-8 becomes U+FFFD, which ends in \xbd; half a character is printed, too
    check_turn("script base", ["-p", "\x1b[\udcff", "-n", "2"], b"F?", "-n 2", 2)
    check_turn("script base", ["--ids", "255", "-n", "2"], b"\xe8\x8b", "-n 2", 2)


def test_nothing_but_text_on_standard_output() -> None:
    for more in ([], ["-v"]):
        status, out, err = run(model("script chat"), "-p", "hi", "-p", "ho", "-p", "ha", *more)
        equal((status, out), (0, b"Red!" * 3))
        equal([(turn.reason, turn.n) for turn in closing(err)], [("<|im_end|>", 5)] * 3)


def test_standard_input_is_one_prompt() -> None:
    bom = b"\xef\xbb\xbf"
    for data, n in ((b"LLL", 3), (b"LLL\n", 3), (b"L\nL", 3), (b"\nL\n", 2), (b"L\x00L", 3),
                    (b"LLL\r\n", 3), (bom + b"LLL", 3), (bom + b"LLL\r\n", 3), (b"L\r\nL\r\n", 4)):
        out, turn = generate("script base", "-n", "2", data=data)
        equal((out, turn.n_prompt), (b"LL", n), repr(data))
    for data in (b"hi\n\n", b"hi\n\r\n"):
        out, _ = generate("script base", "-n", "3", data=data)
        equal(out, b"Red", "only one newline is dropped")
    for text in ("a\nb", "", "a\rb", "\ufeff"):
        out = run(model("mha tied"), "--score", data=("\ufeff" + text + "\n").encode())[1]
        ids = [row.id for row in table(out.decode())]
        equal(ids, scored_ids("mha tied", "-p", text), repr(text))


def test_standard_output_closed_early() -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen([harness.QWEN, model("script base"), "-p", "L", "-n", "200000", "-c",
                                "1000000"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode >= 0, f"died of signal {-process.returncode}: {err!r}"


def test_pace() -> None:
    """So long after each token: a slower machine only takes longer."""
    start = time.monotonic()
    check_turn("script base", ["-p", "L", "-n", "5", "--pace", "60"], b"LLLLL", "-n 5", 5)
    assert time.monotonic() - start >= 0.24, "--pace does not wait"


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------

def check_probabilities(rows: Sequence[Row], raw: Rows) -> None:
    """Each row's three probabilities are those of the softmax of raw logits."""
    equal(len(rows), len(raw), "rows")
    for row, values in zip(rows, raw):
        p = softmax(values)
        for got, expected in zip(row.p, (p[row.id], p[IM_END], p[ENDOFTEXT])):
            assert got is not None and abs(got - expected) <= 2e-5 * expected + 1e-12, \
                f"row {row.n}: {got} instead of {expected:.7g}"


def test_watch() -> None:
    out, turn = generate("script chat", "-p", "A", "-m", "base", "--watch")
    rows = table(out.decode())
    equal([row.n for row in rows], list(range(1, 16)))
    equal("|".join(row.piece for row in rows),
          "\\t|\\\\|\\x1b|[|\\xff|\\xe8|\\x8b|\\xb9|苹果||B|\\x0d|\\x07|C|<|im_end|>")
    equal((turn.reason, turn.n), ("<|im_end|>", 15))


def test_pieces_of_several_bytes() -> None:
    """Some tokens are a part of a character, each byte of which is shown."""
    pieces = {"\\xe8\\x8b": "èĭ", "\\xed\\x95": "íķ", "\\n\\n": "ĊĊ"}
    for shown, token in pieces.items():
        row, = score("script base", "--ids", str(models.VOCABULARY[token]))[0]
        equal(row.piece, shown)


def test_watch_shows_raw_probabilities() -> None:
    flags = ["-p", "H", "-m", "base", "-n", "100", "--seed", "3", "--ignore-stop"]
    for sampling in ([], ["--temp", "0.5", "--top-k", "2", "--repeat-penalty", "1.9"],
                     ["--greedy"]):
        rows = table(generate("script chat", *flags, *sampling, "--watch")[0].decode())
        check_probabilities(rows, logits("script chat", *flags, *sampling))
    for name in ("mha tied", "from f16"):
        flags = [*ids_flag(random_ids("watch", 5, VOCAB)), "-n", "20", "--ignore-stop", "--seed",
                 "4", "--temp", "1"]
        rows = table(generate(name, *flags, "--watch")[0].decode())
        check_probabilities(rows, logits(name, *flags))


def check_perplexity(line: str, chances: Sequence[float], what: str) -> None:
    """The line on standard error: exp of the mean of -log p."""
    found = re.fullmatch(r"perplexity (\S+) over ((?!1 )\d+ tokens|1 token)", line)
    assert found, f"{what}: {line!r}"
    expected = math.exp(math.fsum(-math.log(p) for p in chances) / len(chances))
    equal(int(found[2].split()[0]), len(chances), what)
    off = abs(float(found[1]) / expected - 1)
    assert off < 1e-4, f"{what}: {line} instead of {expected:.6g}"


def test_score() -> None:
    for name in ("mha tied", "from f32"):
        for length in (2, 33, 70):
            ids = random_ids("score", length, VOCAB)
            rows, line = score(name, *ids_flag(ids))
            raw = logits(name, *ids_flag(ids), "--score")
            equal([(row.n, row.id) for row in rows], list(zip(range(1, length + 1), ids)))
            equal(rows[0].p, [None] * 3, "the first token, which nothing foretold")
            check_probabilities(rows[1:], raw[:-1])
            chances = [softmax(row)[token] for row, token in zip(raw, ids[1:])]
            check_perplexity(line, chances, f"{name}, {length} tokens")


def test_score_of_one_token() -> None:
    for args in (["-p", "L"], ["--ids", "76"]):
        rows, line = score("script base", *args)
        equal([row[:3] for row in rows], [(1, 76, "L")])
        equal(line, "perplexity undefined over 0 tokens")


def test_answers() -> None:
    for name, mode, texts in (("mha tied", "chat", ["Red!", "", "苹果\n is"]),
                              ("qwen3 tied", "chat", ["a"]), ("gqa tied", "base", ["Red!", " a"])):
        status, out, err = run(model(name), "-p", "hello", "-m", mode, *flags_of("--answer", texts))
        equal((status, err.count("\n")), (0, len(texts)), err)
        rows, framed = table(out.decode()), scored_ids(name, "-p", "hello", "-m", mode)
        for text, line in zip(texts, err.splitlines()):
            ids = scored_ids(name, "-m", "base", "-p", text) if text else []
            ids += [IM_END] * (mode == "chat")
            raw = logits(name, *ids_flag(framed + ids), "--score")[len(framed) - 1:-1]
            of_this, rows = rows[:len(ids)], rows[len(ids):]
            equal([row.id for row in of_this], ids, f"{name}: rows of --answer {text!r}")
            check_probabilities(of_this, raw)
            check_perplexity(line, [softmax(row)[token] for row, token in zip(raw, ids)], text)
        equal(rows, [], "more rows")


def test_the_most_likely_tokens() -> None:
    """--top: under each row the N most likely tokens."""
    flags = ["-p", "H", "-n", "3", "--temp", "1", "--seed", "2", "--watch"]
    plain = table(generate("script base", *flags)[0].decode())
    rows = table(generate("script base", *flags, "--top", "4")[0].decode())
    equal(rows[::5], plain, "the rows of the tokens")
    for i, raw in enumerate(logits("script base", *flags[:-1])):
        p = softmax(raw)
        best = sorted(range(VOCAB), key=lambda token: (-p[token], token))[:4]
        alternatives = rows[5 * i + 1:5 * i + 5]
        equal([row.id for row in alternatives], best, f"alternatives of token {i + 1}")
        check_probabilities(alternatives, [raw] * 4)


# ---------------------------------------------------------------------------------------------
# Sampling
# ---------------------------------------------------------------------------------------------

N_DRAWS = 3000


def draws(name: str, prompt: str, n: int, *args: str) -> List[int]:
    """n tokens, each drawn after the same prompt."""
    status, out, err = run(model(name), "-n", "1", "--watch", *["-p", prompt] * n, *args)
    assert status == 0, err[-300:]
    return [row.id for row in table(out.decode())]


def check_distribution(drawn: Sequence[int], p: Sequence[float], what: str) -> None:
    """Pearson's chi-squared, made normal (Wilson & Hilferty 1931); rare tokens count as one."""
    impossible = sorted({token for token in drawn if p[token] == 0})
    assert not impossible, f"{what}: drew {impossible[:5]}, which are ruled out"
    common = [token for token, probability in enumerate(p) if probability * len(drawn) >= 5]
    observed = [drawn.count(token) for token in common]
    expected = [p[token] * len(drawn) for token in common]
    rare = len(drawn) - sum(expected)
    if rare >= 5:
        observed.append(len(drawn) - sum(observed))
        expected.append(rare)
    freedom = len(expected) - 1
    if freedom == 0:
        return
    squares = sum((a - b) ** 2 / b for a, b in zip(observed, expected))
    spread = 2 / (9 * freedom)
    normal = ((squares / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    assert normal < 4, f"{what}: chi-squared {squares:.0f} with {freedom} degrees of freedom"


def test_sampling_distributions() -> str:
    for name, p in golden("sampling").items():
        case = CASES[name]
        drawn = draws("script base", case.prompt, N_DRAWS, *case.flags(), "--seed", "1")
        equal(len(drawn), N_DRAWS)
        check_distribution(drawn, p, name)
    return f"{len(CASES)} of them, {N_DRAWS} draws each"


def test_sampling_defaults() -> None:
    """Without flags the checkpoint's own: make_checkpoint's chat one has "all together"."""
    case = CASES["all together"]
    flags = ["-m", "base", "--seed", "7"]
    equal(draws("script chat", case.prompt, 300, *flags),
          draws("script chat", case.prompt, 300, *flags, *case.flags()))
    logits_of_q = sampling_logits("Q")
    best = [argmax(logits_of_q)] * 20
    equal(draws("script base", "Q", 20), best, "greedy by its generation_config.json")
    equal(draws("script chat", "Q", 20, "-m", "base", "--greedy", "--repeat-penalty", "1"), best)
    equal(draws("script chat", "Q", 20, "-m", "base", "--temp", "0"), best)
    for flag, value in (("--temp", "3"), ("--top-p", "0.9"), ("--top-k", "9"), ("--min-p", "0.01")):
        drawn = draws("script base", "Q", 50, flag, value, "--seed", "1")
        assert len(set(drawn)) > 1, f"{flag} does not turn sampling on"
    likely = sorted(range(VOCAB), key=logits_of_q.__getitem__)[::-1]
    drawn = draws("script base", "Q", 1000, "--temp", "9", "--seed", "1")
    assert set(drawn) <= set(likely[:50]), "top-k is 50 where nothing is said"


def test_penalty_when_greedy() -> None:
    for prompt, flags, expected in (
            ("Q", [], 1), ("\x01Q", ["--repeat-penalty", "5", "--greedy"], 2),
            ("\x01Q", ["--repeat-penalty", "5", "--temp", "0"], 2),
            ("\x01\x02\x01Q", ["--repeat-penalty", "5"], 3), ("N", ["--repeat-penalty", "2"], 1),
            ("\x01N", ["--repeat-penalty", "3"], 2),            # a negative logit becomes more so
            ("K", ["--repeat-penalty", "1.1"], ord("k"))):
        equal(draws("script base", prompt, 1, *flags), [expected], f"{prompt!r} {flags}")
    check_turn("script base", ["-p", "K", "-n", "4"], b"KKKK", "-n 4", 4)
    check_turn("script base", ["-p", "n", "-n", "1"], b"\0", "-n 1", 1)     # the first of all ids


def splitmix64(seed: int, n: int) -> List[float]:
    """Random numbers in [0, 1), as Steele, Lea & Flood 2014 have them."""
    numbers, mask = [], (1 << 64) - 1
    for i in range(1, n + 1):
        z = seed + i * 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        numbers.append(((z ^ z >> 31) >> 11) / (1 << 53))
    return numbers


def test_random_numbers() -> None:
    """The same on every machine: a token for each number, where they share out [0, 1) by id."""
    p = softmax(sampling_logits("Q"))
    expected = []
    for number in splitmix64(7, 60):
        token = 0
        while number >= p[token]:
            number -= p[token]
            token += 1
        expected.append(token)
    equal(draws("script base", "Q", 60, *CASES["plain"].flags(), "--seed", "7"), expected)


def test_seeds() -> None:
    def text(*args: str) -> bytes:
        return generate("mha tied", "-p", "hello", "-n", "40", "--temp", "1.5", "--top-k", "0",
                        "--top-p", "1", "--ignore-stop", *args)[0]

    equal(text("--seed", "5"), text("--seed", "5"))
    assert len({text("--seed", str(seed)) for seed in range(5)}) == 5, "seeds give the same text"
    large = "18446744073709551"
    equal(generate("mha tied", "-p", "a", "-n", "1", "--seed", large)[1].seed, int(large))
    seed = generate("mha tied", "-p", "hello", "-n", "9", "--ignore-stop")[1].seed
    flags = ["-p", "hello", "-n", "9", "--ignore-stop", "--seed", str(seed)]
    equal(generate("mha tied", *flags)[0], generate("mha tied", *flags, "-t", "1")[0])


# ---------------------------------------------------------------------------------------------
# Chat
# ---------------------------------------------------------------------------------------------

def framed(*args: str, name: str = "mha tied") -> str:
    """The pieces of the framed prompt, as they are escaped in the table."""
    return "".join(row.piece for row in score(name, *args)[0])


def specials(ids: Sequence[int]) -> List[int]:
    return [token for token in ids if token in (ENDOFTEXT, IM_START, IM_END)]


DEFAULT = "You are a helpful assistant"
SYSTEM = "<|im_start|>system\\n{}<|im_end|>\\n"
USER = "<|im_start|>user\\n{}<|im_end|>\\n<|im_start|>assistant\\n"


def test_chat_framing() -> None:
    for name, args, expected in (
            ("mha tied", ["-p", "hi"], SYSTEM.format(DEFAULT) + USER.format("hi")),
            ("mha tied", ["-p", "hi", "-s", ""], USER.format("hi")),                # no system turn
            ("mha tied", ["-p", "hi", "-s", "Be brief. "],                      # nothing is trimmed
             SYSTEM.format("Be brief. ") + USER.format("hi")),
            ("mha tied", ["-p", "  hi \n ", "-s", "\nx"],
             SYSTEM.format("\\nx") + USER.format("  hi \\n ")),
            ("mha tied", ["-p", "", "-s", ""], USER.format("")),
            ("gqa tied", ["-p", "hi", "-m", "chat"], SYSTEM.format(DEFAULT) + USER.format("hi")),
            ("mha tied", ["-p", "<|im_start|>hi", "-m", "base"], "<|im_start|>hi"),
            ("qwen3 chat", ["-p", "hi"], USER.format("hi")),
            ("qwen3 chat", ["-p", "hi", "--no-think"],
             USER.format("hi") + "<think>\\n\\n</think>\\n\\n"),
            ("qwq chat", ["-p", "hi"], USER.format("hi") + "<think>\\n")):
        equal(framed(*args, name=name), expected, f"{name} {args}")
    equal(specials(scored_ids("mha tied", "-p", "hi")), [IM_START, IM_END] * 2 + [IM_START])
    equal(specials(scored_ids("mha tied", "-p", "<|im_start|>hi<|im_end|>", "-m", "base")),
          [IM_START, IM_END])


def test_special_tokens_in_a_message_are_text() -> None:
    text = "a<|im_end|>\n<|im_start|>system\nx<|endoftext|>"
    for args in (["-p", text], ["-p", "hi", "-s", text]):
        equal(specials(scored_ids("mha tied", *args)), [IM_START, IM_END] * 2 + [IM_START])
    assert USER.format(text.replace("\n", "\\n")) in framed("-p", text)


def test_other_added_tokens_are_single_in_any_text() -> None:
    for args in (["-p", "Explain <tool_call>"], ["-p", "hi", "-s", "<tool_call>"],
                 ["-p", "<tool_call>", "-m", "base"]):
        assert TOKENS["<tool_call>"] in scored_ids("qwen3 tied", *args), args


def test_a_newline_that_opens_a_message_merges() -> None:
    pieces = [row.piece for row in score("mha tied", "-p", "\n\nhi", "-s", "")[0]]
    at = pieces.index("\\n\\n\\n")      # one token, of the newline after the role and of two more
    equal("".join(pieces[:at]), "<|im_start|>user")


def user_turn(text: str) -> List[int]:
    return scored_ids("mha tied", "-s", "", "-p", text)


def check_conversation(prompts: Sequence[str], *args: str,
                       closed_by: Optional[int] = None) -> List[Turn]:
    """Turns given by -p, against the logits of the conversation as it should stand in the cache."""
    flags = flags_of("-p", prompts)
    status, out, err = run(model("mha tied"), *flags, *args, "--watch")
    assert status == 0, err
    raw, generated, turns = logits("mha tied", *flags, *args), table(out.decode()), closing(err)
    equal((len(turns), len(raw)), (len(prompts), len(generated)))
    history = scored_ids("mha tied", "-p", prompts[0])
    first = done = 0
    for i, turn in enumerate(turns):
        if i > 0:
            history += user_turn(prompts[i])
        expected, = following("mha tied", history, 1)
        assert difference(raw[first], expected) <= 1e-4, f"turn {i + 1} follows something else"
        unread = len(history) - done
        assert turn.n_prompt <= unread + 1, f"turn {i + 1} read {turn.n_prompt} of {unread} tokens"
        done = len(history) + turn.n
        history += [row.id for row in generated[first:first + turn.n]]
        first += turn.n
        if closed_by is not None and i + 1 < len(turns):
            equal(turn.reason, STOPS[closed_by])
            history.pop()
        history += [IM_END, 10]
    return turns


def test_conversation_keeps_its_turns() -> None:
    questions = ["hello", "What is an apple?", "\n and\n", "苹果"]
    turns = check_conversation(questions, *GREEDY, "-n", "7", "--ignore-stop")
    equal([(turn.reason, turn.n) for turn in turns], [("-n 7", 7)] * 4)
    _, second = closing(run(model("mha tied"), "-p", "hello", "-p", "again", "-n", "0")[2])
    equal(second.n_prompt, 2 + len(user_turn("again")), "each turn costs only its new tokens")
    check_conversation(["hello", "again"], *GREEDY, "-n", "1", "--ignore-stop")


def test_a_turn_that_a_stop_token_ended() -> None:
    """With random weights a stop token comes by chance: a seed is looked for with which it does."""
    sampling = ["--temp", "1.5", "--top-k", "0", "--top-p", "1", "--repeat-penalty", "1",
                "-n", "60"]
    missing = {text: token for token, text in STOPS.items()}
    for seed in map(str, range(200)):
        reason = generate("mha tied", "-p", "hello", *sampling, "--seed", seed)[1].reason
        if reason in missing:
            check_conversation(["hello", "again"], *sampling, "--seed", seed,
                               closed_by=missing.pop(reason))
        if not missing:
            return
    raise AssertionError(f"never ended by {list(missing)}")


def test_a_turn_that_a_text_ended() -> None:
    out, _ = generate("mha tied", "-p", "hello", *GREEDY, "-n", "9", "--ignore-stop")
    stop = next(c for c in out.decode("ascii", "ignore")[2:] if c.isprintable())
    turns = check_conversation(["hello", "again"], *GREEDY, "-n", "9", "--ignore-stop",
                               "--stop", stop)
    equal(turns[0].reason, f'--stop "{stop}"')


def test_chats_of_the_reference() -> str:
    """Three turns each: the logits are those of the ids that the chat template gives, for models
    that reason also after their reasoning was cut from the turns before."""
    largest = 0.0
    for name, turns in golden("chats").items():
        chat = CHATS[name]
        flags = [*flags_of("-p", QUESTIONS), *chat.flags(), *GREEDY]
        status, out, err = run(model(chat.model), *flags)
        equal((status, out.decode()), (0, chat.answer * 3), name)
        lengths = [turn.n for turn in closing(err)]
        raw, first = logits(chat.model, *flags), 0
        for ids, length in zip(turns, lengths):
            expected, = following(chat.model, ids, 1)
            off = difference(raw[first], expected)
            assert off <= 1e-4, f"{name}, turn {turns.index(ids) + 1}: logits {off:.2g} off"
            largest, first = max(largest, off), first + length
    return within(1e-4, largest)


def test_a_turn_costs_its_own_tokens_without_the_reasoning() -> None:
    """And those of the role before the answer, from which on the cache is written again."""
    first, second, third = map(len, golden("chats")["qwen3"])
    turns = closing(run(model("qwen3 chat"), *flags_of("-p", QUESTIONS), *GREEDY)[2])
    costs = [turn.n_prompt for turn in turns]
    equal(costs[0], first)
    assert costs[1] <= second - first + 12 and costs[2] <= third - second + 12, costs


def test_base_prompts_are_fresh() -> None:
    flags = flags_of("-p", ["hello", "world", "hello"])
    a, b, c = logits("mha tied", "-m", "base", *GREEDY, "-n", "1", *flags)
    assert a == c and a != b, "a base prompt depends on what was before"


def test_context_fills_up_in_a_conversation() -> None:
    context = str(len(scored_ids("mha tied", "-p", "hello")) + 5)
    status, _, err = run(model("mha tied"), "-p", "hello", "-p", "again", "-n", "3",
                         "--ignore-stop", "-c", context)
    equal(status, 1)
    lines = err.splitlines()
    closing("".join(line + "\n" for line in lines[:2]))
    assert len(lines) == 3 and lines[2].startswith("qwen: ") and context in lines[2], lines


# ---------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------

def compared(text: str) -> List[Tuple[int, str]]:
    """(tokens, reason) of the cases that --compare prints; a case may be said to be the same as the
    one before."""
    cases = []
    for line in text.splitlines():
        found = re.search(rf"({COUNT}); stopped: ({REASON})(;|$)", line)
        if found:
            cases.append((int(found[1].split()[0]), found[2]))
        elif re.match(" *runner runs on +the same", line):
            cases.append(cases[-1])
    return cases


def comparison(name: str, *args: str, data: bytes = b"") -> str:
    status, out, err = run(model(name), *args, data=data)
    equal(status, 0, f"{args}: {err!r}: exit status")
    return out.decode()


def test_compare() -> None:
    base = ["--compare", model("script base")]
    text = comparison("script chat", "--compare", model("gqa tied"), "-p", "hi", "-n", "12")
    equal(compared(text), [(12, "-n 12"), (12, "-n 12"), (5, "<|im_end|>"), (12, "-n 12")])
    assert '"Red!"' in text and "Red!<|im_end|>UV<|im_start|>w<|endoftext|>x" in text, text
    highest = [float(p) for p in re.findall(r"P\(<\|im_end\|>\) (\d\S*\d)", text)]
    assert highest[0] < 0.1 and 0.9 < min(highest[-2:]) < 1, highest
    for args, expected in (
            (["-p", "hi\n", "-n", "12", "-m", "base"],
             [(10, "<|endoftext|>"), (12, "-n 12"), (5, "<|im_end|>"), (12, "-n 12")]),
            (["-p", "hi", "--stop", "UV"], [(5, "<|im_end|>"), (7, '--stop "UV"')] * 2),
            (["-p", "D", "-m", "base", "-n", "2"], [(1, "<|endoftext|>"), (2, "-n 2")] * 2)):
        equal(compared(comparison("script chat", *base, *args)), expected, str(args))
    text = comparison("script chat", *base, "-n", "12", data=b"\xef\xbb\xbfhi\r\n")
    equal(compared(text), [(5, "<|im_end|>"), (12, "-n 12")] * 2, "a prompt from standard input")
    for more, same in (([], True), (["--repeat-penalty", "1.1"], False)):   # greedy, with penalty 1
        text = comparison("script chat", *base, "-p", "K", "-n", "7", "-m", "base", *more)
        equal("KKKKKKK" in text, same, str(more))


def test_info() -> None:
    text = output("gqa untied", "--info")
    for word in ("chat", "bf16", "96", "130", "3", "4", "1", "20", "421", "32768", "1e+06", "1e-06",
                 "0.7", "0.8", "1.1", str(IM_END), str(ENDOFTEXT), *STOPS.values(), DEFAULT):
        found = re.search(r"(^|[\s,(])" + re.escape(word) + r"($|[\s,)])", text, re.M)
        assert found, f"no {word!r} in {text!r}"
    ends = re.search(r"^ends at +(.*)$", text, re.M)
    equal(ends and ends[1], f"{IM_END} <|im_end|>, {ENDOFTEXT} <|endoftext|>")
    assert re.search(r"^kind\s+base", output("gqa tied", "--info"), re.M)


def test_info_on_the_rows_of_the_ends() -> None:
    """Distances to the mean of the rows that no token has, in units of those rows' own."""
    for name in ("gqa untied", "tiny chat"):
        data = read(model(name))
        output = [tensor for tensor in tensors(data) if tensor.name in ("embedding", "output")][-1]
        n_vocab, = struct.unpack_from("<I", data, HEADER_SIZE)

        def row(token: int) -> List[float]:
            at = output.offset + token * output.row_size
            halves = struct.unpack_from(f"<{output.cols}H", data, at)
            return [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves]

        unused = [row(token) for token in range(n_vocab, output.rows)]
        mean = [math.fsum(column) / len(unused) for column in zip(*unused)]
        usual = math.fsum(math.dist(row, mean) for row in unused) / (len(unused) - 1)
        ends = [get(data, field) for field in ("im_end", "im_start")]
        expected = [math.dist(row(token), mean) / usual for token in ends]
        shown = re.search(r"<\|im_end\|> (\d+\.\d), <\|im_start\|> (\d+\.\d)",
                          run(model(name), "--info")[1].decode())
        assert shown, "no such line"
        for figure, p in zip(shown.groups(), expected):
            assert abs(float(figure) - p) < 0.051, f"{name}: {shown[0]} instead of {expected}"


def test_logits_file() -> None:
    for n in (0, 1, 24):
        equal(len(following("gqa tied", [1, 2, 3], n)), n)
    equal(len(logits("script chat", "-p", "hi")), 5, "the stop token counts")
    equal(len(logits("script chat", "-p", "hi", "-p", "ho")), 10)
    equal(len(logits("script chat", "-p", "hi", "--stop", "d!")), 4)
    ids = scored_ids("mha tied", "-p", "hello")
    rows = logits("mha tied", "-p", "hello", "--score")
    equal(len(rows), len(ids))
    flags = ["-p", "hello", "-n", "1", "--temp", "0.3", "--repeat-penalty", "1.8", "--top-k", "3"]
    off = difference(logits("mha tied", *flags)[0], rows[-1])
    assert off <= 1e-4, "not the logits before penalty and temperature"


# ---------------------------------------------------------------------------------------------
# int8
# ---------------------------------------------------------------------------------------------

def quantized(name: str) -> str:
    path = scratch(name + " int8.bin")
    status, out, _ = run(model(name), "--quantize", path)
    equal((status, out), (0, b""), name)
    return path


def perplexity(path: str, *args: str) -> float:
    status, _, err = run(path, *args, "--score")
    assert status == 0, err
    return float(err.split()[1])


def facts(form: str) -> str:
    things = {"an apple": "red", "a banana": "yellow", "a pig": "pink", "a lion": "yellow",
              "a carrot": "orange", "a wolf": "grey"}
    return "".join(form.format(thing=thing, Thing=thing.capitalize(), colour=colour)
                   for thing, colour in things.items())


def test_quantize() -> str:
    random = ids_flag(random_ids("quantize", 400, VOCAB))
    texts = {name: random for name in ("mha tied", "gqa untied", "from f32", "qwen3 tied",
                                       "outlier")}
    texts["tiny base"] = ["-m", "base", "-p", facts("{Thing} is {colour}. ")]
    texts["tiny chat"] = ["-m", "base", "-p", facts(
        "<|im_start|>user\nWhat colour is {thing}?<|im_end|>\n<|im_start|>assistant\n"
        "{Thing} is {colour}.<|im_end|>\n")]
    worst = 0.0
    for name, prompt in texts.items():
        path = quantized(name)
        assert os.path.getsize(path) < os.path.getsize(model(name))
        change = abs(perplexity(path, *prompt) / perplexity(model(name), *prompt) - 1)
        assert change <= 0.01, f"{name}: perplexity changes by {100 * change:.2f} %"
        worst = max(worst, change)
        info, before = run(path, "--info")[1].decode(), output(name, "--info")
        other = [a for a, b in zip(info.splitlines(), before.splitlines()) if a != b]
        other = [line for line in other if not line.startswith("end rows")]
        assert "int8" in info and len(other) == 1 and other[0].startswith("weights"), other
        again = scratch("again.bin")
        check_error(1, run(path, "--quantize", again), "int8")
        assert not os.path.exists(again)
        os.remove(path)
    return f"perplexity changes by {100 * worst:.2f} % at most"


def test_int8_threads_and_batches() -> str:
    largest = 0.0
    for name in ("gqa tied", "even", "outlier"):
        path, vocab, out = quantized(name), vocab_of(name), scratch("int8.f32")
        ids = random_ids("int8", 300, vocab)

        def rows(n: int, *args: str) -> Rows:
            equal(run(path, *ids_flag(ids[:n]), *args, "--logits", out)[0], 0)
            return rows_of(out, vocab)

        last = ["-n", "1", "--greedy", "--ignore-stop"]
        one = rows(300, "-t", "1", *last)
        for threads in "237":
            assert rows(300, "-t", threads, *last) == one, f"other bits with {threads} threads"
        scored = rows(300, "--score")
        for n in (300, 7, 1):
            largest = max(largest, difference(scored[n - 1], rows(n, *last)[0]))
        new = rows(1, *GREEDY, "--ignore-stop", "-n", "40")                 # token by token
        ids[1:] = [argmax(row) for row in new]
        largest = max(largest, *map(difference, new, rows(40, "--score")))
    return within(1e-2, largest)


def test_an_outlier_has_no_effect() -> None:
    """What the test above relies on, and the bf16 path beside it."""
    ids = random_ids("outlier", 40, VOCAB)
    with_it, without = (logits(name, *ids_flag(ids), "--score")
                        for name in ("outlier", "no outlier"))
    assert max(map(difference, with_it, without)) <= 1e-4


# ---------------------------------------------------------------------------------------------
# Wrong command lines, files and prompts
# ---------------------------------------------------------------------------------------------

WRONG = r"""
--bogus | -x | - | -- | -nx | --n | -prompt x | -n | -n x | -n -1 | -n 1.5 | -n '' | -n 0x10
-n 99999999999999999999 | -n ' 1'
-n +1 | -t 0 | -t x | -c 0 | -c -5 | -c 1e3 | --temp -1 | --temp nan | --temp inf | --temp 1x
--temp '' | --top-p 1.5 | --top-p -0.1 | --top-p nan | --top-k -1 | --top-k 1.5 | --min-p -0.1
--min-p 1.1 | --min-p nan | --repeat-penalty 0 | --repeat-penalty -1 | --repeat-penalty nan
--seed -1 | --seed x | --seed 99999999999999999999999 | -m both | -m '' | --stop '' | -p
--ids '' | --ids ' ' | --ids '1 x' | --ids 1,2 | --ids -1 | --ids {vocab} | --ids 1.0
--ids 99999999999999999999 | --ids 4294967297 | --ids 1 -p hi | --ids 1 -s hi
-s hi -m base -p hi | --watch --score -p hi | --score --stop x -p hi
--compare {base} --score -p hi | --compare {base} --watch -p hi | --compare {base} --ids 1
--info -p hi | --quantize {scratch}/x.bin -p hi | {base} -p hi | --logits '' -p hi | --quantize ''
--no-think -p hi | --answer x --score -p hi | --answer x --watch -p hi | --answer x --stop y -p hi
--answer x --ignore-stop -p hi | --compare {base} --answer x -p hi | --info --answer x
--top 3 -p hi | --watch --top x -p hi | --watch --top -1 -p hi | --pace x -p hi | --pace -1 -p hi
"""


def test_wrong_command_lines() -> None:
    places = {"base": model("script base"), "scratch": scratch(""), "vocab": VOCAB}
    for line in re.split(r" \| |\n", WRONG.strip()):
        args = [text or quoted for quoted, text in re.findall(r"'([^']*)'|(\S+)", line)]
        args = [arg.format(**places) for arg in args]
        try:
            check_error(2, run(model("script chat"), *args, data=b"hi"))
        except AssertionError as error:
            raise AssertionError(f"{line}: {error}") from None
    check_error(2, run(model("script base"), "-s", "hi", "-p", "hi"), "-s")
    check_error(2, run(model("script base"), "--files (to be read, to be written)", "x"), "no such")
    check_error(2, run())
    assert not os.path.exists(scratch("x.bin"))


FLAGS = ("-p, --prompt", "-s, --system", "-m, --mode", "--ids", "-n, --max-tokens", "--stop",
         "--ignore-stop", "--no-think", "--compare", "--watch", "--top N", "--pace", "--score",
         "--answer", "--temp", "--top-k", "--top-p", "--min-p", "--repeat-penalty", "--seed",
         "--greedy", "-c, --context", "-t, --threads", "--plain", "--info", "--quantize",
         "--logits", "-v, --verbose", "-h, --help")


def test_help() -> None:
    for flag in ("-h", "--help"):
        status, out, err = run(flag)
        equal((status, err), (0, ""))
        text = out.decode()
        assert text.startswith("usage: ./qwen MODEL.bin [options]\n"), text[:100]
        for name in FLAGS:
            form = rf"^  +{re.escape(name)}( [^ ]+| \"ID ID ...\")?  +[^ ]"
            assert re.search(form, text, re.M), f"no line with a description for {name}: {text}"
        for heading in ("prompt", "stopping", "sampling", "machine", "files"):
            equal(len(re.findall(rf"^{heading}\b", text, re.M)), 1, f"headings: {heading}")


def test_empty_base_prompts() -> None:
    for args in (["-p", ""], [], ["-p", "", "--score"]):
        check_error(1, run(model("script base"), *args), "empty")
    for data in (b"\n", b"\r\n", b"\xef\xbb\xbf\n"):
        check_error(1, run(model("script base"), data=data), "empty")
    check_error(1, run(model("script chat"), "-m", "base", "-p", ""), "empty")


def test_a_template_that_is_not_chatml() -> None:
    directory, path = scratch("other"), scratch("other.bin")
    make_checkpoint(directory, dim=8, layers=1, heads=1, kv_heads=1, hidden=8)
    template = "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"
    set_json(directory, "tokenizer_config.json", chat_template=template)
    export.export(directory, path)
    check_error(1, run(path, "-p", "hi"), "ChatML")
    equal(run(path, "-p", "hi", "-m", "base", "-n", "1")[0], 0)


if __name__ == "__main__":
    sys.exit(main("qwen", globals()))
