"""Open a page in a headless browser, read its document and console, and use it as a person does."""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--virtual-time-budget=15000", "--enable-logging=stderr", "--v=0"),
)


def browse(page: Path, folder: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after its script has run, and the lines of the console."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


class Tab:
    """A page in a browser that is driven by Chromium's DevTools: it is looked at, clicked and given files.

    `console` has the warnings and errors that the page said, `requests` every address that it asked for.
    """

    def __init__(self, socket: Any, width: int) -> None:
        self._socket = socket
        self._number = 0
        self.console: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.size(width)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer of a method of the DevTools protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=60))
            self._note(said.get("method"), said.get("params", {}))
            if said.get("id") == self._number:
                assert "error" not in said, said["error"]
                result: dict[str, Any] = said["result"]
                return result

    def _note(self, method: str | None, about: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.console.append(" ".join(str(each.get("value", each)) for each in about["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(about["exceptionDetails"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.console.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """The window, and whether the person prefers it dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The value of the expression, as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} is never true: {self.run('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file for the input that the selector finds."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def picture(self, path: Path) -> None:
        """A PNG of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def driven(folder: Path, width: int = 1280) -> Iterator[Tab]:
    """A headless browser with an empty `Tab`; downloads come to `folder`. Needs the package websockets."""
    from websockets.sync.client import connect

    assert CHROMIUM is not None
    profile = folder / "driven"
    told = profile / "DevToolsActivePort"
    told.unlink(missing_ok=True)  # of an earlier one
    flags = [flag for flag in _FLAGS if not flag.startswith("--virtual-time")]
    with subprocess.Popen(
        [CHROMIUM, *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            end = time.monotonic() + 60
            while not told.exists() or "\n" not in told.read_text():
                assert time.monotonic() < end and process.poll() is None, "the browser does not start"
                time.sleep(0.1)
            with urlopen(f"http://127.0.0.1:{told.read_text().split()[0]}/json/list") as answer:
                pages = json.loads(answer.read())
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with connect(address, max_size=None) as socket:
                tab = Tab(socket, width)
                tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
                yield tab
                tab.call("Browser.close")
            process.wait(20)
        finally:
            process.kill()
