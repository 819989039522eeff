"""What the test programs share: a line per test, `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`."""
from __future__ import annotations

import traceback
from typing import Any, Callable, Dict


class Skip(Exception):
    """Why a test cannot run here."""


def run_tests(subject: str, names: Dict[str, Any], only: str = "") -> int:
    """Runs the functions `test_*` of `names`, or those whose name holds `only`; the exit status. What a test returns
    stands behind its name."""
    failed = 0
    tests: Dict[str, Callable[[], Any]] = {name[5:].replace("_", " "): test for name, test in names.items() if name.startswith("test_")}
    for name, test in tests.items():
        if only.replace("_", " ") not in name:
            continue
        try:
            figure = test()
            print(f"ok   {subject}: {name}" + (f": {figure}" if figure else ""), flush=True)
        except Skip as why:
            print(f"skip {subject}: {name}: {why}", flush=True)
        except Exception as error:                      # the other tests still say something
            failed += 1
            where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == names["__file__"]]
            reason = " | ".join((str(error) or type(error).__name__).split("\n"))
            if not isinstance(error, AssertionError):
                reason = f"{type(error).__name__}: {reason}"
            print(f"FAIL {subject}: {name}: line {' > '.join(map(str, where))}: {reason[:600]}", flush=True)
    return 1 if failed else 0
