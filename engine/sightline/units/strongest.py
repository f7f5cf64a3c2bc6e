"""The strongest positions of every channel, kept while a data set passes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.types import FloatArray, IntArray

SAMPLE = 2048  # images whose maxima are kept for histograms and likeness


@dataclass(frozen=True)
class Peaks:
    """The k strongest positions of every channel.

    Attributes:
        scores: (C, k) float32, strongest first; -inf where fewer were seen.
        images: (C, k) int64 in the order of the data set; of equals the first; -1 where fewer were seen.
        rows: (C, k) int64 position in the layer's map.
        columns: likewise.
    """

    scores: FloatArray
    images: IntArray
    rows: IntArray
    columns: IntArray


class Strongest:
    """Takes a layer's maps batch by batch; memory is bounded by channels x k and a sample of the maxima.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.

    Args:
        k: positions kept per channel.
        per_image: positions of one image that may be among them.
        seed: of the sample.
    """

    def __init__(self, k: int, per_image: int = 1, seed: int = 0):
        self._k, self._per_image = k, per_image
        self._random = np.random.default_rng(seed)
        self._peaks: Peaks | None = None
        self._width = 0
        self._sample: FloatArray | None = None
        self.seen = 0
        self.sums: NDArray[np.float64] | None = None

    def add(self, maps: FloatArray) -> None:
        """Take the maps (B, C, h, w), or (B, C) of a layer without positions, of the next images."""
        flat = maps.reshape(*maps.shape[:2], -1)  # (B, C, h w)
        self._width = maps.shape[3] if maps.ndim == 4 else 1
        if self._per_image == 1:
            places = flat.argmax(axis=2)[:, :, None]  # (B, C, 1), the first of equals
        else:
            places = np.argsort(-flat, axis=2, kind="stable")[:, :, : self._per_image]
        scores = np.take_along_axis(flat, places, axis=2)  # (B, C, n)
        self._merge(scores, places)
        self._keep_sample(scores[:, :, 0])
        total = flat.mean(axis=2, dtype=np.float64).sum(axis=0)
        self.sums = total if self.sums is None else self.sums + total
        self.seen += len(maps)

    @property
    def peaks(self) -> Peaks:
        """What was found so far."""
        assert self._peaks is not None, "nothing was added"
        return self._peaks

    @property
    def maxima(self) -> FloatArray:
        """(n, C) the maximum of every channel in each image of a sample of those seen, or of all."""
        assert self._sample is not None, "nothing was added"
        return self._sample[: min(self.seen, SAMPLE)]

    def _merge(self, scores: FloatArray, places: IntArray) -> None:
        count, channels, each = scores.shape
        images = np.broadcast_to(np.arange(self.seen, self.seen + count)[:, None, None], scores.shape)
        new: list[NDArray[Any]] = [
            part.transpose(1, 0, 2).reshape(channels, count * each) for part in (scores, images, places)
        ]
        old = self._peaks or _nothing(channels)
        kept: tuple[NDArray[Any], ...] = (old.scores, old.images, old.rows * self._width + old.columns)
        together: list[NDArray[Any]] = [np.concatenate(pair, axis=1) for pair in zip(kept, new, strict=True)]
        order = np.argsort(-together[0], axis=1, kind="stable")[:, : self._k]  # earlier images before later ones
        best, image, place = (np.take_along_axis(part, order, axis=1) for part in together)
        self._peaks = Peaks(best, image, place // self._width, place % self._width)

    def _keep_sample(self, maxima: FloatArray) -> None:
        """Every image has the same chance to be among those kept (Vitter, 1985)."""
        if self._sample is None:
            self._sample = np.empty((SAMPLE, maxima.shape[1]), np.float32)
        for number, row in enumerate(maxima, self.seen):
            place = number if number < SAMPLE else int(self._random.integers(number + 1))
            if place < SAMPLE:
                self._sample[place] = row


def _nothing(channels: int) -> Peaks:
    none = np.empty((channels, 0), np.int64)
    return Peaks(np.empty((channels, 0), np.float32), none, none, none)


def dead_units(found: Strongest) -> IntArray:
    """Channels that no image ever moves: their maximum is the same everywhere."""
    maxima = found.maxima
    constant = np.ptp(maxima, axis=0) == 0 if len(maxima) > 1 else np.zeros(maxima.shape[1], np.bool_)
    silent = found.peaks.scores[:, 0] <= 0
    return np.flatnonzero(constant | silent)


def duplicate_units(found: Strongest, likeness: float = 0.98) -> list[tuple[int, int, float]]:
    """Pairs of channels whose maxima over images are correlated by at least so much, most alike first."""
    centred = found.maxima - found.maxima.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=0)
    live = np.flatnonzero(lengths > 0)
    if len(found.maxima) < 3 or len(live) < 2:
        return []
    scaled = centred[:, live] / lengths[live]
    alike = np.triu(scaled.T @ scaled, 1)
    pairs = [(int(live[a]), int(live[b]), float(alike[a, b])) for a, b in np.argwhere(alike >= likeness)]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))
