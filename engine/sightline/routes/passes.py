"""The passes of a window sweep: which image each is of, and which window is hidden in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sightline.abilities import SweepChunk
from sightline.routes.batch import halving
from sightline.types import FloatArray, IntArray


class Passes:
    """Passes over some images, one image after the other.

    Args:
        rows: of the windows, for each of the images.
        first: number of the first of the images among all of the sweep.

    Attributes:
        owners: (n,) number of the image of every pass, among these images.
        windows: (n,) number of its window.
    """

    def __init__(self, rows: Sequence[IntArray], first: int = 0):
        self.owners: IntArray = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        self.windows: IntArray = np.concatenate([*rows, np.zeros(0, np.int64)])
        self._first = first

    def __len__(self) -> int:
        return len(self.owners)

    def run(self, score: Callable[[IntArray, IntArray], FloatArray], batch: int) -> Iterator[SweepChunk]:
        """Scores of all, ``batch`` at a time, fewer from where so many do not fit the memory.

        Args:
            score: owners (m,) and windows (m,) to scores (m,).
            batch: passes at a time; passes of several images share a run.
        """

        def part(chunk: slice) -> FloatArray:
            return score(self.owners[chunk], self.windows[chunk])

        for chunk, scores in halving(part, len(self), max(batch, 1)):
            for owner in dict.fromkeys(self.owners[chunk].tolist()):
                mine = self.owners[chunk] == owner
                yield SweepChunk(self._first + owner, self.windows[chunk][mine], scores[mine])
