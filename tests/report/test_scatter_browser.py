"""The pages of banks in headless Chromium: hover, click, no errors, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from report.test_browser import CHROMIUM, Browser
from sightline.bank.agreement import neighbours_within
from sightline.bank.bank import Bank
from sightline.bank.projection import pca
from sightline.bank.writing import bank_of
from sightline.report.scatter_page import Scatter, write_scatter

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at the page with")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    rows = np.random.default_rng(4).normal(size=(12, 6)).astype(np.float32)
    bank: Bank = bank_of(tmp_path / "bank", rows, ids=tuple(f"<{n}>.png" for n in range(12)))
    near = neighbours_within(bank, bank.space(), k=3, metric="l2")
    colours = {"label": tuple("ab"[n % 2] for n in range(12))}
    scatter = Scatter(pca([rows]), {"images": 12, "trustworthiness": 0.5}, colours, near.rows)
    return write_scatter(tmp_path / "page.html", bank, scatter)


AT = """(() => {
  const [x, y] = toScreen(5), box = canvas.getBoundingClientRect();
  return [x + box.left, y + box.top];
})()"""


def test_hover_tells_and_click_shows_neighbours(browser: Browser, page: Path) -> None:
    browser.open(page)
    x, y = browser.evaluate(AT)  # type: ignore[misc]
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert "<5>.png" in str(browser.evaluate("document.getElementById('tip').innerText"))
    assert browser.evaluate("document.querySelectorAll('#chosen figure').length") == 3
    assert browser.evaluate("document.querySelector('#chosen h3').innerText") == "<5>.png · label: b"
    before = browser.evaluate("view.zoom")
    browser.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-200)
    assert float(str(browser.evaluate("view.zoom"))) > float(str(before))
    for mode in ("pictures", "grid"):
        browser.evaluate(f"mode.value = '{mode}'; draw(); 0")
    noise = [one for one in browser.events if one["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    asked = [one for one in browser.events if one["method"] == "Network.requestWillBeSent"]
    assert noise == []
    addresses = [str(one["params"]["request"]["url"]) for one in asked]  # type: ignore[index]
    assert all(address.startswith(("file:", "data:")) for address in addresses)
