"""Images that are nearly the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.bank.bank import Bank, image_blocks
from sightline.bank.search import CHUNK, MOST, Metric, nearest, rows_at
from sightline.bank.space import Space

FEW = 16  # neighbours of each image that are looked at first; more where all of them are near


@dataclass(frozen=True)
class Pair:
    """Two images of the bank and how far they are apart."""

    one: int
    other: int
    distance: float


def near_duplicates(
    bank: Bank, space: Space, threshold: float, *, metric: Metric, threads: int | None = None
) -> list[Pair]:
    """Every pair of images no farther apart than the threshold, nearest first, the lower row first in each.

    Of an image with more than 1,023 others that near, the nearest of them are told.
    """
    blocks = image_blocks(bank, space)
    found = dict[tuple[int, int], float]()
    asked, k = np.arange(len(bank)), min(FEW, len(bank))
    while len(asked):
        full = list[NDArray[np.bool_]]()
        for start in range(0, len(asked), CHUNK):
            queries = asked[start : start + CHUNK]
            near = nearest(rows_at(blocks, queries), blocks, k=k, metric=metric, threads=threads)
            close = near.scores <= threshold
            full.append(np.asarray(close.all(axis=1)))
            for query, column in zip(*np.nonzero(close), strict=True):
                one, other = sorted((int(queries[query]), int(near.rows[query, column])))
                found[one, other] = float(near.scores[query, column])
        more = min(MOST, len(bank), 8 * k)
        asked, k = asked[np.concatenate(full)] if more > k else asked[:0], more
    pairs = [Pair(*pair, distance) for pair, distance in found.items() if pair[0] != pair[1]]
    return sorted(pairs, key=lambda pair: (pair.distance, pair.one, pair.other))


def clusters(pairs: list[Pair]) -> list[list[int]]:
    """Images that hang together by pairs, largest cluster first."""
    group = dict[int, list[int]]()
    for pair in pairs:
        one, other = group.setdefault(pair.one, [pair.one]), group.setdefault(pair.other, [pair.other])
        if one is not other:
            one += other
            for row in other:
                group[row] = one
    unique = {id(rows): sorted(rows) for rows in group.values()}
    return sorted(unique.values(), key=lambda rows: (-len(rows), rows))
