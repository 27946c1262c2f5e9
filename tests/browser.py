"""A real browser: headless Chromium, driven through its debugging pipe. It sees one page at a time."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--hide-scrollbars",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
WITHIN = 60
"""Seconds in which anything has to happen; then the browser is killed, and whoever waits for it fails."""


def browser() -> Path:
    """The browser's program. Without it the test fails in CI, unless NO_CHROMIUM says why there can't be one, and is
    skipped elsewhere."""
    if why := os.environ.get("NO_CHROMIUM"):
        return pytest.skip(why)
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found:
        return Path(found)
    complain = pytest.fail if os.environ.get("CI") else pytest.skip
    return complain("no Chromium here: install it, or name it with CHROMIUM, to test pages in one")


class Tab:
    """One page. `heard` is all the browser has told of it."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._number, self._rest, self._session = to, back, 0, b"", ""
        self.heard: list[dict[str, Any]] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> Any:
        """One command of the browser's protocol; its result."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(
            self._to, json.dumps({"id": self._number, "method": method, "params": params, **session}).encode() + b"\0"
        )
        while (said := self._hear()).get("id") != self._number:
            self.heard.append(said)
        assert "error" not in said, (method, said["error"])
        return said["result"]

    def open(self, url: str) -> None:
        """Go to a page, and wait until it and all that it needs is there."""
        self.heard.clear()
        self.do("Page.navigate", url=url)
        while not any(said["method"] == "Page.loadEventFired" for said in self.heard):
            self.heard.append(self._hear())

    def look(self, width: int, height: int = 900, *, dark: bool = False, media: str = "") -> None:
        """Be a screen of this size and colour, or paper."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        colour = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", media=media, features=[colour])

    def ask(self, script: str) -> Any:
        """What an expression of JavaScript comes to in the page."""
        said = self.do("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """What the browser has told by these names."""
        return [said["params"] for said in self.heard if said["method"] in methods]

    def picture(self, path: Path) -> None:
        """A screenshot of the whole page."""
        data = self.do("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(b64decode(data))

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._back, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        said, _, self._rest = self._rest.partition(b"\0")
        return json.loads(said)


@contextmanager
def tab(folder: Path) -> Generator[Tab]:
    """A page of a browser that runs inside, and keeps what it keeps in `folder`."""
    theirs, ours = os.pipe()
    back, answers = os.pipe()
    command = [str(browser()), *FLAGS, f"--user-data-dir={folder}"]
    # It reads from 3 and writes to 4. Done by a shell: what Python runs in a child of many threads may hang.
    shell = ["bash", "-c", f'exec 3<&{theirs} 4>&{answers}; exec "$@"', "bash", *command]
    environ = {**os.environ, "HOME": str(folder)}
    with subprocess.Popen(
        shell, pass_fds=(theirs, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ
    ) as process:
        for end in (theirs, answers):
            os.close(end)
        guard = Timer(WITHIN, process.kill)
        guard.start()
        try:
            yield Tab(ours, back)
        finally:
            guard.cancel()
            guard.join()
            process.kill()
            for end in (ours, back):
                with suppress(OSError):
                    os.close(end)
