"""Exact nearest neighbours of descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.threads import check_threads
from sightline.types import FloatArray, IntArray

CHUNK = 1000  # queries at once, of many
Metric = Literal["l2", "cosine", "inner_product"]
MOST = 1024  # neighbours of one query


@dataclass(frozen=True)
class Neighbours:
    """The k nearest rows of each of Q queries, nearest first.

    Attributes:
        rows: (Q, k) int64, in the order of the bank; the lower one first where two are as near.
        scores: (Q, k) float32: Euclidean distance, cosine distance (0 to 2), or inner product (larger is nearer).
    """

    rows: IntArray
    scores: FloatArray


def rows_at(blocks: Sequence[NDArray[Any]], rows: IntArray) -> NDArray[Any]:
    """(n, D) some rows of blocks that are numbered through."""
    starts = np.cumsum([0, *map(len, blocks)])
    places = np.searchsorted(starts, rows, side="right") - 1
    found = [blocks[place][rows[places == place] - starts[place]] for place in np.unique(places)]
    order = np.argsort(np.argsort(places, kind="stable"), kind="stable")
    return np.concatenate(found)[order]


def nearest(
    queries: NDArray[Any],
    blocks: Sequence[NDArray[Any]],
    *,
    k: int,
    metric: Metric = "l2",
    mask: NDArray[np.bool_] | None = None,
    threads: int | None = None,
) -> Neighbours:
    """The k nearest rows of blocks (n, D), numbered through, for queries (Q, D); only rows that the mask keeps."""
    check_threads(threads)
    from sightline_kernels.knn.cpu import search  # Numba takes its time to import

    values, rows = search(blocks, queries, k, metric=metric, mask=mask, threads=threads)
    return Neighbours(rows, (1 - values if metric == "cosine" else values).astype(np.float32))


def nearest_others(
    blocks: Sequence[NDArray[Any]], *, k: int, metric: Metric = "l2", threads: int | None = None
) -> Neighbours:
    """(N, k) the nearest other rows of every row of the blocks; all others where there are fewer than k."""
    wanted = min(k, sum(map(len, blocks)) - 1)
    parts, start = list[Neighbours](), 0
    for block in blocks:
        for first in range(0, len(block), CHUNK):
            found = nearest(block[first : first + CHUNK], blocks, k=wanted + 1, metric=metric, threads=threads)
            parts.append(_without_itself(found, start + first, wanted))
        start += len(block)
    return Neighbours(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))


def _without_itself(found: Neighbours, start: int, wanted: int) -> Neighbours:
    """Each query's row taken out; the farthest where copies of it come before."""
    own = np.arange(start, start + len(found.rows))[:, None]
    kept: IntArray = np.argsort(found.rows == own, axis=1, kind="stable")[:, :wanted]
    return Neighbours(np.take_along_axis(found.rows, kept, 1), np.take_along_axis(found.scores, kept, 1))
