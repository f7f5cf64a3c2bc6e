"""Clusters of heatmaps: a class that is recognised by a mark has maps that all point to one place near the border.

Lapuschkin, Wäldchen, Binder, Montavon, Samek, Müller, "Unmasking Clever Hans predictors and assessing what machines
really learn" (2019): heatmaps of a class, made small, are clustered spectrally. What they judge by eye is judged here
by a rule, which the demo networks with and without a planted mark were used to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.colour import resize_map
from sightline.types import FloatArray, IntArray

GRID = 8  # cells along each side
FEWEST = 6  # maps that make a cluster
MOST = 4  # clusters of a class
SAME_PLACE = 0.75  # share of a cluster's maps whose strongest cell is one and the same, or beside it
ELSEWHERE = 0.34  # most of the other classes' maps that may point there, too
NEIGHBOUR = 5  # whose distance is the scale on which a map has others near
MASS = 0.25  # least share of the positive mass in that cell and those beside it


@dataclass(frozen=True)
class Cluster:
    """Maps of one class that are alike.

    Attributes:
        rows: which maps.
        mean: (8, 8) mean of their positive parts, each of sum 1.
        cell: row and column of the strongest cell of most of them.
        share: of the maps, whose strongest cell is that one or beside it.
        mass: mean share of the positive mass in that cell and those beside it.
        at_border: whether the cell touches the border.
    """

    rows: IntArray
    mean: FloatArray
    cell: tuple[int, int]
    share: float
    mass: float
    at_border: bool


def small(maps: FloatArray) -> FloatArray:
    """(B, 8, 8) positive parts of maps (B, H, W), each of sum 1; uniform where nothing is positive."""
    shrunk = np.stack([np.maximum(resize_map(np.maximum(one, 0), GRID, GRID), 0) for one in maps])
    totals = shrunk.sum(axis=(1, 2), keepdims=True)
    return np.where(totals > 0, shrunk / np.maximum(totals, 1e-30), 1 / GRID**2).astype(np.float32)


def clusters(maps: FloatArray) -> list[Cluster]:
    """Of the maps (B, H, W) of one class, the largest first; fewer than ``FEWEST`` maps have none."""
    if len(maps) < FEWEST:
        return []
    shrunk = small(maps)
    labels = _spectral(shrunk.reshape(len(maps), -1))
    groups = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    found = [_described(shrunk, rows) for rows in groups if len(rows) >= FEWEST]
    return sorted(found, key=lambda one: -len(one.rows))


def suspicious(found: Cluster, others: FloatArray) -> bool:
    """Whether a cluster points to one place at the border, to which maps of other classes (B, 8, 8) do not point."""
    if not found.at_border or found.share < SAME_PLACE or found.mass < MASS:
        return False
    return len(others) == 0 or float(_near(_strongest(others), found.cell).mean()) <= ELSEWHERE


def _described(shrunk: FloatArray, rows: IntArray) -> Cluster:
    cells = _strongest(shrunk[rows])
    distinct, counts = np.unique(cells, axis=0, return_counts=True)
    shares = [float(_near(cells, (int(y), int(x))).mean()) for y, x in distinct]
    best = int(np.lexsort((-counts, -np.array(shares)))[0])
    cell = int(distinct[best][0]), int(distinct[best][1])
    beside = np.zeros((GRID, GRID), np.bool_)
    beside[max(cell[0] - 1, 0) : cell[0] + 2, max(cell[1] - 1, 0) : cell[1] + 2] = True
    return Cluster(
        rows=rows,
        mean=shrunk[rows].mean(axis=0),
        cell=cell,
        share=shares[best],
        mass=float(shrunk[rows][:, beside].sum(axis=1).mean()),
        at_border=min(cell) == 0 or max(cell) == GRID - 1,
    )


def _strongest(shrunk: FloatArray) -> IntArray:
    """(B, 2) row and column of the largest cell."""
    return np.stack(np.unravel_index(shrunk.reshape(len(shrunk), -1).argmax(axis=1), (GRID, GRID)), axis=1)


def _near(cells: IntArray, cell: tuple[int, int]) -> NDArray[np.bool_]:
    return np.abs(cells - np.array(cell)).max(axis=1) <= 1


def _spectral(rows: FloatArray) -> IntArray:
    """Labels of as many clusters as the largest gap of the Laplacian's eigenvalues says."""
    from sklearn.cluster import KMeans

    squares = np.square(rows[:, None] - rows[None]).sum(axis=2)
    near = np.sqrt(
        np.sort(squares, axis=1)[:, min(NEIGHBOUR, len(rows) - 1)]
    )  # the width of each (Zelnik-Manor, 2004)
    if not near.all():
        near = np.maximum(near, max(float(near.max()), 1e-12) / 100)
    alike = np.exp(-squares / (near[:, None] * near))
    roots = 1 / np.sqrt(alike.sum(axis=1))
    values, vectors = np.linalg.eigh(np.eye(len(rows)) - roots[:, None] * alike * roots)
    most = min(MOST, len(rows) // FEWEST)
    if most < 2:
        return np.zeros(len(rows), np.int64)
    count = int(np.argmax(np.diff(values[: most + 1]))) + 1
    if count == 1:
        return np.zeros(len(rows), np.int64)
    points = vectors[:, :count] / np.maximum(np.linalg.norm(vectors[:, :count], axis=1, keepdims=True), 1e-30)
    return KMeans(count, n_init="auto", random_state=0).fit_predict(points).astype(np.int64)
