"""The worst change within a cube, by trial: no gradient needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.adversarial.attempt import Attempt, begin
from sightline.adversarial.examples import AdversarialExamples
from sightline.adversarial.pixels import HIGHEST
from sightline.errors import UsageError
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray, IntArray

HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # trials, of 10,000, after which squares halve their area


@method(needs=Forward)
@dataclass(frozen=True, kw_only=True)
class SquareAttack:
    """Images changed by at most epsilon so that the network is fooled, by random squares that are kept if they help.

    Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial attack via random
    search" (2020), for the largest change of a pixel. It only runs the network, so it works on whatever runs: int8
    graphs, engines. Where we differ: the goal's margin is what has to grow for every kind of target. ``top`` means
    any other class than the image's own, ``logit(281)`` that class, a formula that it becomes positive. Trial n draws
    the same square for every image, batch and machine.

    Returns ``AdversarialExamples`` (B, H, W, 3) uint8, judged after a round trip through PNG.

    Raises:
        UsageError: parameters out of range, or a network of one class.
    """

    epsilon: float = 8.0  # pixel values of 0 to 255 (8 is 8/255): largest change of one
    queries: int = 1000  # evaluations of the network per image, at most
    area: float = 0.05  # share of the image that the first squares take
    seed: int = 0  # of the squares

    def run(self, oracle: Forward, images: Batch, target: Target) -> AdversarialExamples:
        if not 1 <= self.epsilon <= HIGHEST:
            raise UsageError(
                f"epsilon={self.epsilon} does not fit: it is in pixel values, 8 for 8/255. Pictures of 8 bits change "
                "by 1 at least and 255 at most."
            )
        if self.queries < 1 or not 0 < self.area <= 1 or self.seed < 0:
            raise UsageError(
                f"queries={self.queries} must be at least 1, area={self.area} lie above 0 and at most at 1, and "
                f"seed={self.seed} be at least 0."
            )
        attempt = begin(oracle, images, target)
        rows = attempt.open
        batch = oracle.batch_size(len(rows))
        for first in range(0, len(rows), batch):
            some = rows[first : first + batch]
            planes, used = self._search(attempt, some)
            attempt.put(some, planes, used, self.epsilon)
        return attempt.finish()

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image at most: the queries, the untouched image and the verdict."""
        return self.queries + 2

    def side(self, trial: int, height: int, width: int) -> int:
        """Pixels of a trial's square, which fits into the image."""
        place = trial * 10_000 // self.queries
        area = self.area / 2 ** sum(place > after for after in HALVED) * height * width
        return min(max(round(math.sqrt(area)), 1), height, width)

    def _search(self, attempt: Attempt, rows: IntArray) -> tuple[FloatArray, IntArray]:
        """Best pictures (b, C, H, W) of some images, and the queries that each took."""
        origin, goal = attempt.planes(rows), attempt.goal.take(rows)
        whole = math.floor(self.epsilon)
        ends = np.stack([np.maximum(origin - whole, 0), np.minimum(origin + whole, HIGHEST)])  # (2, b, C, H, W)
        stripes = self._draws(0).integers(0, 2, (origin.shape[1], 1, origin.shape[3]))  # upright, one pixel wide
        best = np.where(stripes, ends[1], ends[0])

        def margins_of(left: IntArray, planes: FloatArray) -> FloatArray:
            return goal.take(left).margins(attempt.oracle, attempt.space.inputs(planes))

        margins = margins_of(np.arange(len(rows)), best)
        used = np.ones(len(rows), np.int64)
        for trial in range(1, self.queries):
            left = np.flatnonzero(margins <= goal.slack)
            if len(left) == 0:
                break
            tried = self._tried(trial, best[left], ends[:, left])
            found = margins_of(left, tried)
            used[left] += 1
            better = found > margins[left]
            best[left[better]], margins[left[better]] = tried[better], found[better]
        return best, used

    def _tried(self, trial: int, best: FloatArray, ends: FloatArray) -> FloatArray:
        """Copies (b, C, H, W) of the best pictures with a square at one end or the other, channel by channel.

        Where a picture has that square already, it gets the opposite one.
        """
        draws, (channels, height, width) = self._draws(trial), best.shape[1:]
        side = self.side(trial, height, width)
        top, left = int(draws.integers(0, height - side + 1)), int(draws.integers(0, width - side + 1))
        upper: NDArray[np.bool_] = draws.integers(0, 2, (channels, 1, 1)) == 1
        place = np.s_[..., top : top + side, left : left + side]
        low, high = ends[0][place], ends[1][place]
        square = np.where(upper, high, low)  # (b, C, side, side)
        same = (square == best[place]).all(axis=(1, 2, 3), keepdims=True)
        tried = best.copy()
        tried[place] = np.where(same, np.where(upper, low, high), square)
        return tried

    def _draws(self, trial: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, trial))
