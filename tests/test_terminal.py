"""Tests of ./qwen at a terminal: what it shows and how wide, conversations, Ctrl-C.

    python3 tests/test_terminal.py [--only WORD] ./qwen

A line per test, `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one failed.
Standard library only.
"""
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from typing import Dict, List, Tuple

sys.dont_write_bytecode = True
from harness import (CTRL_C, CTRL_D, PATIENCE, Started, Terminal, equal, main, read,    # noqa: E402
                     run, scratch)
from models import (GREEDY, IM_END, VOCAB, argmax, closing, difference, following,      # noqa: E402
                    ids_flag, logits, model, rows_of, scored_ids)

COLOURS = re.compile("\x1b\\[[0-9;]*m")


def on_terminal(name: str, *args: str, columns: int = 100, env: Dict[str, str] = {}) -> str:
    """What a terminal shows of standard output; standard error goes elsewhere."""
    with tempfile.TemporaryFile() as err:
        status, shown = Terminal(model(name), *args, columns=columns, env=env,
                                 stdin=subprocess.DEVNULL, stderr=err).end()
        err.seek(0)
        message = err.read().decode()
    equal(status, 0, f"exit status, {message!r}")
    return shown                                        # a split character was refused before


def width(text: str) -> int:
    """Columns that a terminal needs."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
               for c in COLOURS.sub("", text))


def screen(text: str) -> List[str]:
    """The lines that a terminal shows in the end, after all overwriting and erasing."""
    lines, at = [""], 0
    for part in re.findall(r"\r|\n|\x1b\[K|\x1b\[[0-9;]*m|[^\r\n\x1b]+", text):
        if part == "\r":
            at = 0
        elif part == "\n":
            lines.append("")
            at = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:at]
        elif part[0] != "\x1b":
            lines[-1] = lines[-1][:at].ljust(at) + part + lines[-1][at + len(part):]
            at += len(part)
    return lines


# ---------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------

def test_text() -> None:
    half = str(0xE4)
    for name, args, shown, what in (
            ("script chat", ["-p", "A", "-m", "base"], "\t\\\\x1b[\\xff苹苹果B\\x0d\\x07C\n",
             ""),
            ("script chat", ["-p", "hi"], "Red!\n", "a final newline"),
            ("script chat", ["-p", "hi", "-n", "0"], "", "nothing"),
            ("script base", ["--ids", "255", "-n", "3"], "苹\n", "a character of three bytes"),
            ("script base", ["--ids", "255", "-n", "2"], "\\xe8\\x8b\n", "half of it at the end"),
            ("script base", ["--ids", "240", "-n", "3"], "\\x9f\\x8d\\x8e\n", "no beginning"),
            ("script base", ["--ids", half, "-n", "2"], "\\xbdF\n", "a byte that begins nothing")):
        equal(on_terminal(name, *args), shown, f"{what} {args}")


def test_characters_appear_whole() -> None:
    """Each byte of 🍎 is a token. No part of it is sent before the last."""
    for n, shown in ((1, "\\xf0"), (3, "\\xf0\\x9f\\x8d"), (4, "🍎"), (5, "🍎E")):
        equal(on_terminal("script base", "-p", "m", "-n", str(n), "--pace", "1"), shown + "\n")


def test_nothing_to_print() -> None:
    """clang's sanitizer lets no pointer be computed from a text that was never written to."""
    for n in ("0", "3"):                # most ids of this model have no token
        on_terminal("mha tied", "--ids", "1 2 3", *GREEDY, "--ignore-stop", "-n", n)
    on_terminal("script chat", "--compare", model("script base"), "-p", "hi", "-n", "0")


def test_progress_leaves_no_trace() -> None:
    prompt = ids_flag([ord("L")] * 600)
    terminal = Terminal(model("script base"), *prompt, "-n", "2", "-v", stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL)
    status, shown = terminal.end()
    equal(status, 0)
    assert "of 600 tokens" in shown, f"no progress: {shown!r}"
    closing("\n".join(screen(shown)))
    status, shown = Terminal(model("script base"), *prompt, "--score",
                             stdin=subprocess.DEVNULL).end()
    equal(status, 0)
    rows = [line.split() for line in screen(shown)[1:601]]
    expected = [[str(i + 1), str(ord("L")), "L"] for i in range(600)]
    equal([row[:3] for row in rows], expected, "the table of --score with progress between")


def test_no_progress_for_a_short_prompt() -> None:
    """However long the conversation is already."""
    prompts = ["-p", "L" * 180, "-p", "L" * 180]
    _, shown = Terminal(model("script chat"), *prompts, stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL).end()
    assert "stopped: " in shown and "\r" not in shown, f"{shown!r}"


def test_the_speed_line() -> None:
    for flags, expected in (([], False), (["-v"], True), (["--verbose"], True)):
        _, shown = Terminal(model("script chat"), "-p", "hi", *flags,
                            stdin=subprocess.DEVNULL).end()
        assert "\nstopped: <|im_end|> after 5 tokens; " in shown, shown
        equal("\nspeed: " in shown, expected, f"{flags}: {shown!r}")
    with tempfile.TemporaryFile() as out:       # it is standard error that counts
        _, shown = Terminal(model("script chat"), "-p", "hi", stdin=subprocess.DEVNULL,
                            stdout=out).end()
        assert shown.startswith("stopped: ") and "speed: " not in shown, shown


# ---------------------------------------------------------------------------------------------
# Width and colours
# ---------------------------------------------------------------------------------------------

NARROW, WIDTHS = (40, 59), (60, 61, 80, 81, 100, 132, 250)


def wide_outputs(columns: int) -> List[Tuple[str, str]]:
    """(what, shown on a terminal so wide)"""
    folder = scratch("a folder whose name is far longer than most terminals are wide " * 3)
    other = os.path.join(folder, "base.bin")
    if not os.path.exists(folder):
        os.mkdir(folder)
        shutil.copy(model("script base"), other)
    compare = ["--compare", other, "-p", "L", "-m", "base"]
    return [(" ".join(args), on_terminal("script chat", *args, columns=columns)) for args in (
        ["-p", "A", "-m", "base", "--watch"], ["-p", "A", "-m", "base", "--watch", "--top", "3"],
        ["-p", "苹果是什么颜色", "--score"], ["-p", "hi", "--answer", "Red!"], compare)]


def test_nothing_is_wider_than_the_terminal() -> None:
    for columns in NARROW + WIDTHS:
        outputs = wide_outputs(columns)
        if columns in WIDTHS:
            outputs += [(flag, on_terminal("script chat", flag, columns=columns))
                        for flag in ("--help", "--info")]
        for what, shown in outputs:
            for line in screen(shown):
                assert width(line) <= columns, \
                    f"{what}: {width(line)} columns on a terminal of {columns}: {line!r}"


def test_tables_fill_the_width() -> None:
    for columns in (60, 80, 100, 160):
        lines = screen(on_terminal("script chat", "-p", "A", "-m", "base", "--watch",
                                   columns=columns))
        widths = {width(line) for line in lines[1:-1]}
        assert len(widths) == 1, f"columns are not aligned: {lines}"
        assert columns - 2 <= widths.pop() <= columns, f"not {columns} columns: {lines[1]!r}"
        equal(width(lines[0]), columns, f"the heading {lines[0]!r}")
    bar = max(re.findall("[█·]+", on_terminal("script chat", "-p", "A", "-m", "base", "--watch",
                                              columns=80)), key=len)
    assert len(bar) >= 16, f"a bar of {len(bar)} at 80 columns"
    assert " id " in on_terminal("script base", "-p", "H", "--watch", "-n", "1", columns=60)
    assert " id " not in on_terminal("script base", "-p", "H", "--watch", "-n", "1", columns=59)


def test_a_terminal_that_does_not_know_its_width() -> None:
    wide, unknown = (on_terminal("script base", "-p", "H", "--watch", "-n", "2", "--greedy",
                                 columns=columns) for columns in (80, 0))
    equal(unknown, wide)


def test_compare_fills_the_width() -> None:
    compare = ["--compare", model("script base"), "-p", "L", "-m", "base"]
    for columns in (80, 100, 150):
        lines = screen(on_terminal("script chat", *compare, columns=columns))
        equal(max(map(width, lines)), columns, str(lines))


def test_tables() -> None:
    lines = on_terminal("script chat", "-p", "A", "-m", "base", "--watch").splitlines()
    equal(len(lines), 16)
    plain = [COLOURS.sub("", line) for line in lines]
    assert not re.search("[\t⏎\x1b]", "".join(plain)), "more than colours"
    assert plain[-1][40:] != plain[1][40:], "a bar shows the last P(<|im_end|>)"
    lines = on_terminal("script base", "-p", "hi\n", "--watch", "-n", "10").splitlines()
    assert "█" in lines[5] and "█" not in lines[4], f"a bar for <|im_end|>: {lines[4:6]}"
    lines = on_terminal("script base", "-p", "L\nL", "--score").splitlines()
    assert len(lines) == 4 and "⏎" in lines[2], lines
    assert "1.0000" not in lines[3], f"rounded up to 1: {lines[3]}"


def test_no_escape_sequences_for_a_dumb_terminal() -> None:
    prompt = ids_flag([ord("L")] * 600)
    watch = ["-p", "hi", "--watch"]
    assert COLOURS.search(on_terminal("script chat", *watch)), "no colour at all"
    for env in ({"TERM": "dumb"}, {"NO_COLOR": "1"}):
        for args in (watch, ["-p", "hi", "--compare", model("script base")], ["--help"],
                     ["--info"]):
            shown = on_terminal("script chat", *args, env=env)
            assert "\x1b" not in shown, f"{env} {args}: {shown!r}"
    _, shown = Terminal(model("script base"), *prompt, "-n", "2", env={"TERM": "dumb"},
                        stdin=subprocess.DEVNULL).end()
    assert "\x1b" not in shown, f"the progress: {shown!r}"


def test_resize() -> None:
    terminal = Terminal(model("script chat"), "--watch", columns=120)
    for columns in (120, 70, 90):
        terminal.resize(columns)
        terminal.ask("hi")
        terminal.until("\n") if columns != 120 else None       # the end of the line before
        lines = screen(terminal.until("stopped: ").removeprefix("> "))[:-1]
        widest = max(map(width, lines))
        assert columns - 2 <= widest <= columns, f"{widest} columns on a terminal of {columns}"
    terminal.prompt()
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0)


# ---------------------------------------------------------------------------------------------
# Conversations
# ---------------------------------------------------------------------------------------------

def test_conversation() -> None:
    terminal = Terminal(model("script chat"))
    for text in ("hi", "and now?"):
        terminal.ask(text)
        shown = terminal.until("stopped: <|im_end|> after 5 tokens; ")
        assert shown.startswith("Red!\n"), repr(shown)
        rest = terminal.until("\n")
        assert "speed: " not in rest
    terminal.prompt()
    terminal.send(CTRL_D)
    status, rest = terminal.end()
    equal(status, 0, "exit status after Ctrl-D")
    assert "speed: " not in rest


def test_base_lines() -> None:
    path = scratch("lines.f32")
    terminal = Terminal(model("mha tied"), "-m", "base", *GREEDY, "-n", "1", "--logits", path)
    for text in ("hello", "world", "hello"):
        terminal.ask(text)
        terminal.until("stopped: ")
    terminal.prompt()
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0)
    a, b, c = rows_of(path, VOCAB)
    assert a == c and a != b, "a line is not a fresh prompt"
    alone, = logits("mha tied", "-m", "base", *GREEDY, "-n", "1", "-p", "hello")
    equal(a, alone, "its newline is no part of it")


def test_a_long_line() -> None:
    """Longer than the 4,095 bytes that a terminal's line holds: whole, or refused in words."""
    terminal = Terminal(model("script base"), "-n", "1", "-v", flush=True)
    terminal.ask("L" * 3000)
    shown = terminal.until("speed: prompt ")
    equal(terminal.until(" tokens"), "3000 tokens", shown)


def test_full_context_begins_a_new_conversation() -> None:
    """Said in one line; the question that did not fit is the first of the new one."""
    path, first = scratch("full.f32"), scored_ids("mha tied", "-p", "hello")
    terminal = Terminal(model("mha tied"), *GREEDY, "--ignore-stop", "-n", "3", "-c",
                        str(len(first) + 5), "--logits", path)
    for turn in range(4):
        terminal.ask("hello")
        shown = terminal.until("stopped: ")
        notes = re.findall("new conversation", shown)
        equal(len(notes), int(turn > 0), f"turn {turn + 1}: {shown!r}")
    terminal.prompt()
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0)
    rows = rows_of(path, VOCAB)
    equal(len(rows), 12)
    assert rows[0] == rows[3] == rows[6], "not a new conversation"


def test_a_turn_that_fills_the_context() -> None:
    terminal = Terminal(model("mha tied"), *GREEDY, "--ignore-stop", "-c",
                        str(len(scored_ids("mha tied", "-p", "hello")) + 5))
    for turn in range(2):
        terminal.ask("hello")
        shown = terminal.until("stopped: context full after ")
        equal("new conversation" in shown, turn > 0, shown)


def test_a_question_longer_than_the_context() -> None:
    terminal = Terminal(model("mha tied"), *GREEDY, "-c", "50", "-n", "1", "-s", "")
    terminal.ask("x" * 100)
    terminal.ask("hi")
    terminal.until("stopped: -n 1 after 1 token; ")
    terminal.prompt()
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0)


def test_compare_line_after_line() -> None:
    terminal = Terminal(model("script chat"), "--compare", model("script base"), "-n", "12")
    for text in ("hi", "ho"):
        terminal.ask(text)
        shown = terminal.until('"Red!"') + terminal.until('"Red!"')
        assert "12 tokens" in shown, shown
    terminal.prompt()
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0)


# ---------------------------------------------------------------------------------------------
# Ctrl-C
# ---------------------------------------------------------------------------------------------

def endless(*args: str) -> Started:
    """The program in a turn that only Ctrl-C ends."""
    return Started(model("script base"), "-n", "1000000", "-c", "1000000", *args)


def notes_removed(err: str) -> str:
    return "".join(line for line in err.splitlines(True) if not line.startswith("qwen: note: "))


def test_ctrl_c_ends_the_only_turn() -> None:
    for args in (["-p", "L"], ["--ids", str(ord("L"))], ["-p", "L", "--watch"],
                 ["-p", "L", "--stop", "LLLM"], ["-p", "L", "--pace", "1"]):
        program = endless(*args)
        program.wait_for("stdout", b"L")
        program.signal()
        status, _, err = program.end()
        turns = closing(notes_removed(err))
        equal((status, [turn.reason for turn in turns]), (130, ["interrupted"]))
        assert turns[0].n > 0


def test_ctrl_c_ends_one_turn_of_several() -> None:
    program = endless("-p", "L", "-p", "L")
    program.wait_for("stdout", b"L")
    program.signal()
    program.wait_for("stderr", b"\nspeed: ")
    program.signal()
    equal(program.end()[0], 130, "exit status")


def test_ctrl_c_while_a_prompt_is_awaited() -> None:
    program = Started(model("script base"), stdin=subprocess.PIPE)
    program.process.stdin.write(b"x" * 300000)      # more than a pipe holds: most of it was read
    program.process.stdin.flush()
    program.signal()
    equal(program.process.wait(PATIENCE), 130, "exit status")
    program.process.communicate()


def test_ctrl_c_ends_what_cannot_end_earlier() -> None:
    """--score, --answer and --compare end, and leave no file."""
    path = scratch("ended.f32")
    for args in (["-p", "L" * 90000, "--score", "--logits", path],
                 ["-p", "L", "--answer", "L" * 90000, "--logits", path]):
        program = Started(model("script base"), "-m", "base", "-c", "1000000", *args)
        program.wait_for("stdout", b"\tL\t")
        program.signal()
        status, _, err = program.end()
        equal(status, 130, f"{args[2]}: {err!r}: exit status")
        assert not os.path.exists(path)


def test_ctrl_c_at_the_prompt() -> None:
    for turns in (0, 1):
        terminal = Terminal(model("script chat"))
        for _ in range(turns):
            terminal.ask("hi")
            terminal.until("stopped: ")
        terminal.prompt()
        terminal.send(CTRL_C)
        equal(terminal.end()[0], 130, f"exit status after {turns} turns")


def test_ctrl_c_clears_a_line_half_typed() -> None:
    terminal = Terminal(model("script base"), "-n", "2", "-v", flush=True)
    for _ in range(2):
        terminal.prompt()
        terminal.send("half a line")
        terminal.send(CTRL_C)
    terminal.ask("LLL")
    shown = terminal.until("speed: prompt 3 tokens")
    assert "LL" in shown, f"what was typed before is not gone: {shown!r}"
    terminal.prompt()
    terminal.send(CTRL_C)
    equal(terminal.end()[0], 130, "exit status on an empty line")


def test_a_line_that_ctrl_d_ends_is_answered() -> None:
    """Also one that ends in a NUL. On an empty line, one Ctrl-D is the end."""
    terminal = Terminal(model("script base"), "-n", "2", "-v", flush=True)
    for line in ("LLL", "LL\0"):
        terminal.prompt()
        terminal.send(line + 2 * CTRL_D)
        terminal.until("speed: prompt 3 tokens")
    terminal.prompt()
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0)


def test_ctrl_c_ends_a_turn_then_the_next() -> None:
    path = scratch("conversation.f32")
    terminal = Terminal(model("mha tied"), *GREEDY, "--ignore-stop", "-n", "1000000", "--watch",
                        "--logits", path)
    counts = []
    for text in ("hello", "again"):
        terminal.ask(text)
        for _ in range(20):
            terminal.until("\n")
        terminal.send(CTRL_C)
        terminal.until("stopped: interrupted after ")
        counts.append(int(terminal.until(" ").strip()))
    terminal.prompt()
    terminal.send(CTRL_D)
    equal(terminal.end()[0], 0, "exit status")
    raw = rows_of(path, VOCAB)
    equal(len(raw), sum(counts), "rows of --logits")
    new = [argmax(row) for row in raw[:counts[0]]]
    again = scored_ids("mha tied", "-s", "", "-p", "again")
    history = scored_ids("mha tied", "-p", "hello") + new + [IM_END, 10] + again
    expected, = following("mha tied", history, 1)
    off = difference(raw[counts[0]], expected)
    assert off <= 1e-4, "an interrupted turn is not closed, or not as it was generated"


def test_ctrl_c_ends_a_turn_whose_text_goes_to_a_file() -> None:
    """The prompt changes what Ctrl-C does; it is restored by the stream that is the terminal."""
    with tempfile.TemporaryFile() as out:
        terminal = Terminal(model("script base"), "-n", "1000000", "-c", "1000000", stdout=out)
        terminal.ask("L")
        while not os.fstat(out.fileno()).st_size:
            time.sleep(0.01)
        terminal.send(CTRL_C)
        terminal.until("stopped: interrupted after ")
        terminal.prompt()
        terminal.send(CTRL_D)
        equal(terminal.end()[0], 0)


def test_two_ctrl_c() -> None:
    terminal = Terminal(model("script base"), "-n", "1000000", "-c", "1000000")
    terminal.ask("L")
    terminal.until("LLLL")
    terminal.send(CTRL_C)
    terminal.until("stopped: interrupted after ")
    terminal.prompt()
    terminal.send(CTRL_C)
    equal(terminal.end()[0], 130, "exit status")


def test_ctrl_c_ends_a_pause() -> None:
    """One may come just before the pause and go unheard; the second ends the program."""
    program = endless("-p", "L", "--pace", "3000000")
    program.wait_for("stdout", b"L")
    while program.process.poll() is None:
        program.signal()
        time.sleep(0.02)
    equal(program.end()[0], 130, "exit status")


def test_other_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        program = endless("-p", "L")
        program.wait_for("stdout", b"L")
        program.signal(number)
        assert program.end()[0] in (-number, 128 + number), f"exit status after {number!r}"


if __name__ == "__main__":
    sys.exit(main("terminal", globals()))
