"""The smallest step that makes the network see something else."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sightline.abilities import Differentiable
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.methods.gradient._ball import rounded, steepest, within
from sightline.methods.gradient._slopes import Slopes
from sightline.methods.gradient._walk import HALVINGS, Walk, attack
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class Fool:
    """Images that the network takes for the target's class, by gradient ascent until it is fooled.

    Szegedy et al., "Intriguing properties of neural networks" (2014), by plain ascent: of the target's lead over the
    class that is highest, in steps of equal Euclidean length, until the picture rounded to 8 bits fools; then the
    change is shrunk by halving to the smallest that still does. ``top`` means any other class than the image's own,
    ``logit(281)`` that class, a formula that it becomes positive.

    Returns ``AdversarialExamples`` (B, H, W, 3) uint8, judged by ONNX Runtime after a round trip through PNG.

    Raises:
        UsageError: steps or rate out of range, or a network of one class.
    """

    steps: int = 200  # at most
    rate: float = 0.1  # pixel values that a step changes a pixel by, root mean square

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> AdversarialExamples:
        if self.steps < 1 or not 0 < self.rate < math.inf:
            raise UsageError(f"steps={self.steps} must be at least 1 and rate={self.rate} above 0.")

        def walk(state: Walk) -> None:
            state.go(self._stride, rounded, self.steps)
            state.shrink()

        return attack(oracle, images, target, walk, climbed="margin")

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image at most, a backward pass counted as two."""
        return 3 * self.steps + HALVINGS + 2

    def _stride(self, slopes: Slopes, origin: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
        margins, up = slopes.look(origin + changes)
        after = changes + steepest("l2", up, self.rate * math.sqrt(origin[0].numel()))
        return margins, within(origin + after) - origin
