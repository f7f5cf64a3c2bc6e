"""Descents that run away."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.ascent.loop import Moment

FACTOR = 30.0  # times its first loss, at least ``scale``, that a row may lose before it is given up


class Divergence:
    """Ends the ascent of rows whose score is no number, or has fallen far below where it began.

    Pass it as ``Ascent.until`` beside ``keep="best"``: such a row then keeps its best picture.

    Args:
        scale: of the score: what counts as a loss worth the name.

    Attributes:
        rows: (B,) that diverged.
    """

    def __init__(self, scale: float):
        self._scale, self._limit = scale, torch.zeros(0)
        self.rows = torch.zeros(0, dtype=torch.bool)

    def __call__(self, moment: Moment) -> Tensor:
        if moment.step == 0:
            self._limit = -FACTOR * torch.nan_to_num(moment.scores).abs().clamp_min(self._scale)
            self.rows = torch.zeros_like(moment.scores, dtype=torch.bool)
        self.rows = self.rows | ~torch.isfinite(moment.scores) | (moment.scores < self._limit)
        return self.rows
