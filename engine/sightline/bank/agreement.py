"""How well the neighbours in a space share labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sightline.bank.bank import Bank, image_blocks
from sightline.bank.search import Metric, Neighbours, nearest_others
from sightline.bank.space import Space
from sightline.errors import UsageError
from sightline.types import IntArray


@dataclass(frozen=True)
class LabelAgreement:
    """How often the neighbours of an image bear its label; the image itself is none of them.

    Attributes:
        space: where they were looked for.
        k: neighbours of each image.
        purity: share of all neighbours with the image's label.
        majority: share of images whose label is the most frequent among its neighbours; ties go to the nearest.
        chance: purity to be expected of neighbours drawn at random.
        images: that were asked, those that are alone with their label left out.
    """

    space: Space
    k: int
    purity: float
    majority: float
    chance: float
    images: int


def label_agreement(
    bank: Bank, space: Space, labels: tuple[str, ...], *, k: int, metric: Metric, threads: int | None = None
) -> LabelAgreement:
    """Ask every image of the bank for its neighbours in a space; of several positions of an image, their mean.

    Raises:
        UsageError: every image is alone with its label, or all of them share one.
    """
    names, codes, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    asked = np.flatnonzero(counts[codes] > 1)
    if not len(asked):
        raise UsageError(f"No two images share a label ({str(names[0])!r}, …): there is nothing to agree on.")
    if len(names) == 1:
        raise UsageError(
            f"All {len(labels)} images bear the label {str(names[0])!r}, so any neighbour shares it: at least two "
            "labels are needed."
        )
    found = neighbours_within(bank, space, k=k, metric=metric, threads=threads)
    near = codes[found.rows[asked]]  # (n, k)
    same = near == codes[asked, None]
    votes = np.array([_majority(row, len(names)) for row in near])
    others = len(labels) - 1
    return LabelAgreement(
        space=space,
        k=near.shape[1],
        purity=float(same.mean()),
        majority=float((votes == codes[asked]).mean()),
        chance=float(((counts[codes[asked]] - 1) / others).mean()),
        images=len(asked),
    )


def neighbours_within(bank: Bank, space: Space, *, k: int, metric: Metric, threads: int | None = None) -> Neighbours:
    """(N, k) the nearest other images of every image of the bank."""
    return nearest_others(image_blocks(bank, space), k=k, metric=metric, threads=threads)


def _majority(near: IntArray, classes: int) -> int:
    votes = np.bincount(near, minlength=classes)
    return int(next(code for code in near if votes[code] == votes.max()))
