"""The steepest change within a ball, in one step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sightline.abilities import Differentiable
from sightline.adversarial.examples import AdversarialExamples
from sightline.methods.gradient._ball import Ball, Norm, steepest, within
from sightline.methods.gradient._slopes import Slopes
from sightline.methods.gradient._walk import Walk, attack
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class Fgsm:
    """Images changed by epsilon along the gradient, all at once.

    Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples" (2015): one step along the sign
    (linf) or the direction (l2) of the cross-entropy's gradient. ``top`` means any other class than the image's own,
    ``logit(281)`` that class, a formula that it becomes positive.

    Returns ``AdversarialExamples`` (B, H, W, 3) uint8, judged by ONNX Runtime after a round trip through PNG.

    Raises:
        UsageError: epsilon out of range, or a network of one class.
    """

    epsilon: float = 2.0  # pixel values of 0 to 255 (2 is 2/255): change of each, or Euclidean length
    norm: Norm = "linf"  # of the change

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> AdversarialExamples:
        ball = Ball(self.norm, self.epsilon)

        def stride(slopes: Slopes, origin: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
            margins, up = slopes.look(origin + changes)
            return margins, within(origin + steepest(self.norm, up, self.epsilon)) - origin

        def walk(state: Walk) -> None:
            state.go(stride, ball.settled, 1)

        return attack(oracle, images, target, walk, climbed="cross_entropy", budget=self.epsilon)

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image, a backward pass counted as two."""
        return 6
