"""The worst change within a ball, by projected ascent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sightline.abilities import Differentiable
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.methods.gradient._ball import Ball, Norm, steepest, within
from sightline.methods.gradient._slopes import Slopes
from sightline.methods.gradient._walk import Walk, attack
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class Pgd:
    """Images changed by at most epsilon so that the network is fooled, by projected gradient ascent.

    Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks" (2018):
    steps along the sign (linf) or direction (l2) of the cross-entropy's gradient, each projected back. Where we
    differ: an image stops at the first step whose picture of 8 bits fools, and a picture that is rounded stays within
    epsilon. ``top`` means any other class than the image's own, ``logit(281)`` that class, a formula that it becomes
    positive. The start of restart n is the same change for every image, batch and machine.

    Returns ``AdversarialExamples`` (B, H, W, 3) uint8, judged by ONNX Runtime after a round trip through PNG.

    Raises:
        UsageError: epsilon, steps, rate or restarts out of range, or a network of one class.
    """

    epsilon: float = 2.0  # pixel values of 0 to 255 (2 is 2/255): largest change of one, or Euclidean length
    norm: Norm = "linf"  # of the change
    steps: int = 10  # per restart, at most
    rate: float | None = None  # pixel values per step, by the norm; 2.5 epsilon / steps when not given
    random_start: bool = True  # somewhere in the ball, instead of at the image
    restarts: int = 1  # starts that are tried on images that still resist
    seed: int = 0  # of the starts

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> AdversarialExamples:
        ball = self._checked()
        rate = 2.5 * self.epsilon / self.steps if self.rate is None else self.rate

        def stride(slopes: Slopes, origin: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
            margins, up = slopes.look(origin + changes)
            after = ball.held(changes + steepest(self.norm, up, rate))
            return margins, within(origin + after) - origin

        def walk(state: Walk) -> None:
            for restart in range(self.restarts):
                start = None
                if self.random_start:
                    start = state.slopes.tape.tensor(ball.drawn(state.origin.shape[1:], (self.seed, restart)))
                state.go(stride, ball.settled, self.steps, start)

        return attack(oracle, images, target, walk, climbed="cross_entropy", budget=self.epsilon)

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image at most, a backward pass counted as two."""
        return (3 * self.steps + 1) * self.restarts + 2

    def _checked(self) -> Ball:
        ball = Ball(self.norm, self.epsilon)
        rate = 1.0 if self.rate is None else self.rate
        if min(self.steps, self.restarts) < 1 or not 0 < rate < math.inf or self.seed < 0:
            raise UsageError(
                f"steps={self.steps} and restarts={self.restarts} must be at least 1, rate={self.rate} above 0 and "
                f"seed={self.seed} at least 0."
            )
        if self.restarts > 1 and not self.random_start:
            raise UsageError(f"restarts={self.restarts} without random_start would all do the same.")
        return ball
