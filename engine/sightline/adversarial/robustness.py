"""How many images withstand changes of which size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.adversarial.examples import AdversarialExamples
from sightline.target import Target
from sightline.types import Batch, ByteArray, FloatArray, Photo, Provenance

QUANTILE = 1.959964  # of the normal distribution, for 95 %
Attack = Callable[[float, Batch, Target], AdversarialExamples]  # with an epsilon


@dataclass(frozen=True)
class Robustness:
    """Which of B images withstand an attack of E sizes.

    Attributes:
        values: (B, E) uint8, 1 where an image withstands every change up to that size that was tried.
        photos: one per row.
        epsilons: E sizes in pixel values of 0 to 255, ascending; the first is 0, the image as it was.
        attack: what was tried.
    """

    values: ByteArray
    photos: tuple[Photo, ...]
    epsilons: tuple[float, ...]
    attack: str
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def shares(self) -> FloatArray:
        """(E,) of the images; 0 of none."""
        return (self.values.sum(axis=0) / max(len(self), 1)).astype(np.float32)

    @property
    def intervals(self) -> FloatArray:
        """(E, 2) Wilson's score interval of each share, 95 %."""
        rows = [wilson(int(count), len(self)) for count in self.values.sum(axis=0)]
        return np.array(rows, np.float32)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """The smallest size tried that fooled the network with each image; 0 where it did so untouched."""
        least = [None if row.all() else float(self.epsilons[int(np.argmin(row))]) for row in self.values]
        return {"fooled_at": least, "withstands": [[int(one) for one in row] for row in self.values]}

    def summary(self) -> Mapping[str, object]:
        """The number of images, and of each size the share that withstands it with both ends of its interval."""
        points = zip(self.epsilons, self.shares.tolist(), self.intervals.tolist(), strict=True)
        return {"images": len(self)} | {
            f"withstand {epsilon:g}": [round(number, 4) for number in (share, *ends)]
            for epsilon, share, ends in points
        }


def wilson(count: int, total: int) -> tuple[float, float]:
    """Where the true share lies with 95 % confidence when ``count`` of ``total`` were seen.

    Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

    >>> low, high = wilson(5, 10)
    >>> round(low, 4), round(high, 4)
    (0.2366, 0.7634)
    """
    if total == 0:
        return 0.0, 1.0
    square = QUANTILE**2
    middle = (count + square / 2) / (total + square)
    reach = QUANTILE * math.sqrt(count * (total - count) / total + square / 4) / (total + square)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def withstood(attack: Attack, name: str, images: Batch, target: Target, epsilons: Sequence[float]) -> Robustness:
    """Attack with growing sizes; an image that was fooled stays so, since larger balls hold the smaller ones.

    Args:
        attack: makes adversarial examples of a size.
        name: of it, for the record.
        images: model input.
        target: what counts as fooled; see ``Goal``.
        epsilons: ascending, above 0.
    """
    values = np.zeros((len(images), 1 + len(epsilons)), np.uint8)
    rows = np.arange(len(images))
    for place, epsilon in enumerate(epsilons, start=1):
        batch = Batch(images.tensor[rows], tuple(images.photos[row] for row in rows))
        found = attack(epsilon, batch, target.take([int(row) for row in rows]))
        if place == 1:
            values[:, 0] = ~found.already
        rows = rows[~found.fooled]
        values[rows, place] = 1
        if len(rows) == 0:
            break
    return Robustness(values, images.photos, (0.0, *epsilons), name)
