"""A real Chromium without a window, driven over its DevTools protocol: load, evaluate, point, look."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
NO_CHROMIUM = "there is no chromium on this machine"
START_SECONDS = 60.0
READY_SECONDS = 60.0


class Browser:
    """One page of a running browser. Every request it makes and every error it logs is kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop = loop
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(self._call(method, params))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive(timeout=READY_SECONDS)).data)
            match message.get("method"):
                case "Network.requestWillBeSent":
                    self.requests.append(message["params"]["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.errors.append(str(message["params"]["exceptionDetails"]))
                case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                    self.errors.append(message["params"]["entry"]["text"])
                case _:
                    pass
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str, *, ready: str = "document.documentElement?.dataset.ready === 'yes'") -> None:
        self.call("Page.navigate", url=url)
        self.wait(ready)

    def wait(self, expression: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, (expression, self.errors)
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def point_at(self, selector: str, index: int = 0, *, click: bool = False) -> None:
        """Move the mouse to the middle of an element, and press it there if asked."""
        element = f"document.querySelectorAll({json.dumps(selector)})[{index}]"
        self.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
        middle = "(b => [b.x + b.width / 2, b.y + b.height / 2])"
        box = self.evaluate(f"{middle}({element}.getBoundingClientRect())")
        where = {"x": box[0], "y": box[1]}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **where)
        for event in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=event, button="left", clickCount=1, **where)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option as a user does: the element changes and says so."""
        self.evaluate(
            f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def picture(self, path: Path) -> Path:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
        return path


@contextmanager
def browser(*, width: int = 1200, height: int = 1000) -> Generator[Browser, None, None]:
    """Start a browser of its own, and end it."""
    assert CHROMIUM is not None, NO_CHROMIUM
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--hide-scrollbars", "--disable-background-networking",
             f"--window-size={width},{height}",
             f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            # What it leaves in folders for passing things goes with the profile.
            env={**os.environ, "HOME": profile, "TMPDIR": profile},
        )  # fmt: skip
        loop = asyncio.new_event_loop()
        try:
            port = _port(Path(profile) / "DevToolsActivePort", process)
            session, socket = loop.run_until_complete(_connect(port))
            page = Browser(loop, socket)
            for domain in ("Page", "Network", "Runtime", "Log"):
                page.call(f"{domain}.enable")
            # Beside another browser the page may be the one in the back, which gets no focus.
            page.call("Emulation.setFocusEmulationEnabled", enabled=True)
            yield page
            loop.run_until_complete(session.close())
        finally:
            loop.close()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(path: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_SECONDS
    while not (path.is_file() and path.read_text().count("\n")):
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        assert time.monotonic() < deadline, "chromium did not start"
        time.sleep(0.05)
    return int(path.read_text().split("\n")[0])


async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json") as answer:
        pages = [target for target in await answer.json() if target["type"] == "page"]
    return session, await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=2**27)
