"""A real browser, driven over its debugging protocol: a page, its keys, and what its console complains about."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--remote-debugging-port=0",
)  # fmt: skip


@dataclass
class Page:
    line: ClientConnection
    complaints: list[str] = field(default_factory=list)
    _number: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self.line.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.line.recv(timeout=20))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])
            if message["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(message["params"]))

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait_for(f"location.href == {json.dumps(address)} && document.readyState == 'complete'")

    def ask(self, script: str) -> Any:
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    def wait_for(self, script: str, seconds: float = 15) -> None:
        until = time.monotonic() + seconds
        while not self.ask(script):
            assert time.monotonic() < until, (script, self.ask("document.body.innerText"), self.complaints)
            time.sleep(0.05)

    def press(self, key: str) -> None:
        text = {"Enter": "\r", " ": " "}.get(key, "")
        more = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def type(self, text: str) -> None:
        """Into what has the focus, in place of what is selected."""
        self.call("Input.insertText", text=text)


@contextmanager
def browser(program: str, place: Path) -> Iterator[Page]:
    """A page of a new browser that remembers nothing. `place`: an empty directory of its own."""
    argv = [program, *FLAGS, f"--user-data-dir={place}", "about:blank"]
    log = place / "stderr"
    with log.open("w") as said:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=said)
    try:
        with connect(_address_of_its_page(log), max_size=None, proxy=None) as line:
            page = Page(line)
            for part in ("Page", "Runtime", "Log"):
                page.call(f"{part}.enable")
            yield page
    finally:
        process.terminate()
        process.wait(15)


def _address_of_its_page(log: Path) -> str:
    until = time.monotonic() + 20
    while not (found := re.search(r"DevTools listening on ws://([^/]+)/", log.read_text())):
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)
    while time.monotonic() < until:
        for each in requests.get(f"http://{found[1]}/json", timeout=5).json():
            if each["type"] == "page":
                return str(each["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("the browser has no page")
