from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
import sightline.report
from report.examples import everything, some_filters, some_heatmaps, some_photos, some_predictions
from sightline.errors import UsageError
from sightline.report import Report, report
from sightline.types import Batch, Photo, Provenance

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = '<script>alert("x")</script>\'"&'


class Page(HTMLParser):
    """What is on a page, and that every tag that opens closes in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.headings: list[int] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def test_the_page_counts_what_was_set_aside_and_names_the_first_of_it() -> None:
    photos, results = everything(2)
    aside = [(f"{n}{HOSTILE}.png", f"reason {n}") for n in range(60)]
    page = Page(report(photos, results, set_aside=aside).html())
    assert "2 images, 60 more set aside," in " ".join(page.text.split())
    assert "60 images have no result:" in page.text
    assert f"49{HOSTILE}.png reason 49" in " ".join(page.text.split())
    assert "reason 50" not in page.text
    assert "and 10 more" in page.text
    assert "aside" not in Page(report(photos, results).html()).text


def test_the_page_is_well_formed_and_stands_alone() -> None:
    photos, results = everything(5)
    html = report(photos, results, title="A page", model={"Input": "3 × 40 × 56"}).html()
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        for name in ("src", "href", "srcset", "action", "style"):
            value = attributes.get(name) or ""
            assert "url(" not in value
            if name in ("src", "href", "srcset", "action"):
                assert re.match(r"data:image/(webp|png);base64,|#|$", value), value
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_pictures_are_inlined_whole_with_words_for_those_who_do_not_see_them() -> None:
    photos, results = everything(2)
    page = Page(report(photos, results).html())
    assert len(page.images()) > 10
    for attributes in page.images():
        assert attributes["alt"] is not None
        kind, data = re.fullmatch(r"data:image/(\w+);base64,(.*)", attributes["src"]).groups()
        with Image.open(BytesIO(base64.b64decode(data))) as image:
            assert image.format.lower() == kind
            image.load()
    pictures = [attributes for attributes in page.images() if attributes.get("class") == "picture"]
    assert all(attributes["alt"] for attributes in pictures)


def test_headings_descend_one_level_at_a_time_from_a_single_first() -> None:
    photos, results = everything(2)
    headings = Page(report(photos, results).html()).headings
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(headings))


def test_links_lead_to_places_on_the_page() -> None:
    photos, results = everything(6)
    page = Page(report(photos, results).html())
    targets = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(targets) == len(set(targets))
    links = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert set(links) <= set(targets)
    assert {f"photo-{n}" for n in range(1, 7)} <= set(links)


def test_everything_that_others_wrote_is_escaped() -> None:
    view = np.zeros((20, 20, 3), np.uint8)
    photos = tuple(Photo(f"{n}{HOSTILE}", Path(f"/{n}{HOSTILE}x"), view=view) for n in range(4))
    made = Provenance(f"Method({HOSTILE})", HOSTILE, HOSTILE, HOSTILE, 1.0)
    heatmaps = some_heatmaps(photos, provenance=made)
    predictions = some_predictions(photos, (HOSTILE,) * 9)
    html = report(
        photos, [heatmaps, some_filters()], predictions=predictions, title=HOSTILE, model={HOSTILE: HOSTILE}
    ).html()
    assert "<script" not in html
    page = Page(html)
    assert page.text.count(HOSTILE) >= 20


def test_predictions_targets_and_facts_are_said() -> None:
    photos = some_photos(2)
    labels = tuple(f"animal {n}" for n in range(9))
    predictions = some_predictions(photos, labels)
    made = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)
    page = Page(report(photos, [predictions, some_heatmaps(photos)], model={"Classes": 9}, made=made).html())
    for row in range(2):
        for index in np.argsort(-predictions.values[row])[:5]:
            assert f"animal {index}" in page.text
            assert f"{100 * predictions.values[row, index]:.1f} %" in page.text
        low, high = some_heatmaps(photos).values[row].min(), some_heatmaps(photos).values[row].max()
        assert f"Values: {low:.3g} to {high:.3g}".replace("-", "−") in page.text
    assert "animal 1" in page.text  # the target of the second photo, class 1
    for fact in (
        "Occlusion(window=8, stride=4, fill=0.0)",
        "top(1)",
        "net.onnx 0123456789ab",
        "route onnx",
        "1.50 s",
    ):
        assert fact in page.text
    assert "750.0 ms each" in page.text
    assert f"sightline {sightline.__version__} on 2031-05-06 07:08 UTC" in page.text


def test_bars_are_as_long_as_their_probabilities() -> None:
    photos = some_photos(1)
    predictions = some_predictions(photos)
    html = report(photos, [predictions]).html()
    widths = [float(width) for width in re.findall(r'style="width: ([\d.]+)%"', html)]
    assert widths == pytest.approx(100 * np.sort(predictions.values[0])[::-1][:5], abs=0.01)


def test_a_page_shows_no_more_photos_than_its_limit_and_says_so() -> None:
    photos = some_photos(7)
    page = Page(report(photos, [some_heatmaps(photos)], limit=4).html())
    assert "7 images, the first 4 of them shown" in page.text
    assert [tag for tag, _ in page.tags].count("article") == 4
    assert "photo 3.jpg" in page.text
    assert "photo 4.jpg" not in page.text


def test_rows_are_matched_to_photos_by_id() -> None:
    photos = some_photos(3)
    result = some_heatmaps(photos[::-1][:2])  # photos 2 and 1, in this order
    found = list(report(photos, [result])._articles())
    assert [len(figures) for _, figures in found] == [1, 2, 2]
    assert found[2][1][1].panel.scale.maximum == result.values[0].max()
    assert found[1][1][1].panel.scale.maximum == result.values[1].max()


def test_views_of_the_page_serve_results_that_kept_none() -> None:
    photos = some_photos(2)
    bare = some_heatmaps(tuple(Photo(photo.id) for photo in photos))
    ours = list(report(photos, [bare])._articles())
    theirs = list(report(photos, [some_heatmaps(photos)])._articles())
    assert [figure.source for figure in ours[0][1]] == [figure.source for figure in theirs[0][1]]


def test_results_of_other_photos_and_senseless_limits_are_refused() -> None:
    with pytest.raises(UsageError, match="none of which is among the 1 photos"):
        report((Photo("elsewhere"),), [some_heatmaps(some_photos(2))])
    with pytest.raises(UsageError, match="limit=0"):
        report(some_photos(1), [], limit=0)


def test_pages_without_photos_results_views_or_provenance() -> None:
    assert "0 images, 0 results" in Page(report((), []).html()).text
    assert "1 image, 1 result" in Page(report(some_photos(1), [some_filters()]).html()).text
    bare = some_heatmaps((Photo("0"),), provenance=None)
    assert "No record was kept" in Page(report((Photo("0"),), [bare]).html()).text


def test_a_batch_serves_as_photos() -> None:
    photos = some_photos(2)
    batch = Batch(np.zeros((2, 3, 40, 56), np.float32), photos)
    assert report(batch, []).photos == photos


def test_saving_replaces_the_page_and_leaves_nothing_else(tmp_path: Path) -> None:
    photos, results = everything(1)
    made = datetime(2031, 1, 1, tzinfo=UTC)
    page = report(photos, results, made=made)
    path = page.save(tmp_path / "deep" / "report.html")
    path.write_text("old")
    assert page.save(str(path)) == path
    assert path.read_text(encoding="utf-8") == page.html()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_names_that_are_no_text_do_not_stop_the_page(tmp_path: Path) -> None:
    photo = Photo("caf\udce9.jpg", view=np.zeros((9, 9, 3), np.uint8))
    path = report((photo,), []).save(tmp_path / "report.html")
    assert "caf?.jpg" in path.read_text(encoding="utf-8")


def test_the_package_itself_can_be_called() -> None:
    assert isinstance(sightline.report(some_photos(1), []), Report)
