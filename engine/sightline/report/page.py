"""The report: one HTML file that stands alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from sightline.image import encode_png, encode_webp
from sightline.report.grid import columns_for
from sightline.report.overlays import class_name
from sightline.report.panel import Panel, method_name, panels, view_panel
from sightline.report.template import page_chunks, save_chunks
from sightline.types import ByteArray, Photo, Result

LARGEST_SIDE = 1024  # pixels of a photograph on the page
ASIDE_SHOWN = 50  # images without a result that the page names
THUMBNAIL = 112  # pixels; shown at half of it, for screens of double density


@dataclass(frozen=True)
class Figure:
    """A panel made ready for the page."""

    panel: Panel
    target: str  # the class that is explained, by name
    source: str  # the picture as a data URI
    cells: tuple[tuple[str, str], ...]  # those of the panel's cells, and their labels
    columns: int  # of the cells, where the page is wide enough
    bar: str  # the colour bar likewise
    anchor: str  # where the page tells how it was made; "" for the input


@dataclass(frozen=True)
class Report:
    """Photographs beside all that was found about them; `sightline.report` makes it.

    Attributes:
        photos: what the page may show, in this order.
        results: any with a renderer; their rows are matched to the photos by id.
        facts: what to say of the model.
        labels: names of the classes.
        limit: photos shown at most; the page says how many there were.
        made: the time printed at the foot.
        set_aside: ids of images without a result, with the reason; the page counts all and names `ASIDE_SHOWN`.
    """

    photos: tuple[Photo, ...]
    results: tuple[Result, ...]
    title: str
    facts: Mapping[str, object]
    labels: tuple[str, ...]
    limit: int
    made: datetime
    set_aside: tuple[tuple[str, str], ...] = ()

    def html(self) -> str:
        """The whole page."""
        return "".join(self._chunks())

    def save(self, path: str | Path) -> Path:
        """Write the page, one photo at a time in memory; an older page is replaced once the new one is whole."""
        return save_chunks(path, self._chunks())

    @cached_property
    def shown(self) -> tuple[Photo, ...]:
        """The photos on the page."""
        return self.photos[: self.limit]

    @cached_property
    def illustrated(self) -> tuple[Result, ...]:
        """The results, with the page's views where their own photos carry none."""
        views = {photo.id: photo for photo in self.shown}
        filled: list[Result] = []
        for result in self.results:
            photos = tuple(photo if photo.view is not None else views.get(photo.id, photo) for photo in result.photos)
            filled.append(cast(Result, replace(cast(Any, result), photos=photos)) if photos else result)
        return tuple(filled)

    def _chunks(self) -> Iterator[str]:
        return page_chunks(
            "report.html",
            report=self,
            aside=self.set_aside[:ASIDE_SHOWN],
            thumbnails=self._thumbnails(),
            articles=self._articles(),
            wholes=[figures for figures in self._wholes() if figures],
            recipes=[
                (f"result-{n}", method_name(result, type(result).__name__), result) for n, result in self._numbered()
            ],
        )

    def _numbered(self) -> Iterator[tuple[int, Result]]:
        yield from enumerate(self.illustrated, start=1)

    def _thumbnails(self) -> Iterator[tuple[Photo, str]]:
        for photo in self.shown:
            yield photo, "" if photo.view is None else _picture(photo.view, THUMBNAIL)

    def _articles(self) -> Iterator[tuple[Photo, list[Figure]]]:
        """Each photo with its input and the figures of every result that has a row for it."""
        wanted = {photo.id for photo in self.shown}
        rows = [
            {photo.id: row for row, photo in enumerate(result.photos) if photo.id in wanted}
            for result in self.illustrated
        ]
        for photo in self.shown:
            figures = [self._figure(view_panel(photo), "")]
            for (n, result), places in zip(self._numbered(), rows, strict=True):
                if photo.id in places:
                    figures += [self._figure(panel, f"result-{n}") for panel in panels(result, places[photo.id])]
            yield photo, figures

    def _wholes(self) -> Iterator[list[Figure]]:
        """The figures that belong to no single photo, result by result."""
        for n, result in self._numbered():
            yield [self._figure(panel, f"result-{n}") for panel in panels(result, None)]

    def _figure(self, panel: Panel, anchor: str) -> Figure:
        source = "" if panel.pixels is None else _picture(panel.pixels, LARGEST_SIDE)
        cells = tuple((_inline("webp", encode_webp(cell, lossless=True)), label) for cell, label in panel.cells)
        bar = _inline("png", encode_png(panel.scale.bar())) if panel.scale else ""
        return Figure(
            panel,
            class_name(panel.target, self.labels),
            source,
            cells,
            columns_for(len(cells)) if cells else 0,
            bar,
            anchor,
        )


def labels_of(results: Sequence[Result]) -> tuple[str, ...]:
    """The first labels that any result carries."""
    return next((labels for result in results if (labels := tuple(getattr(result, "labels", ())))), ())


def _picture(pixels: ByteArray, side: int) -> str:
    """A data URI of a photograph, its longer side at most so many pixels."""
    if max(pixels.shape[:2]) > side:
        image = Image.fromarray(pixels)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
    return _inline("webp", encode_webp(pixels))


def _inline(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
