"""The page as headless Chromium sees it, asked through its DevTools pipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from report.examples import everything
from sightline.report import report
from sightline.report.template import page_chunks, save_chunks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at the page with")
NEWS = {"Network.requestWillBeSent", "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
Message = dict[str, object]


class Browser:
    """One tab; ``events`` keeps what it reported since the page was opened."""

    def __init__(self, profile: Path) -> None:
        orders, self._write = os.pipe()
        self._read, answers = os.pipe()
        # Chromium reads orders from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{orders} 4>&{answers}'
        flags = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        )
        self._process = subprocess.Popen(
            ["bash", "-c", shell, CHROMIUM or "", *flags], pass_fds=(orders, answers), stderr=subprocess.DEVNULL
        )
        os.close(orders)
        os.close(answers)
        self._rest, self._calls, self.events = b"", 0, list[Message]()
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> Message:
        self._calls += 1
        order = {"id": self._calls, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(order).encode() + b"\0")
        return self._until(lambda message: message.get("id") == order["id"])["result"]

    def open(self, path: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        loaded = {"method": "Page.loadEventFired"}
        if not any(event["method"] == loaded["method"] for event in self.events):
            self._until(lambda message: message.get("method") == loaded["method"])

    def evaluate(self, expression: str) -> object:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _until(self, wanted: Callable[[Message], bool]) -> Message:
        while True:
            while b"\0" not in self._rest:
                piece = os.read(self._read, 1 << 16)
                if not piece:
                    pytest.skip("Chromium is installed but ends at once")
                self._rest += piece
            line, _, self._rest = self._rest.partition(b"\0")
            message = json.loads(line)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photos, results = everything(5)
    return report(photos, results, title="A page " + "w" * 80, model={"sha256": "0123456789abcdef" * 4}).save(
        tmp_path_factory.mktemp("page") / "report.html"
    )


def test_the_page_loads_without_errors_and_without_the_network(browser: Browser, page: Path) -> None:
    browser.open(page)
    news = [event for event in browser.events if event["method"] in NEWS]
    requests = [e["params"]["request"]["url"] for e in news if e["method"] == "Network.requestWillBeSent"]
    assert {url for url in requests if not url.startswith("data:image/")} == {page.as_uri()}
    assert [event for event in news if event["method"] != "Network.requestWillBeSent"] == []
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, page: Path, width: int) -> None:
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=2, mobile=width < 700
    )
    browser.open(page)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    columns = browser.evaluate("getComputedStyle(document.querySelector('article .figures')).gridTemplateColumns")
    assert (len(str(columns).split()) == 1) == (width < 600)


CONTRASTS = """
(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => channels(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return (channels(colour)[3] ?? 1) === 0 ? ground(element.parentElement) : colour;
  };
  return [...document.querySelectorAll('h1, h2, h3, h4, p, span, dt, dd, code, pre, figcaption, a')]
    .filter(element => element.textContent.trim())
    .map(element => [luminance(getComputedStyle(element).color), luminance(ground(element))])
    .map(([ink, paper]) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05))
    .reduce((least, ratio) => Math.min(least, ratio), 99);
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_schemes(browser: Browser, page: Path, scheme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)
    assert browser.evaluate(CONTRASTS) >= 4.5  # what the Web Content Accessibility Guidelines ask of small text
    red = int(str(browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")))
    assert (red < 60) == (scheme == "dark")


def test_the_first_card_keeps_away_from_the_header(browser: Browser, tmp_path: Path) -> None:
    chapter = SimpleNamespace(name="one", title="One", question="What?", claim="This.")
    visited = SimpleNamespace(chapter=chapter, answer=None, reason="nothing to show", seconds=0.0)
    parts = [SimpleNamespace(number=n, visited=visited, verdict="not answered") for n in (1, 2)]
    page = save_chunks(tmp_path / "tour.html", page_chunks("tour.html", model="net", images=3, parts=parts))
    browser.open(page)
    edges = "document.querySelector('main > article').getBoundingClientRect().top"
    edges += " - document.querySelector('header').getBoundingClientRect().bottom"
    assert browser.evaluate(edges) == 36
    assert browser.evaluate("document.querySelectorAll('article').length") == 2
