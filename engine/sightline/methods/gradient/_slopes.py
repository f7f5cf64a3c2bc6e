"""Which way to change pixels, asked of the twin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sightline.abilities import Tape
from sightline.adversarial.goal import Goal
from sightline.adversarial.pixels import PixelSpace
from sightline.target import Outputs, logit

Climbed = Literal["cross_entropy", "margin"]


@dataclass(frozen=True)
class Slopes:
    """The twin on b images of pixels (b, C, H, W), 0 to 255, with a goal each.

    Attributes:
        climbed: what slopes belong to: the ``margin`` of the goal, or the log probability of the class to reach and
            minus that of the class to leave. A formula is climbed as it is.
    """

    tape: Tape
    space: PixelSpace
    goal: Goal
    climbed: Climbed

    def take(self, rows: Tensor) -> Slopes:
        """Those of some images."""
        return replace(self, goal=self.goal.take(rows.cpu().numpy()))

    @property
    def slack(self) -> Tensor:
        """(b,) margin from which an image counts as fooling."""
        return self.tape.tensor(self.goal.slack)

    def look(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """(b,) margins, and (b, C, H, W) slopes per pixel value."""
        leaf = planes.detach().requires_grad_()
        outputs = self.outputs(leaf)
        margins = self.margins_of(outputs)
        (slopes,) = torch.autograd.grad(self._climbed(outputs, margins).sum(), leaf)
        return margins.detach(), slopes

    def margins(self, planes: Tensor) -> Tensor:
        """(b,) without a gradient."""
        with torch.no_grad():
            return self.margins_of(self.outputs(planes))

    def outputs(self, planes: Tensor) -> Outputs:
        """What the network computes, on the tape of the planes."""
        preprocess = self.space.preprocess
        mean, std = (
            torch.tensor(values, dtype=planes.dtype, device=planes.device)[:, None, None]
            for values in (preprocess.mean, preprocess.std)
        )  # (C, 1, 1)
        return self.tape((planes * preprocess.scale - mean) / std, self.goal.formula or logit(0))

    def margins_of(self, outputs: Outputs) -> Tensor:
        """(b,) on the tape; see ``Goal``."""
        if self.goal.formula is not None:
            return self.goal.formula.value(outputs)
        classes = self.classes
        own = outputs.logits.gather(1, classes)[:, 0]
        lead = own - outputs.logits.scatter(1, classes, -torch.inf).amax(dim=1)
        return lead if self.goal.aim == "reach" else -lead

    @property
    def classes(self) -> Tensor:
        """(b, 1) to reach or to leave."""
        return torch.from_numpy(self.goal.classes)[:, None].to(self.tape.device)

    def _climbed(self, outputs: Outputs, margins: Tensor) -> Tensor:
        """(b,)."""
        if self.climbed == "margin" or self.goal.formula is not None:
            return margins
        chances = outputs.logits.log_softmax(dim=1).gather(1, self.classes)[:, 0]
        return chances if self.goal.aim == "reach" else -chances
