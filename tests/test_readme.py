"""The README's examples are real: runs each command of its ```console blocks and compares what a
terminal shows.

    python3 tests/test_readme.py ./qwen ./tokenizer            numbers may differ by a tenth
    python3 tests/test_readme.py ./qwen ./tokenizer --write    writes what it sees into README.md

The commands run in a folder with the programs and the exported tiny pair, on a terminal of 80
columns in black and white. A line per test, `ok   NAME` or `FAIL NAME: reason`; exit status 1 if
one failed. Standard library only.
"""
from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import List

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
README = os.path.join(ROOT, "README.md")
BLOCK = re.compile(r"(?ms)^```console\n(.*?)^```$")
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")
COLUMNS = 80


def show(command: str, folder: str) -> List[str]:
    """The lines that a terminal shows."""
    master, slave = pty.openpty()
    ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    process = subprocess.Popen(command, shell=True, cwd=folder, stdin=subprocess.DEVNULL,
                               stdout=slave, stderr=slave, env={**os.environ, "NO_COLOR": "1"})
    os.close(slave)
    output = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:                                 # Linux says so that nobody writes any more
            data = b""
        if not data:
            break
        output += data
    process.wait()
    os.close(master)
    text = re.sub(r"[^\n]*\x1b\[K", "", output.decode("utf-8").replace("\r\n", "\n"))
    return [line.rstrip() for line in text.rstrip("\n").split("\n")]


def alike(shown: str, seen: str) -> bool:
    """Equal but for numbers, which depend a little on the compiler, and speeds."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", seen):
        return False
    pairs = zip(map(float, NUMBER.findall(shown)), map(float, NUMBER.findall(seen)))
    return shown.startswith("speed:") or all(
        abs(a - b) <= 0.1 * max(abs(a), abs(b)) or abs(a - b) < 1e-6 for a, b in pairs)


def main() -> int:
    write = sys.argv[3:] == ["--write"]
    if len(sys.argv) < 3 or len(sys.argv) > 3 and not write:
        print(__doc__, file=sys.stderr)
        return 2
    with open(README, encoding="utf-8") as file:
        readme = file.read()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, path in (("qwen", sys.argv[1]), ("tokenizer", sys.argv[2]),
                           ("tiny", os.path.join(ROOT, "tiny")),
                           ("export.py", os.path.join(ROOT, "export.py"))):
            os.symlink(os.path.abspath(path), os.path.join(folder, name))
        for kind in ("base", "chat"):
            subprocess.run([sys.executable, "export.py", f"tiny/{kind}", f"tiny-{kind}.bin"],
                           cwd=folder, check=True, stderr=subprocess.DEVNULL)

        def replay(block: "re.Match[str]") -> str:
            nonlocal failed
            lines: List[str] = []
            for example in re.split(r"(?m)^\$ ", block[1])[1:]:
                command, *shown = example.rstrip("\n").split("\n")
                while command.count('"') % 2 or command.endswith("\\"):     # of several lines
                    command += "\n" + shown.pop(0)
                seen = show(command, folder)
                lines += ["$ " + command, *seen, ""]
                while shown and not shown[-1]:
                    shown.pop()
                bad = [pair for pair in zip(shown, seen) if not alike(*pair)]
                name = command.split("\n")[0]
                if write:
                    print(f"wrote what it shows: {name}", flush=True)
                elif not bad and len(shown) == len(seen):
                    print(f"ok   readme: {name}", flush=True)
                else:
                    failed += 1
                    why = bad[0] if bad else f"{len(seen)} lines instead of {len(shown)}"
                    print(f"FAIL readme: {name}: {why}", flush=True)
            return "```console\n" + "\n".join(lines[:-1]) + "\n```"

        readme = BLOCK.sub(replay, readme)
    if write:
        with open(README, "w", encoding="utf-8") as file:
            file.write(readme)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
