"""The pages of neighbours and of units in headless Chromium: whole, without errors, without network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from report.test_browser import CHROMIUM, Browser
from sightline.cli import call
from sightline.demo.dataset import batch

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at the page with")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    for number, pixels in enumerate(batch(5, range(8)).images):
        path = folder / f"class{number % 2}" / f"{number} <&>.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def looked_at(browser: Browser, page: Path) -> dict[str, object]:
    """How many pictures there are and are broken, and whether anything sticks out; nothing was logged or fetched."""
    browser.open(page)
    found = browser.evaluate("""(() => ({
      pictures: document.images.length,
      broken: [...document.images].filter(one => !one.complete || !one.naturalWidth).length,
      wider: document.documentElement.scrollWidth > document.documentElement.clientWidth,
      text: document.body.innerText,
      links: [...document.links].map(one => one.href),
    }))()""")
    assert isinstance(found, dict)
    assert [one for one in browser.events if one["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")] == []
    asked = [one for one in browser.events if one["method"] == "Network.requestWillBeSent"]
    addresses = [str(one["params"]["request"]["url"]) for one in asked]  # type: ignore[index]
    assert all(address.startswith(("file:", "data:")) for address in addresses)
    assert found["broken"] == 0
    assert found["wider"] is False
    return found


def test_neighbours_stand_beside_their_query_in_every_space(browser: Browser, scenes: Path, tmp_path: Path) -> None:
    bank, page = tmp_path / "bank", tmp_path / "near.html"
    flags = ["--layer", "pool", "--space", "both", "--pixels", "8", "--threads", "2"]
    assert call(["index", "demo", str(scenes), "-o", str(bank), *flags]) == 0
    query = next((scenes / "class0").iterdir())
    asked = ["-k", "3", "--html", str(page), "--labels-by", "folder"]
    assert call(["search", str(bank), str(query), *asked]) == 0
    found = looked_at(browser, page)
    assert found["pictures"] == 1 + 2 * 3
    assert "0 <&>.png" in str(found["text"])
    assert "Do neighbours share labels?" in str(found["text"])


def test_units_show_their_patches_and_the_picture_made_for_them(
    browser: Browser, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "units"
    flags = ["--layer", "stem.relu,stage2.relu", "-k", "3", "--shown", "4", "--visualise", "1", "--threads", "2"]
    assert call(["units", "demo", str(scenes), "-o", str(out), *flags]) == 0
    pages = sorted(path for path in out.glob("*.html") if path.name != "index.html")
    assert len(pages) == 2
    for page in pages:
        found = looked_at(browser, page)
        assert found["pictures"] == 4 * 3 + 1
        assert browser.evaluate("document.querySelectorAll('.made img').length") == 1
        sides = browser.evaluate("[...document.querySelectorAll('.made img')].map(one => one.naturalWidth)")
        assert isinstance(sides, list)
        assert min(sides) >= 32
    first = looked_at(browser, out / "index.html")
    assert {Path(link).name for link in first["links"]} >= {page.name for page in pages}  # type: ignore[attr-defined]
    browser.evaluate("document.links[0].click() === undefined")
