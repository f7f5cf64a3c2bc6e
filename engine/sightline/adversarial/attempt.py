"""An attack from its first look at the images to the verdict on what it made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import Forward
from sightline.adversarial.examples import AdversarialExamples
from sightline.adversarial.goal import Goal, goal_of
from sightline.adversarial.pixels import PixelSpace, after_png
from sightline.target import Target
from sightline.types import Batch, ByteArray, FloatArray, IntArray


@dataclass
class Attempt:
    """The images of one batch on the 8-bit grid, and what has been made of them so far. ``begin`` makes one.

    Attributes:
        oracle: the reference, whose verdict counts.
        space: how pixels become the network's input.
        originals: (B, H, W, 3) uint8.
        goal: of every image.
        logits, margins: (B, K) and (B,) of the originals.
        views: (B, H, W, 3) uint8, at first the originals.
        budgets: (B,) the size that each attack was allowed, 0 where none is set.
        queries: (B,) evaluations of the network that each attack took.
        stuck: (B,) 1 where the gradient was zero at every look.
    """

    oracle: Forward
    photos: Batch
    space: PixelSpace
    originals: ByteArray
    goal: Goal
    logits: FloatArray
    margins: FloatArray
    views: ByteArray
    budgets: FloatArray
    queries: IntArray
    stuck: ByteArray

    @property
    def open(self) -> IntArray:
        """Rows of the images that do not fool the network as they are."""
        return np.flatnonzero(self.margins <= 0)

    def planes(self, rows: IntArray) -> FloatArray:
        """(b, C, H, W) of some originals, 0 to 255."""
        return self.space.planes(self.originals[rows])

    def put(self, rows: IntArray, planes: FloatArray, queries: NDArray[np.integer], budget: float) -> None:
        """Keep what was found for some images: planes (b, C, H, W) of whole numbers."""
        self.views[rows] = self.space.views(planes)
        self.queries[rows] = queries
        self.budgets[rows] = budget

    def finish(self) -> AdversarialExamples:
        """The verdict: every picture is encoded as PNG, decoded, and run by the reference."""
        changed = self.open
        logits, margins = self.logits.copy(), self.margins.copy()
        if len(changed):
            tensor = self.space.preprocess.normalise(after_png(self.views[changed]))
            goal = self.goal.take(changed)
            logits[changed] = self.oracle.logits(tensor)
            aimed = goal.formula is None
            margins[changed] = goal.margins_of(logits[changed]) if aimed else goal.margins(self.oracle, tensor)
        before, after = self.logits.argmax(axis=1), logits.argmax(axis=1)
        rows = np.arange(len(before))
        return AdversarialExamples(
            values=self.views,
            photos=self.photos.photos,
            originals=self.originals,
            classes=tuple(None if self.goal.aim == "raise" else int(index) for index in self.goal.classes),
            aim=self.goal.aim,
            before=before,
            after=after,
            confidence_before=self.oracle.activated(self.logits)[rows, before],
            confidence_after=self.oracle.activated(logits)[rows, after],
            margins_before=self.margins,
            margins=margins,
            budgets=self.budgets,
            queries=self.queries,
            stuck=self.stuck,
            channels=len(self.space.preprocess.mean),
            labels=self.oracle.labels,
        )


def begin(reference: Forward, images: Batch, target: Target) -> Attempt:
    """Look at the untouched images, rounded to 8 bits, through the route whose verdict counts.

    Raises:
        MissingPreprocess: the model does not say what its pixels are.
        UsageError: see ``goal_of``.
    """
    space = PixelSpace(reference.preprocess)
    originals = space.preprocess.to_pixels(images.tensor)  # (B, H, W, 3)
    tensor = space.preprocess.normalise(originals)
    logits = reference.logits(tensor)
    goal = goal_of(reference, tensor, logits, target)
    margins = goal.margins_of(logits) if goal.formula is None else goal.margins(reference, tensor)
    count = len(images)
    return Attempt(
        reference, images, space, originals, goal, logits, margins, originals.copy(), np.zeros(count, np.float32),
        np.zeros(count, np.int64), np.zeros(count, np.uint8),
    )  # fmt: skip
