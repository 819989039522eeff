"""Do the tests notice? Makes small faults in qwen.c and tokenizer.c and runs the tests on each.

    python3 tests/mutants.py [--count 120] [--seed 1] [--only WORD] [--list]

Faults come from a few rules, such as `<` for `<=`, a statement left out, a condition turned round.
A sample is taken, spread over the functions. A mutant is dead if it does not compile or a test
fails; of those that live, file, line and fault are printed: either the change has no effect that a
test could see, or a test is missing. Takes about an hour; no part of test_all.sh.
"""
from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

os.environ.setdefault("PATIENCE", "20")             # a mutant that hangs is dead
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path[:0] = [HERE, ROOT]
sys.dont_write_bytecode = True
import harness                                                          # noqa: E402
import models                                                           # noqa: E402
import test_bounds                                                      # noqa: E402
import test_files                                                       # noqa: E402
import test_qwen                                                        # noqa: E402
import test_terminal                                                    # noqa: E402

SUITES = (test_qwen, test_bounds, test_files, test_terminal)
BUILD = "cc -std=c11 -O1 -march=native -ffp-contract=fast -w".split()

# What is changed into what, on lines of code.
RULES: Tuple[Tuple[str, str], ...] = (
    (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "),
    (r" != ", " == "), (r" && ", " || "), (r" \|\| ", " && "), (r" \+ ", " - "), (r" - ", " + "),
    (r" \* ", " + "), (r" % ", " / "), (r" \+= ", " -= "), (r"\+\+", "--"),
    (r"\bif \((.*)\) ", r"if (!(\1)) "),
    (r"\bmin_int\(", "max_int("), (r"\bmax_int\(", "min_int("), (r"(?<=[(&| ])!(?=\w)", ""),
    (r"\btrue\b", "false"), (r"\bfalse\b", "true"),
    (r"(?<!\[)\b([2-9]|[1-9]\d)\b(?![.\w])", r"(\1 + 1)"),
    (r"\b0\b(?![.\w])", "1"), (r"\b1\b(?![.\w])", "0"),
    (r"^(\s+)(?!return|break|continue|static|const|else|case)[\w*&>.\[\]-]+"
     r"(?: [-+*/|&]?= .*|\(.*\)|\+\+|--);$", r"\1;"),
    (r"^(\s+)if \(.*\) (?:return|break|continue|die\().*;$", r"\1;"),
)


class Mutant(NamedTuple):
    file: str
    line: int                           # from 1
    function: str
    old: str
    new: str


def code_lines(path: str) -> Iterator[Tuple[int, str, str]]:
    """(number, function, line) of lines within functions, without comments."""
    function, in_comment = "", False
    with open(path, encoding="utf-8") as file:
        for i, line in enumerate(file, 1):
            line = line.rstrip("\n")
            begins = re.match(r"(?:static |int |_Noreturn |inline )+.*?(\w+)\(.*", line)
            if begins and not line.endswith(";"):
                function = begins[1]
            if line.startswith("/*"):
                in_comment = True
            if function and not in_comment and line.startswith(" "):
                yield i, function, line
            if "*/" in line:
                in_comment = False
            if line == "}" or line.startswith("} "):
                function = ""


def outside_text(line: str, at: int) -> bool:
    """Whether a place is neither within a string nor in a comment."""
    before = re.sub(r"\\.", "  ", line[:at])
    return before.count('"') % 2 == 0 and before.count("'") % 2 == 0 and "//" not in before


def mutants(path: str) -> List[Mutant]:
    found = []
    for number, function, line in code_lines(path):
        for pattern, new in RULES:
            for match in re.finditer(pattern, line):
                if outside_text(line, match.start() + 1):
                    changed = line[:match.start()] + match.expand(new) + line[match.end():]
                    found.append(Mutant(os.path.basename(path), number, function, line, changed))
    return found


def sample(everything: List[Mutant], count: int, seed: int) -> List[Mutant]:
    """The functions take turns, so that long ones don't take all."""
    draw = random.Random(seed)
    by_function: Dict[Tuple[str, str], List[Mutant]] = {}
    for mutant in everything:
        by_function.setdefault((mutant.file, mutant.function), []).append(mutant)
    for of_one in by_function.values():
        draw.shuffle(of_one)
    chosen: List[Mutant] = []
    while len(chosen) < min(count, len(everything)):
        turn = [of_one.pop() for of_one in by_function.values() if of_one]
        draw.shuffle(turn)
        chosen += turn[:count - len(chosen)]
    return chosen


def build(folder: str, changed: str = "tokenizer.c") -> bool:
    """The programs of the sources in a folder that depend on a file."""
    for name, more in (("qwen", ["-lm", "-pthread"]), ("tokenizer", [])):
        if (name, changed) == ("tokenizer", "qwen.c"):
            continue
        source = os.path.join(folder, name + ".c")
        done = subprocess.run([*BUILD, source, "-o", os.path.join(folder, name), *more],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode:
            return False
    return True


def run_script(name: str, *programs: str) -> Callable[[], None]:
    """A program of tests, until the first one that fails."""
    def test() -> None:
        process = subprocess.Popen([sys.executable, os.path.join(HERE, name), *programs],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True, env={**os.environ, "PATIENCE": "300"})
        watch = threading.Timer(50 * harness.PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
        watch.start()
        try:
            for line in process.stdout:
                assert not line.startswith(b"FAIL"), line.decode()
            assert not process.wait(), f"{name} fails"
        finally:
            watch.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return test


class Suite:
    """All tests of the programs in a folder. First those that found much in little time."""

    def __init__(self, folder: str):
        self.folder = folder
        tests: Dict[str, Callable[[], Any]] = {
            f"{suite.__name__[5:]}: {name[5:]}": getattr(suite, name)
            for suite in SUITES for name in vars(suite) if name.startswith("test_")}
        programs = [os.path.join(folder, name) for name in ("qwen", "tokenizer")]
        self.tokenizer = run_script("test_tokenizer.py", programs[1])
        tests["malformed"] = run_script("test_malformed.py", *programs)
        harness.QWEN = programs[0]
        for name in (*models.BUILDERS, "tiny base", "tiny chat"):
            models.model(name)                          # once for all
        test_bounds.small()
        self.tests, self.times, self.found = {}, {}, {}
        for name, test in tests.items():
            start = time.monotonic()
            reason = self.failure(test)
            self.times[name] = time.monotonic() - start
            if reason:
                print(f"left out, fails without a fault: {name}: {reason[:200]}", flush=True)
            else:
                self.tests[name], self.found[name] = test, 0.1

    def failure(self, test: Callable[[], Any]) -> str:
        """Why a test fails; "" if it does not."""
        kept, harness.SCRATCH = harness.SCRATCH, tempfile.mkdtemp(dir=self.folder)
        try:
            test()
            return ""
        except harness.Skip:
            return ""
        except Exception as error:
            return str(error) or type(error).__name__
        finally:
            for process in harness.STARTED:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            harness.STARTED.clear()
            shutil.rmtree(harness.SCRATCH, ignore_errors=True)
            harness.SCRATCH = kept

    def first_failure(self, mutant: Mutant) -> Optional[str]:
        if mutant.file == "tokenizer.c" and self.failure(self.tokenizer):
            return "tokenizer"
        for name in sorted(self.tests, key=lambda name: -self.found[name] / self.times[name]):
            if self.failure(self.tests[name]):
                self.found[name] += 1
                return name
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=120, help="how many mutants (default: 120)")
    parser.add_argument("--seed", type=int, default=1, help="another sample")
    parser.add_argument("--only", metavar="WORD", default="",
                        help="of functions whose name holds this")
    parser.add_argument("--list", action="store_true", help="show them and run nothing")
    args = parser.parse_args()
    everything = [mutant for name in ("qwen.c", "tokenizer.c")
                  for mutant in mutants(os.path.join(ROOT, name)) if args.only in mutant.function]
    chosen = sample(everything, args.count, args.seed)
    print(f"{len(chosen)} of {len(everything)} mutants")
    living = uncompiled = 0
    with tempfile.TemporaryDirectory(prefix="mutants.") as folder:
        harness.SCRATCH = os.path.join(folder, "models")
        os.mkdir(harness.SCRATCH)
        sources = {}
        for name in ("qwen.c", "tokenizer.c"):
            shutil.copy(os.path.join(ROOT, name), folder)
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                sources[name] = file.read().split("\n")
        if not args.list:
            assert build(folder), "the program does not compile"
            suite = Suite(folder)
        for i, mutant in enumerate(chosen, 1):
            where = f"{mutant.file}:{mutant.line}: {mutant.old.strip()}  ->  {mutant.new.strip()}"
            if args.list:
                print(where)
                continue
            lines = list(sources[mutant.file])
            lines[mutant.line - 1] = mutant.new
            path = os.path.join(folder, mutant.file)
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(lines))
            compiled = build(folder, mutant.file)
            killer = suite.first_failure(mutant) if compiled else "the compiler"
            uncompiled += not compiled
            if killer is None:
                living += 1
            print(f"{i} {'LIVES' if killer is None else 'dead, by ' + killer}: {where}", flush=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(sources[mutant.file]))
    if not args.list:
        print(f"{living} of {len(chosen)} live; {uncompiled} did not compile")
    return 0


if __name__ == "__main__":
    sys.exit(main())
