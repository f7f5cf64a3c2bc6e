"""What an attack is after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sightline.abilities import Forward
from sightline.errors import UsageError
from sightline.target import ClassScore, Target, Top
from sightline.types import FloatArray, IntArray

Aim = Literal["reach", "leave", "raise"]
SLACK = 1e-3  # of the scores' range: what the twin and ONNX Runtime may differ by, ten times over


@dataclass(frozen=True)
class Goal:
    """When each image fools the network: its margin is positive.

    ``logit(281)``, ``probability(281)``, ``281`` or a label: that class is the highest. ``top``: the class that the
    image has now is no longer the highest; ``top(2)``: the class at that rank becomes it. Any other formula, such as
    ``logit(281) - logit(285)`` or ``unit(…)``: its score is positive.

    Attributes:
        aim: which of the three.
        classes: (B,) the class to reach or to leave; -1 where a formula is raised.
        formula: bound, where there is one.
        slack: (B,) margin from which an attack believes its own network; the verdict is the reference's.
    """

    aim: Aim
    classes: IntArray
    formula: Target | None
    slack: FloatArray

    def take(self, rows: IntArray) -> Goal:
        """The goal of some images."""
        formula = None if self.formula is None else self.formula.take([int(row) for row in rows])
        return replace(self, classes=self.classes[rows], formula=formula, slack=self.slack[rows])

    def margins(self, oracle: Forward, images: FloatArray) -> FloatArray:
        """(B,) of images in model input space, by running the network once."""
        if self.formula is not None:
            return oracle.scores(images, self.formula)
        return self.margins_of(oracle.logits(images))

    def margins_of(self, logits: FloatArray) -> FloatArray:
        """(B,) of logits (B, K), where the aim is a class: how far the right side leads."""
        rows = np.arange(len(logits))
        others = logits.copy()
        others[rows, self.classes] = -np.inf
        lead = logits[rows, self.classes] - others.max(axis=1, initial=-np.inf)
        return lead if self.aim == "reach" else -lead


def goal_of(oracle: Forward, images: FloatArray, logits: FloatArray, target: Target) -> Goal:
    """What a target asks of an attack.

    Args:
        oracle: runs the network on a formula's layers.
        images: (B, C, H, W) model input, untouched.
        logits: (B, K) of them.
        target: as the user gave it.

    Raises:
        UsageError: the network has a single class, which nothing can change.
    """
    if not isinstance(target, ClassScore | Top):
        bound = oracle.bind(images, target)
        slack = np.float32(SLACK) * np.abs(bound.scores)
        return Goal("raise", np.full(len(images), -1), bound.target, slack)
    if logits.shape[1] < 2:
        raise UsageError(
            "The network has one class, which is always the highest. Attack its score by a formula: -1 * logit(0)."
        )
    slack = SLACK * np.ptp(logits, axis=1)
    if isinstance(target, ClassScore):
        index = target.index if isinstance(target.index, int) else np.array(target.index, np.int64)
        return Goal("reach", np.full(len(images), index, np.int64), None, slack)
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, target.rank - 1]
    return Goal("leave" if target.rank == 1 else "reach", ranked, None, slack)
