"""Exact nearest neighbours of descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.types import FloatArray, IntArray

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
    from sightline_kernels.knn.cpu import search  # Numba takes its time to import

    values, rows = search(blocks, queries, k, metric=metric, mask=mask, threads=threads)
    return Neighbours(rows, (1 - values if metric == "cosine" else values).astype(np.float32))
