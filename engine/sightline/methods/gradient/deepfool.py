"""The nearest picture on the other side of a decision boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.abilities import Differentiable
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.methods.gradient._ball import lengths, rounded, within
from sightline.methods.gradient._slopes import Slopes
from sightline.methods.gradient._walk import HALVINGS, Walk, attack
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch

LEAST = 0.5  # pixel value


@method(needs=Differentiable)
@dataclass(frozen=True, kw_only=True)
class Deepfool:
    """Images just beyond the nearest decision boundary, by steps to where it would be if scores were linear.

    Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: a simple and accurate method to fool deep neural networks" (2016),
    Euclidean. ``top`` crosses to the nearest of several other classes, ``logit(281)`` to that class, a formula to
    where it is positive. Where we differ: each step is taken from the picture rounded to 8 bits, so that it ends
    where that fools, and the whole change is shrunk afterwards to the smallest that still does.

    Returns ``AdversarialExamples`` (B, H, W, 3) uint8, judged by ONNX Runtime after a round trip through PNG.

    Raises:
        UsageError: parameters out of range, or a network of one class.
    """

    steps: int = 50  # at most
    candidates: int = 10  # of the classes that an image scores highest, whose boundaries are compared
    overshoot: float = 0.02  # share by which each step goes further than the boundary

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> AdversarialExamples:
        if self.steps < 1 or self.candidates < 2 or not 0 <= self.overshoot < 100:
            raise UsageError(
                f"steps={self.steps} must be at least 1, candidates={self.candidates} at least 2, and "
                f"overshoot={self.overshoot} at least 0 and below 100."
            )

        def walk(state: Walk) -> None:
            state.go(self._stride, rounded, self.steps)
            state.shrink()

        return attack(oracle, images, target, walk, climbed="margin")

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image at most, a backward pass counted as two."""
        return self.steps * (1 + 2 * (self.candidates - 1)) + HALVINGS + 2

    def _stride(self, slopes: Slopes, origin: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
        planes = rounded(origin, changes)
        if slopes.goal.aim == "leave":
            margins, step = self._nearest(slopes, planes)
        else:
            margins, up = slopes.look(planes)
            step = _to_boundary(margins - 2 * slopes.slack, up)
        after = within(origin + changes + (1 + self.overshoot) * step) - origin
        return margins, after

    def _nearest(self, slopes: Slopes, planes: Tensor) -> tuple[Tensor, Tensor]:
        """(b,) margins, and the step (b, C, H, W) to the nearest of the candidates' boundaries."""
        leaf = planes.requires_grad_()
        outputs = slopes.outputs(leaf)
        logits, own = outputs.logits, slopes.classes
        others = logits.detach().scatter(1, own, -torch.inf)
        count = min(self.candidates, logits.shape[1]) - 1
        rivals = others.topk(count, dim=1).indices  # (b, candidates - 1)
        leads = logits.gather(1, rivals) - logits.gather(1, own)
        best, nearest = torch.zeros_like(planes), leads.new_full((len(planes), 1, 1, 1), torch.inf)
        for place in range(count):
            (up,) = torch.autograd.grad(leads[:, place].sum(), leaf, retain_graph=place < count - 1)
            margins = leads[:, place].detach() - 2 * slopes.slack
            far = margins[:, None, None, None].abs() / lengths(up)  # infinite where the slope is 0
            step = _to_boundary(margins, up)
            best, nearest = torch.where(far < nearest, step, best), torch.minimum(far, nearest)
        return leads[:, 0].detach(), best


def _to_boundary(margins: Tensor, slopes: Tensor) -> Tensor:
    """The shortest change (b, C, H, W) that brings margins (b,) to 0 if scores are linear; 0 where they are flat.

    It changes some pixel by half a value at least: less would round away.
    """
    size = -margins[:, None, None, None] / lengths(slopes).square()
    least = LEAST / slopes.abs().amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(least.isfinite(), slopes * torch.maximum(size, least), 0)
