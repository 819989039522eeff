"""The programs for Windows, under wine: python3 tests/test_ports_windows.py WINE

They are build/qwen.exe and build/tokenizer.exe, and are compared with ./qwen and ./tokenizer, on
tiny-base.bin and tiny-chat.bin. A line is printed for each test: `ok   NAME`, `FAIL NAME: reason`
or `skip NAME: why`.
"""
from __future__ import annotations

import array
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import List, Tuple

from harness import run_tests

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENGLISH, CHINESE = "What colour is an apple?", "苹果是什么颜色？"
wine, folder = "", ""


def program(name: str, windows: bool) -> List[str]:
    """The command that runs ./qwen or ./tokenizer, or the one for Windows."""
    return [wine, f"{ROOT}/build/{name}.exe"] if windows else [f"{ROOT}/{name}"]


def run(windows: bool, *args: str, name: str = "qwen", data: bytes = b"") -> Tuple[int, bytes, str]:
    """(exit status, standard output, standard error without the speed), run in the folder."""
    done = subprocess.run([*program(name, windows), *args], input=data, cwd=folder,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    errors = done.stderr.decode("utf-8", "replace").split("\n")
    # wine's services fail now and then. If the program itself does, its exit status tells.
    other = ("speed: ", "wine client error", "wine: ")
    line = "\n".join(x for x in errors if x and not x.startswith(other))
    return done.returncode, done.stdout, re.sub(r"\.\d+\.tmp", ".tmp", line)


def same(*args: str, name: str = "qwen", data: bytes = b"") -> bytes:
    """Both programs say the same, byte for byte; what they say."""
    native, windows = [run(each, *args, name=name, data=data) for each in (False, True)]
    for what, a, b in zip(("exit status", "output", "errors"), native, windows):
        assert a == b, f"{args}: {what} {b!r}, not {a!r}"
    return native[1]


class Console:
    """The program at a console of wine, which is a terminal here."""

    def __init__(self, *args: str):
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.environ["TERM"] = "xterm-256color"
            os.chdir(folder)
            os.execvp(wine, [*program("qwen", True), *args])
        self.seen = ""

    def until(self, text: str) -> str:
        """What the console shows, up to a text; escape sequences are left out."""
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen[-300:]!r}"
            if select.select([self.terminal], [], [], 1)[0]:
                shown = os.read(self.terminal, 1 << 16).decode("utf-8", "replace")
                shown = re.sub("\x1b\\[(\\d*)C", lambda m: " " * int(m[1] or 1), shown)
                self.seen += re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", shown)
        before, self.seen = self.seen.split(text, 1)
        return before + text

    def send(self, text: str) -> None:
        """Types."""
        time.sleep(0.3)
        os.write(self.terminal, text.encode())

    def end(self) -> int:
        """The exit status."""
        return os.WEXITSTATUS(os.waitpid(self.process, 0)[1])


def test_chat_in_both_languages() -> None:
    for question in (ENGLISH, CHINESE):
        answer = same("tiny-chat.bin", "-p", question, "--greedy", "--repeat-penalty", "1")
        assert answer.strip(), "no answer"
    same("tiny-chat.bin", "-p", ENGLISH, "-p", "Is it sweet?", "--greedy")
    same("tiny-chat.bin", "--greedy", data=b"\xef\xbb\xbf" + CHINESE.encode() + b"\r\n")


def test_compare() -> None:
    for question in (ENGLISH, CHINESE):
        same("tiny-chat.bin", "--compare", "tiny-base.bin", "-n", "60", "-p", question)


def test_plain_and_threads() -> None:
    for more in (["--plain"], ["-t", "1"], ["-t", "3"], ["-c", "1000000"]):
        same("tiny-base.bin", "-n", "40", "-p", "The cat is", "--greedy", *more)


def test_quantize() -> None:
    for windows, name in ((False, "native.bin"), (True, "windows.bin")):
        status, _, err = run(windows, "tiny-chat.bin", "--quantize", name)
        assert status == 0, err
    with open(f"{folder}/native.bin", "rb") as a, open(f"{folder}/windows.bin", "rb") as b:
        assert a.read() == b.read(), "another file"
    same("windows.bin", "-p", CHINESE, "--greedy")
    same("tiny-chat.bin", "--quantize", "tiny-chat.bin")
    same("tiny-chat.bin", "--quantize", "nowhere/x.bin")
    left = [name for name in os.listdir(folder) if re.search(r"\.bin\..", name)]
    assert not left, f"left behind: {left}"


def test_logits() -> str:
    rows = []
    for windows in (False, True):
        name = f"{windows}.f32"
        run(windows, "tiny-base.bin", "--ids", "5 6 7", "--greedy", "--repeat-penalty", "1",
            "--ignore-stop", "-n", "24", "--logits", name)
        with open(f"{folder}/{name}", "rb") as file:
            rows.append(array.array("f", file.read()))
    assert len(rows[0]) == len(rows[1]) > 0, "not as many"
    worst = max(abs(a - b) for a, b in zip(*rows))
    assert worst < 1.2e-5, f"{worst} apart"
    return f"at most {worst:.1e} apart"


def test_tokenizer() -> None:
    text = "It's 12 <|im_end|> 苹果\r\n\tÄrger🍎"
    same("tiny-chat.bin", text, name="tokenizer")
    ids = same("tiny-chat.bin", "--ids", name="tokenizer", data=text.encode())
    decoded = same("tiny-chat.bin", "--decode", name="tokenizer", data=ids)
    assert decoded == text.encode(), decoded


def test_help_info_and_errors() -> None:
    for args in (["--help"], ["nothing.bin"], ["directory"], ["empty"]):
        same(*args)
    for args in (["--info"], ["--nonsense"], ["-p", "*", "-n", "x"], ["-m", "base", "-p", ""],
                 ["-p", 'a "b" \\ c*', "--greedy"]):
        same("tiny-chat.bin", *args)


def test_file_names_in_chinese() -> None:
    os.makedirs(f"{folder}/苹果", exist_ok=True)
    shutil.copy(f"{folder}/tiny-chat.bin", f"{folder}/苹果/模型.bin")
    same("苹果/模型.bin", "-p", ENGLISH, "--greedy")
    same("苹果/模型.bin", "--quantize", "苹果/小.bin")
    assert os.path.exists(f"{folder}/苹果/小.bin")


def test_closed_pipe() -> None:
    process = subprocess.Popen(
        [*program("qwen", True), "tiny-base.bin", "-n", "400", "--watch", "-p", "The cat"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0, "not a quiet end"
    assert b"qwen:" not in process.stderr.read()


def test_console() -> None:
    console = Console("tiny-chat.bin", "--greedy")
    for question in (ENGLISH, CHINESE):
        console.until("> ")
        console.send(question + "\r")
        answer = run(False, "tiny-chat.bin", "--greedy", "-p", question)[1].decode()
        if question == ENGLISH:
            console.until(answer)
        console.until("stopped: <|im_end|>")
    console.until("> ")
    console.send("half a line")
    console.until("half a line")
    console.send("\x03")
    console.send("\r")                      # Windows ends the line by itself, wine does not
    console.until("> ")
    console.send("\x03")
    assert console.end() == 130


if __name__ == "__main__":
    wine = sys.argv[1]
    os.environ["WINEDEBUG"] = "-all"
    with tempfile.TemporaryDirectory(prefix="test_windows.") as folder:
        os.environ["WINEPREFIX"] = f"{folder}/wine"
        for each in ("tiny-base.bin", "tiny-chat.bin"):
            shutil.copy(f"{ROOT}/{each}", folder)
        os.mkdir(f"{folder}/directory")
        with open(f"{folder}/empty", "wb"):
            pass
        run(True, "--help")                 # wine makes its directory, and says so
        try:
            sys.exit(run_tests("windows", globals()))
        finally:
            if shutil.which("wineserver"):
                subprocess.run(["wineserver", "-k"], check=False)     # of this WINEPREFIX
