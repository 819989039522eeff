"""The lesson's page: the program in WebAssembly, under node and in a real browser.

    python3 tests/test_ports_page.py QWEN FOLDER

QWEN is the native program. FOLDER holds what `make page` writes: qwen.wasm, base.bin, chat.bin and
lesson.html. Chromium runs headless and is driven by its own protocol, over a pipe. A line is
printed for each test: `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`.
"""
from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, List, Optional

from harness import Skip, run_tests

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUESTIONS = ["What colour is a banana?", "What colour is an apple?",
             "雪是什么颜色？", "苹果是什么颜色？"]
FRAMED = ["-m", "chat", "-n", "48", "--greedy", "--repeat-penalty", "1"]     # as in page.js
DONE = "both.every(column => column.section.dataset.state === 'done')"
NODE = """
const fs = require("fs"), [script, folder, ...args] = process.argv.slice(1);
const runProgram = new Function(fs.readFileSync(script, "utf8") + "; return runProgram")();
const files = {};
for (const name of ["base.bin", "chat.bin"])
  files[name] = new Uint8Array(fs.readFileSync(`${folder}/${name}`));
const module_ = new WebAssembly.Module(fs.readFileSync(`${folder}/qwen.wasm`));
process.exitCode = runProgram(module_, files, ["qwen", ...args],
                              (descriptor, bytes) => fs.writeSync(descriptor, bytes));
"""
qwen, folder = "", ""
browser: Optional["Browser"] = None


def native(*args: str) -> str:
    """What the native program prints, run beside the models."""
    done = subprocess.run([qwen, *args], cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return done.stdout.decode()


def node(*args: str) -> "subprocess.CompletedProcess[bytes]":
    """A run of the program in WebAssembly under node."""
    if not shutil.which("node"):
        raise Skip("node is not installed")
    return subprocess.run(
        ["node", "-e", NODE, os.path.join(ROOT, "ports/web/system.js"), folder, *args],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, program: str, profile: str):
        to_browser, self.commands = os.pipe()
        self.answers, from_browser = os.pipe()

        def wire() -> None:                         # the protocol's descriptors are 3 and 4
            copies = [os.dup2(to_browser, 40), os.dup2(from_browser, 41)]
            for i, copy in enumerate(copies):
                os.dup2(copy, 3 + i)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", f"--user-data-dir={profile}",
             "--remote-debugging-pipe", "about:blank"],
            preexec_fn=wire, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.last, self.buffer, self.session = 0, b"", ""
        self.events: List[dict] = []                # [{method, params}]
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> Any:
        """A command of the protocol, and its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                part = os.read(self.answers, 1 << 20)
                if not part:
                    raise RuntimeError("the browser ended")
                self.buffer += part
            text, _, self.buffer = self.buffer.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, script: str) -> Any:
        """The value of a script in the page."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description"))
        return result["result"].get("value")

    def wait(self, script: str, limit: float = 60) -> None:
        """Waits until a script is true."""
        end = time.monotonic() + limit
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain: {script}")
            time.sleep(0.03)

    def key(self, key: str) -> None:
        """Presses a key and lets it go."""
        code = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key,
                      windowsVirtualKeyCode=code, **text)

    def show(self, width: int, height: int, dark: bool = False, still: bool = True) -> None:
        """Sets the window, the colour scheme and whether motion is unwelcome."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)
        self.send("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def open(self, path: str) -> None:
        """Opens a page from the disk and waits for its first answers."""
        self.show(1280, 900)
        self.send("Page.navigate", url="file://" + path)
        self.wait("document.readyState === 'complete' && typeof both !== 'undefined'")
        self.wait(DONE)

    def screenshot(self, path: str) -> None:
        """The whole page, as PNG."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Ends the browser."""
        try:
            self.session = ""
            self.send("Browser.close")
            self.process.wait(20)
        except (RuntimeError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


def find_browser() -> Optional[str]:
    """The path of a Chromium, if there is one."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    return next((path for path in found if path), None)


def page() -> Browser:
    """The browser with the page, the same for all tests."""
    if not browser:
        raise Skip("chromium is not installed")
    return browser


def ask(question: str, ignore: bool = False) -> None:
    """Puts a question to both models, greedily, and waits for both answers."""
    here = page()
    here.evaluate(f"$('question').value = {json.dumps(question)};"
                  f"$('ignore').checked = {json.dumps(ignore)}; $('temperature').value = 0; ask()")
    here.wait(DONE)


def text_of(kind: str) -> str:
    """The answer of a model as the page has it, without the token that ended it."""
    return page().evaluate(f"textOf(columns.{kind})")


def same(name: str, got: str, wanted: str) -> None:
    """Two texts are equal, and not empty."""
    assert got == wanted and got, f"{name}: {got!r}, not {wanted!r}"


# ---- The program in WebAssembly ------------------------------------------------------------


def test_node_answers_as_the_native_program() -> str:
    for question in QUESTIONS:
        for kind in ("base", "chat"):
            for more in ([], ["--ignore-stop"], ["--plain"]):
                args = [f"{kind}.bin", *FRAMED, *more, "-p", question]
                same(" ".join(args), node(*args).stdout.decode(), native(*args))
    return f"{len(QUESTIONS) * 6} texts, byte for byte"


def test_node_info_and_the_framed_prompt() -> None:
    same("--info", node("chat.bin", "--info").stdout.decode(), native("chat.bin", "--info"))
    args = ["chat.bin", "--score", "-p", QUESTIONS[0]]
    got, wanted = [[row.split("\t")[:3] for row in text.split("\n")]
                   for text in (node(*args).stdout.decode(), native(*args))]
    assert got == wanted, got


def test_node_errors_and_their_exit_statuses() -> None:
    for args, status, line in (
            (["nothing.bin"], 1, "qwen: cannot open: nothing.bin: "),
            (["chat.bin", "--nonsense"], 2, "qwen: no such flag: --nonsense"),
            (["chat.bin", "--quantize", "x.bin"], 1, "qwen: "),
            (["chat.bin", "-c", "16777216", "-p", "hi"], 1, "qwen: ")):
        done = node(*args)
        assert done.returncode == status, f"{args}: exit status {done.returncode}"
        last = done.stderr.decode().rstrip("\n").split("\n")[-1]
        assert last.startswith(line), done.stderr.decode()


# ---- The page in a browser -----------------------------------------------------------------


def test_browser_answers_as_the_native_program() -> str:
    for question in QUESTIONS:
        for ignore in (False, True):
            ask(question, ignore)
            for kind in ("base", "chat"):
                more = ["--ignore-stop"] if ignore else []
                wanted = native(f"{kind}.bin", *FRAMED, *more, "-p", question)
                same(f"{kind}, {question}, {ignore}", text_of(kind), wanted)
    return page().evaluate("$('speed').textContent")


def test_browser_four_cases() -> None:
    for question in (QUESTIONS[0], QUESTIONS[2]):
        ask(question)
        ask(question, ignore=True)
        found = page().evaluate("Object.entries(cases).map(([name, c]) => `${name} ${c.kind}`)")
        assert sorted(found) == ["base-ignores limit", "base-stops limit", "chat-ignores ignored",
                                 "chat-stops ended"], found
        shown = page().evaluate("[...document.querySelectorAll('tbody td')].every(cell => "
                                "cell.textContent && !cell.querySelector('button'))")
        assert shown, "a case is not shown"


def test_browser_bars_are_the_probabilities() -> None:
    ask(QUESTIONS[0])
    for kind in ("base", "chat"):
        args = [f"{kind}.bin", *FRAMED, "--watch", "-p", QUESTIONS[0]]
        rows = [row.split("\t") for row in native(*args).rstrip("\n").split("\n")[1:]]
        bars = page().evaluate(f"[...columns.{kind}.text.querySelectorAll('.bar i')]"
                               ".map(bar => parseFloat(bar.style.height))")
        assert len(bars) == len(rows), f"{kind}: {len(bars)} bars for {len(rows)} tokens"
        for bar, row in zip(bars, rows):
            assert abs(bar - 100 * float(row[4])) < 0.1, f"{kind}: {bar} % for {row}"


def test_browser_another_token_by_keyboard() -> None:
    here = page()
    ask(QUESTIONS[0])
    here.evaluate("columns.base.text.querySelector('.token').focus()")
    for _ in range(3):
        here.key("ArrowRight")
    here.key("Enter")
    here.wait("document.querySelectorAll('.choices li').length === 5")
    here.key("Escape")
    assert here.evaluate("!document.querySelector('.choices')"), "Escape does not close it"
    assert here.evaluate("document.activeElement.matches('.token')"), "the focus is lost"
    here.key("Enter")
    here.wait("document.querySelectorAll('.choices li').length === 5")
    here.key("ArrowDown")
    number = here.evaluate("[...document.querySelectorAll('.choices li button')]"
                           ".indexOf(document.activeElement)")
    chosen, kept = here.evaluate(f"[columns.base.rows[3].top[{number}].id,"
                                 "columns.base.rows.slice(0, 3).map(row => row.id)]")
    here.key("Enter")
    here.wait("columns.base.rows.some(row => row.yours)")
    here.wait(DONE)
    framed = native("base.bin", "-m", "chat", "--score", "-p", QUESTIONS[0])
    ids = [row.split("\t")[1] for row in framed.rstrip("\n").split("\n")[1:]]
    ids += [str(one) for one in [*kept, chosen]]
    wanted = native("base.bin", "-m", "chat", "-n", "44", "--greedy", "--repeat-penalty", "1",
                    "--ids", " ".join(ids))
    got = here.evaluate("textOf(columns.base)")
    assert wanted and got.endswith(wanted), f"{got!r} does not go on with {wanted!r}"
    assert here.evaluate("columns.base.rows.length") == 48, "not 48 tokens"


def test_browser_temperature() -> None:
    here = page()
    ask(QUESTIONS[0])
    greedy, texts = text_of("base"), set()
    for _ in range(3):
        here.evaluate("$('temperature').value = 1; ask()")
        here.wait(DONE)
        texts.add(text_of("base"))
    assert len(texts) == 3 and greedy not in texts, texts


def test_browser_token_after_token() -> None:
    here = page()
    try:
        here.show(1280, 900, still=False)
        here.evaluate("ask()")
        here.wait("columns.base.shown >= 2")
        assert here.evaluate("columns.base.shown") < 20, "too fast to follow"
        here.evaluate("$('pause').click()")
        shown = here.evaluate("columns.base.shown")
        time.sleep(0.8)
        assert here.evaluate("columns.base.shown") == shown, "it does not pause"
        here.evaluate("$('skip').click()")
        here.wait(DONE, 5)
    finally:
        here.show(1280, 900)


def test_browser_narrow_in_both_languages() -> None:
    here = page()
    try:
        for dark in (False, True):
            here.show(360, 740, dark)
            here.evaluate("$('language').click()")
            here.wait(DONE)
            width = here.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, f"{width} pixels wide"
            here.evaluate("columns.base.text.querySelectorAll('.token')[3].click()")
            place = here.evaluate("(r => [r.left, r.right])"
                                  "(document.querySelector('.choices').getBoundingClientRect())")
            assert place[0] >= 0 and place[1] <= 360, f"the choices are at {place}"
            here.evaluate("closeChoices()")
    finally:
        here.show(1280, 900)


def test_browser_screen_reader() -> str:
    here = page()
    ask(QUESTIONS[0])
    nodes = here.send("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "switch", "slider", "textbox", "table")
    named = [one for one in nodes if one.get("role", {}).get("value") in roles]
    for one in named:
        assert one.get("name", {}).get("value"), f"no name: {one['role']['value']}"
    said = here.evaluate("$('announcer').textContent")
    assert text_of("chat") in said and text_of("base") in said, said
    assert here.evaluate("$('announcer').getAttribute('aria-live')") == "polite"
    return f"{len(named)} controls with names"


def test_browser_offline_and_without_errors() -> None:
    for event in page().events:
        method, params = event.get("method"), event.get("params", {})
        assert method != "Runtime.exceptionThrown", params
        assert method != "Log.entryAdded" or params["entry"]["level"] != "error", params
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            assert url.startswith(("file:", "data:", "blob:")), f"a request: {url}"


if __name__ == "__main__":
    qwen, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    profile_folder, installed = tempfile.mkdtemp(prefix="test_page."), find_browser()
    try:
        if installed:
            browser = Browser(installed, profile_folder)
            browser.open(os.path.join(folder, "lesson.html"))
        sys.exit(run_tests("page", globals()))
    finally:
        if browser:
            browser.close()
        shutil.rmtree(profile_folder, ignore_errors=True)
