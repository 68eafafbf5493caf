"""A page that is served, and a headless Chromium to look at it, driven by the DevTools protocol: what tests need of both."""

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0  # seconds: a machine may be busy


def heed_ctrl_c() -> None:
    """In a new process: whatever a shell starts in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def served(*options: str) -> Iterator[str]:
    """The address of a page that a process of its own serves; Ctrl-C ends it, with exit code 130."""
    command = [sys.executable, "-m", "minittt", "serve", "--port", "0", "--threads", "1", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    try:
        yield re.search(r"http://[\d.]+:\d+/", process.stdout.readline())[0]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
        assert (process.returncode, told.strip()) == (130, "stopped")
    finally:
        process.kill()
        process.wait()


def program() -> str | None:
    """The browser on this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def until(happens, what: str, seconds: float = PATIENCE):
    """Call `happens` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happens():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen in {seconds:g} s")


class Tab:
    """The one tab of a browser."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.number = 0
        self.events: list[dict] = []  # what the browser told without being asked
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """One command and its result."""
        self.number += 1
        self.connection.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.connection.recv(timeout=PATIENCE))
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def run(self, script: str):
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, (script, answer)
        return answer["result"].get("value")

    def go(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        until(lambda: self.run("document.readyState") == "complete", f"loading {address}")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Size in CSS pixels, and which colours are preferred."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, selector: str) -> None:
        self._mouse("mousePressed", selector)

    def release(self, selector: str) -> None:
        self._mouse("mouseReleased", selector)

    def click(self, selector: str) -> None:
        self.press(selector)
        self.release(selector)

    def _mouse(self, kind: str, selector: str) -> None:
        """At the middle of the element that is found first."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def picture(self) -> bytes:
        """What is seen now, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """Exceptions, errors and refusals (of the security policy, say) that the browser has reported."""
        self.run("1")
        found = []
        for event in self.events:
            entry = event.get("params", {}).get("entry", {})
            if event["method"] == "Runtime.exceptionThrown" or entry.get("level") == "error":
                found.append(json.dumps(event["params"]))
        return found


@contextmanager
def browser(folder: Path, microphone: Path | None = None) -> Iterator[Tab]:
    """A browser with its files in `folder`; its microphone hears a WAV file, once from the moment it is opened."""
    from websockets.sync.client import connect

    options = [
        "--headless=new",
        "--no-sandbox",  # for root, as in a container
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
    ]
    if microphone is not None:
        options.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    process = subprocess.Popen(
        [program(), *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        told = folder / "DevToolsActivePort"
        until(lambda: told.is_file() and told.read_text(encoding="utf-8").count("\n"), "the browser's start")
        port = told.read_text(encoding="utf-8").split()[0]

        def page() -> str | None:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                targets = json.load(answer)
            return next((t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page"), None)

        with connect(until(page, "the browser's first tab"), max_size=None) as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
