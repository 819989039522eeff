"""What the test programs share: running tests, ./qwen and terminals.

A test is a function `test_*`, which raises an exception if it fails. A line is printed for each:
`ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`.
"""
from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Tuple

# seconds, until a program counts as hung; else no test depends on the clock
PATIENCE = float(os.environ.get("PATIENCE", "300"))
QWEN = ""                   # the program that is tested
SCRATCH = ""                # a directory of this run's own
STARTED: List["subprocess.Popen[bytes]"] = []      # killed at the end if a failed test left them
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")    # what is in use until the end is no leak
os.environ["TERM"] = "xterm-256color"
os.environ.pop("NO_COLOR", None)


class Skip(Exception):
    """Why a test cannot run here."""


def run_tests(subject: str, names: Dict[str, Any], only: str = "") -> int:
    """Runs the functions `test_*` of `names`, or those whose name holds `only`; the exit status.
    What a test returns stands behind its name."""
    failed = 0
    tests: List[str] = [name for name in names if name.startswith("test_")]
    for function in tests:
        name, test = function[5:].replace("_", " "), names[function]
        if only.replace("_", " ") not in name:
            continue
        try:
            figure = test()
            print(f"ok   {subject}: {name}" + (f": {figure}" if figure else ""), flush=True)
        except Skip as why:
            print(f"skip {subject}: {name}: {why}", flush=True)
        except Exception as error:                      # the other tests still say something
            failed += 1
            where = [str(frame.lineno) for frame in traceback.extract_tb(error.__traceback__)
                     if frame.filename == names["__file__"]]
            reason = " | ".join((str(error) or type(error).__name__).split("\n"))
            if not isinstance(error, AssertionError):
                reason = f"{type(error).__name__}: {reason}"
            print(f"FAIL {subject}: {name}: line {' > '.join(where)}: {reason[:600]}", flush=True)
    return 1 if failed else 0


def main(subject: str, names: Dict[str, Any]) -> int:
    """The main program of a file of tests of ./qwen; the exit status."""
    global QWEN, SCRATCH
    parser = argparse.ArgumentParser(description=(names["__doc__"] or "").split("\n\n")[0])
    parser.add_argument("--only", metavar="WORD", default="",
                        help="only tests whose name holds this")
    parser.add_argument("qwen", metavar="QWEN", help="the program")
    args = parser.parse_args()
    QWEN = os.path.abspath(args.qwen)
    with tempfile.TemporaryDirectory(prefix=f"test_{subject}.") as SCRATCH:
        try:
            return run_tests(subject, names, args.only)
        finally:
            for process in STARTED:
                if process.poll() is None:
                    process.kill()


def scratch(name: str, data: Optional[bytes] = None) -> str:
    """A path in the scratch directory; the file is written if there is data for it."""
    path = os.path.join(SCRATCH, name)
    if data is not None:
        with open(path, "wb") as file:
            file.write(data)
    return path


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# ---------------------------------------------------------------------------------------------
# Assertions
# ---------------------------------------------------------------------------------------------

def equal(got: Any, expected: Any, what: str = "") -> None:
    if got != expected:
        a, b = str(got), str(expected)
        begin = max(0, len(os.path.commonprefix([a, b])) - 60)     # what is alike need not be shown
        where = what + ": " if what else ""
        raise AssertionError(f"{where}{a[begin:begin + 250]} instead of {b[begin:begin + 250]}")


Result = Tuple[int, bytes, str]             # exit status, standard output, standard error


def check_error(status: int, got: Result, *words: str, out: Optional[bytes] = b"") -> None:
    """One line on standard error that holds the words, nothing on standard output, or `out`, or
    anything if that is None."""
    err = got[2]
    assert got[0] == status, f"exit status {got[0]} instead of {status}: {err[:300]!r}"
    assert out is None or got[1] == out, f"standard output {got[1][:100]!r}"
    assert err.startswith("qwen: ") and err.count("\n") == 1 and err.endswith("\n"), \
        f"not one line: {err[:300]!r}"
    for word in words:
        assert word in err, f"no {word!r} in {err!r}"


# ---------------------------------------------------------------------------------------------
# Programs
# ---------------------------------------------------------------------------------------------

def run(*args: str, data: bytes = b"", prepare: Optional[Callable[[], Any]] = None,
        **options: Any) -> Result:
    """Runs the program to its end; `prepare` is called in its process before it."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    done = subprocess.run([QWEN, *args], input=data, timeout=PATIENCE, preexec_fn=prepare,
                          **options)
    return done.returncode, done.stdout or b"", (done.stderr or b"").decode("utf-8", "replace")


class Started:
    """The program while it runs, with pipes at its streams."""

    def __init__(self, *args: str, **options: Any):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                   "stderr": subprocess.PIPE, **options}
        self.process = subprocess.Popen([QWEN, *args], **options)
        STARTED.append(self.process)
        self.seen = {"stdout": b"", "stderr": b""}

    def wait_for(self, stream: str, text: bytes) -> None:
        """Reads on until a stream has shown this text."""
        pipe = getattr(self.process, stream)
        while text not in self.seen[stream]:
            ready, _, _ = select.select([pipe], [], [], PATIENCE)
            assert ready, f"nothing for {PATIENCE} s after {self.seen[stream][-200:]!r}"
            more = os.read(pipe.fileno(), 1 << 16)
            assert more, f"ended without {text!r} after {self.seen[stream][-200:]!r}"
            self.seen[stream] += more

    def signal(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def end(self) -> Result:
        out, err = self.process.communicate(timeout=PATIENCE)
        err = (self.seen["stderr"] + (err or b"")).decode("utf-8", "replace")
        return self.process.returncode, self.seen["stdout"] + (out or b""), err


class Terminal:
    """The program at a terminal that neither echoes nor changes what is sent through it. Streams
    can be given other ends. `flush`: Ctrl-C drops what was typed before, as it does for people."""

    def __init__(self, *args: str, columns: int = 100, flush: bool = False,
                 env: Dict[str, str] = {}, stdin: Any = None, stdout: Any = None,
                 stderr: Any = None):
        self.master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~termios.ECHO
        if not flush:
            attributes[3] |= termios.NOFLSH
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.resize(columns)

        def take_terminal() -> None:                    # so that Ctrl-C arrives
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        ends = {name: slave if end is None else end
                for name, end in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr))}
        self.process = subprocess.Popen([QWEN, *args], env={**os.environ, **env},
                                        preexec_fn=take_terminal, **ends)
        STARTED.append(self.process)
        os.close(slave)
        self.seen = b""                                 # and not asked for yet
        self.deadline = time.monotonic() + 2 * PATIENCE

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", 30, columns, 0, 0))

    def read(self) -> bytes:
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        assert ready, f"nothing for {PATIENCE} s after {self.seen[-200:]!r}"
        assert time.monotonic() < self.deadline, f"no end of it: {self.seen[-200:]!r}"
        try:
            return os.read(self.master, 1 << 16)
        except OSError:                                 # how Linux says that nobody writes any more
            return b""

    def until(self, text: str, pattern: bytes = b"") -> str:
        """What the terminal shows up to this text."""
        pattern = pattern or re.escape(text.encode())
        while not re.search(pattern, self.seen):
            more = self.read()
            assert more, f"ended without {text!r} after {self.seen[-300:]!r}"
            self.seen += more
        end = re.search(pattern, self.seen).end()
        shown, self.seen = self.seen[:end], self.seen[end:]
        return shown.decode()

    def prompt(self) -> str:
        """What the terminal shows until the program waits for a line."""
        return self.until("> ", b"(^|\n)> ")

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def ask(self, text: str) -> None:
        """Types a line once the program waits for one."""
        self.prompt()
        self.send(text + "\n")

    def end(self) -> Tuple[int, str]:
        """(exit status, all that was not read yet)"""
        while True:
            more = self.read()
            if not more:
                break
            self.seen += more
        os.close(self.master)
        return self.process.wait(PATIENCE), self.seen.decode()


CTRL_C, CTRL_D = "\x03", "\x04"
