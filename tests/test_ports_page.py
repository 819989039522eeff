"""The lesson's page in a real browser: python3 tests/test_ports_page.py LESSON.html QWEN BASE.bin CHAT.bin

QWEN is the native program, BASE.bin and CHAT.bin are the int8 models that are in the page. Chromium runs headless and is driven
by its own protocol, over a pipe. Prints a line for each test.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from typing import Any, Optional

ENGLISH, CHINESE = "What colour is a banana?", "雪是什么颜色？"
LIMIT = 48                                          # as in ports/web/page.js


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, program: str, folder: str):
        to_browser, self.commands = os.pipe()
        self.answers, from_browser = os.pipe()

        def wire() -> None:                         # the protocol's descriptors are 3 and 4
            copies = [os.dup(to_browser), os.dup(from_browser)]
            reading, writing = [os.dup2(copy, 40 + i) for i, copy in enumerate(copies)]
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             f"--user-data-dir={folder}", "--no-first-run", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=wire, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.last, self.buffer, self.session = 0, b"", None
        self.events: list = []                      # [{method, params}]
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict:
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
        """The value of a script in the page; a promise is waited for."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"].get("exception", {}).get("description")))
        return result["result"].get("value")

    def wait(self, script: str, what: str, limit: float = 60) -> None:
        """Waits until a script is true."""
        end = time.monotonic() + limit
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain: {what}")
            time.sleep(0.05)

    def key(self, key: str) -> None:
        """Presses a key and lets it go."""
        text = {"Enter": "\r", " ": " "}.get(key)
        extra = {"text": text} if text else {}
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, " ": 32}[key]
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **extra)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def resize(self, width: int, height: int, dark: bool = False, still: bool = True) -> None:
        """Sets the window, the colour scheme and whether motion is unwelcome."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)
        self.send("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def screenshot(self, path: str) -> None:
        """The whole page as PNG."""
        import base64
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def close(self) -> None:
        """Ends the browser."""
        try:
            self.session = None
            self.send("Browser.close")
        except (RuntimeError, OSError):
            pass
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)


DONE = "both.every(c => c.section.dataset.state === 'done')"


def find_browser() -> Optional[str]:
    """Chromium's path, if there is one."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    return None
