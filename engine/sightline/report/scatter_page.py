"""An interactive page of a bank in the plane; it works offline, from one file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.report.template import save_page
from sightline.report.thumbnails import inline, thumbnail
from sightline.types import ByteArray, FloatArray, IntArray

if TYPE_CHECKING:
    from sightline.bank.bank import Bank
    from sightline.bank.projection import Projection

TILE = 56  # pixels of a thumbnail on the sheet
MOST = 5000  # images with a thumbnail; a page beyond that would not open
PER_SHEET = 1024  # thumbnails in one picture of the page
ASSIGNED = 1500  # images whose grid is the best one; more are placed one after the other


@dataclass(frozen=True)
class Scatter:
    """What the page shows.

    Attributes:
        projection: where the images lie.
        facts: what to say of it.
        colours: by name, a value for each image.
        near: (N, k) rows of the nearest others, in the space.
    """

    projection: Projection
    facts: Mapping[str, Any]
    colours: Mapping[str, Sequence[str]]
    near: IntArray


def write_scatter(path: Path, bank: Bank, scatter: Scatter) -> Path:
    """Write the page; thumbnails are read from where the bank read the images."""
    places = unit_square(scatter.projection.coordinates[:, :2])
    shown = min(len(bank), MOST)
    points = {
        "ids": bank.ids,
        "x": [round(float(x), 4) for x in places[:, 0]],
        "y": [round(float(y), 4) for y in places[:, 1]],
        "grid": grid_cells(places).tolist(),
        "side": math.ceil(math.sqrt(len(places))),
        "near": scatter.near.tolist(),
        "colours": {name: list(values) for name, values in scatter.colours.items()},
        "tile": TILE,
        "perSheet": PER_SHEET,
        "shown": shown,
    }
    facts = {name: _said(value) for name, value in scatter.facts.items() if value is not None}
    title = {"pca": "Principal components", "tsne": "t-SNE"}[scatter.projection.method]
    data = json.dumps(points, ensure_ascii=False).replace("<", "\\u003c")
    return save_page(path, "scatter.html", title=title, facts=facts, data=data, sheets=_sheets(bank, shown))


def unit_square(coordinates: FloatArray) -> FloatArray:
    """(N, 2) moved and scaled into 0 to 1, both axes alike; one axis is made two."""
    if coordinates.shape[1] == 1:
        coordinates = np.concatenate([coordinates, np.zeros_like(coordinates)], axis=1)
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    extent = float(max((high - low).max(), np.finfo(np.float32).tiny))
    return (coordinates - (low + high) / 2) / extent + np.float32(0.5)


def grid_cells(places: FloatArray) -> IntArray:
    """(N,) a cell of the smallest square grid for each point, all different, near to where the point lies."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial import KDTree

    side = math.ceil(math.sqrt(len(places)))
    rows, columns = np.divmod(np.arange(side * side), side)
    centres = (np.stack([columns, rows], axis=1) + 0.5) / side  # (cells, 2)
    ranked = np.empty_like(places)  # spread evenly first, so that cells near the crowd are not all taken
    for axis in range(2):
        ranked[np.argsort(places[:, axis], kind="stable"), axis] = (np.arange(len(places)) + 0.5) / len(places)
    if len(places) <= ASSIGNED:
        apart = ((ranked[:, None] - centres[None]) ** 2).sum(axis=2)
        return np.asarray(linear_sum_assignment(apart)[1], np.int64)
    near: Any = KDTree(centres).query(ranked, k=min(64, len(centres)))[1]  # (N, 64)
    free, cells = np.ones(side * side, np.bool_), np.empty(len(places), np.int64)
    for point, wanted in enumerate(near):
        open_cells = wanted[free[wanted]]
        cells[point] = open_cells[0] if len(open_cells) else np.flatnonzero(free)[0]
        free[cells[point]] = False
    return cells


def _sheets(bank: Bank, shown: int) -> list[str]:
    """Pictures of up to 1,024 thumbnails each, row by row, as data URIs."""
    across = math.isqrt(PER_SHEET)
    sheets = list[str]()
    for start in range(0, shown, PER_SHEET):
        count = min(PER_SHEET, shown - start)
        sheet = np.full((-(-count // across) * TILE, across * TILE, 3), 128, np.uint8)
        for place in range(count):
            pixels = thumbnail(bank.paths[start + place], TILE)
            if pixels is not None:
                top, left = place // across * TILE, place % across * TILE
                sheet[top : top + TILE, left : left + TILE] = _square(pixels)
        sheets.append(inline(sheet, quality=70))
    return sheets


def _square(pixels: ByteArray) -> ByteArray:
    """(TILE, TILE, 3): the picture in the middle of its edges' mean colour."""
    height, width = pixels.shape[:2]
    tile = np.full((TILE, TILE, 3), pixels.reshape(-1, 3).mean(axis=0), np.uint8)
    top, left = (TILE - height) // 2, (TILE - width) // 2
    tile[top : top + height, left : left + width] = pixels
    return tile


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_said(one) for one in value)  # pyright: ignore[reportUnknownVariableType]
    return f"{value:.3f}" if isinstance(value, float) else str(value)
