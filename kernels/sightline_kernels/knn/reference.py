"""The definition, in NumPy: every row against every query, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any] | Sequence[NDArray[Any]]
Metric = Literal["l2", "cosine", "inner_product"]

LANES = 16  # partial sums of the defining order, folded in halves at the end
LARGEST = np.float32(2.0**50)  # magnitude of a value, so that squares of 100,000 and more add up within float32
MOST = 1024  # neighbours of one query


@dataclass(frozen=True)
class Search:
    """Arguments that passed every check but that of the rows' values, which are read once only, by the search."""

    blocks: Sequence[NDArray[Any]]  # (n, D) each, float16 or float32; asked for one at a time and let go again
    starts: Sequence[int]  # index of each block's first row
    count: int  # rows of all blocks
    queries: NDArray[np.float32]  # (Q, D)
    k: int
    metric: Metric
    mask: NDArray[np.bool_] | None  # (N,)

    @property
    def dimensions(self) -> int:
        """Values of a row."""
        return self.queries.shape[1]

    @classmethod
    def of(cls, rows: Rows, queries: NDArray[Any], k: int, metric: str, mask: NDArray[np.bool_] | None) -> Search:
        """Check what was given; see ``search`` for what is accepted."""
        blocks = (rows,) if isinstance(rows, np.ndarray) else rows
        queries = np.asarray(queries)
        if metric not in get_args(Metric):
            raise ValueError(f"Metric {metric!r} is none of {', '.join(get_args(Metric))}.")
        if queries.ndim != 2 or queries.dtype.kind != "f" or queries.shape[1] == 0:
            raise ValueError(f"Queries are (Q, D) floating point with D > 0; got {queries.dtype} {queries.shape}.")
        lengths: list[int] = []
        for block in blocks:
            if block.ndim != 2 or block.dtype.name not in ("float16", "float32"):
                raise ValueError(f"Rows are (N, D) float16 or float32; got {block.dtype} {block.shape}.")
            if block.shape[1] != queries.shape[1]:
                raise ValueError(
                    f"Rows have {block.shape[1]} dimensions and queries {queries.shape[1]}: both must come from the "
                    "same layer, pooled alike."
                )
            lengths.append(len(block))
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        allowed = count = sum(lengths)
        if mask is not None:
            mask = np.ascontiguousarray(mask)
            if mask.dtype != np.bool_ or mask.shape != (count,):
                raise ValueError(f"A mask is boolean, one per row ({count}); got {mask.dtype} {mask.shape}.")
            allowed = int(np.count_nonzero(mask))
        if allowed == 0:
            raise ValueError("The bank is empty, or its mask leaves no row: there is nothing to search.")
        if not 1 <= k <= min(MOST, allowed):
            raise ValueError(f"k = {k} neighbours were asked for; 1 to {min(MOST, allowed)} are possible here.")
        if not valid(queries):
            raise ValueError(f"A query holds a value that is not finite, or beyond {LARGEST:.3g}.")
        narrow = np.ascontiguousarray(queries, np.float32)
        return cls(blocks, starts, count, narrow, k, cast(Metric, metric), mask)


def search(
    rows: Rows,
    queries: NDArray[Any],
    k: int,
    *,
    metric: Metric = "l2",
    mask: NDArray[np.bool_] | None = None,
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest rows of every query, nearest first, of equals the lowest index first.

    Values are those of the stored numbers in float64, added up in one order (``LANES``): every form of the kernel
    returns the same bits, however rows are cut into blocks and however many threads work.

    Args:
        rows: (N, D) float16 or float32, or a sequence of such blocks with rows numbered through. The sequence is
            read more than once, one block at a time: where it maps a file only when asked, a bank may be larger than
            memory and than the address space.
        queries: (Q, D) floating point, taken as float32.
        k: 1 to 1,024, at most the rows that the mask leaves.
        metric: "l2" is the Euclidean distance, 0 upwards; "cosine" the cosine of the angle, -1 to 1, 0 where a vector
            is zero; "inner_product" has any sign. Nearest is the smallest distance, or the largest of the others.
        mask: (N,) which rows may be found; None means all.
        threads: that work; None means one per core. The definition uses one.

    Returns:
        (Q, k) float64 values and (Q, k) int64 indices of rows.

    Raises:
        ValueError: shapes, types, k or the metric do not fit; no rows; a query or a row that may be found holds a
            value that is not finite or lies beyond ``LARGEST``.
    """
    asked = Search.of(rows, queries, k, metric, mask)
    bank = np.concatenate([block.astype(np.float32) for block in asked.blocks])
    allowed = np.arange(len(bank)) if asked.mask is None else np.flatnonzero(asked.mask)
    for index in allowed:
        if not valid(bank[index]):
            raise bad_row(int(index))
    keys = np.empty((len(asked.queries), len(allowed)))
    for one, query in zip(keys, asked.queries, strict=True):
        one[:] = measure(bank[allowed], query, asked.metric)
    places = np.argsort(keys, axis=1, kind="stable")[:, :k]  # (Q, k)
    return values(np.take_along_axis(keys, places, axis=1), asked.metric), allowed[places]


def measure(rows: NDArray[np.float32], query: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """(N,) what is sorted by, ascending: the squared distance, or the negative similarity."""
    wide, one = rows.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return total(np.square(one - wide))
    if metric == "inner_product":
        return -total(one * wide)
    lengths = np.sqrt(total(np.square(one)[None])) * np.sqrt(total(np.square(wide)))
    return -total(one * wide) / np.where(lengths == 0, np.inf, lengths)


def total(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) sums of (N, D): lane j adds terms j, j + 16, … in turn; then halves of the lanes are added."""
    padded = np.pad(terms, ((0, 0), (0, -terms.shape[1] % LANES)))
    lanes = np.zeros((len(terms), LANES))
    for start in range(0, padded.shape[1], LANES):
        lanes += padded[:, start : start + LANES]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def values(keys: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """What is returned for what is sorted by."""
    return np.sqrt(keys) if metric == "l2" else 0.0 - keys


def valid(numbers: NDArray[Any]) -> bool:
    """Whether all are finite and none too large."""
    return bool((np.abs(numbers) <= LARGEST).all())


def bad_row(index: int) -> ValueError:
    """The error of a row whose values cannot be compared."""
    return ValueError(
        f"Row {index} holds a value that is not finite, or beyond {LARGEST:.3g}: mask it out or extract it again."
    )
