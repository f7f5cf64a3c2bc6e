"""One batch of images dreamt octave by octave."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.ascent.loop import Ascended, Ascent, Objective
from sightline.ascent.octaves import octave_sizes, resized
from sightline.ascent.optimisers import NormalisedGradient
from sightline.ascent.parametrisation import Bounds, Pixels
from sightline.ascent.tiles import Torus


@dataclass(frozen=True, kw_only=True)
class Dreamer:
    """Climbs an objective on pictures of any size.

    Attributes:
        objective: of pictures of the window's size.
        bounds: of pixels.
        window: height and width of what the objective is shown.
        steps: per octave.
        rate: model input that a step changes a pixel by on average.
        jitter: pixels that the window is moved at most.
        seed: of its places.
    """

    objective: Objective
    bounds: Bounds
    window: tuple[int, int]
    steps: int
    rate: float
    jitter: int
    seed: int

    def dream(self, ground: Tensor, octaves: int, ratio: float) -> tuple[Tensor, bool]:
        """The dream (B, C, H, W) of pictures of the same shape, and whether an interrupt ended it."""
        picture, below = ground, ground
        for octave, size in enumerate(octave_sizes(ground.shape[-2], ground.shape[-1], octaves, ratio)):
            here = resized(ground, size)  # (B, C, h, w)
            detail = resized(picture - below, size)
            end = self._climb(here + detail, self.seed + octave)
            picture, below = torch.from_numpy(end.images).to(ground), here
            if end.stopped.any():
                return ground + resized(picture - below, ground.shape[-2:]), True
        return picture, False

    def score(self, images: Tensor) -> Tensor:
        """(B,) of the objective, the mean over windows that lie still."""
        pieces = Torus(*self.window, offset=0, seed=self.seed).draw(images.shape[-2], images.shape[-1])
        with torch.no_grad():
            scores = [self.objective(piece(images)) for piece in pieces]
        return torch.stack(scores).mean(dim=0)

    def _climb(self, start: Tensor, seed: int) -> Ascended:
        ascent = Ascent(
            steps=self.steps,
            rate=self.rate,
            optimiser=NormalisedGradient(),
            tiling=Torus(*self.window, offset=self.jitter, seed=seed),
        )
        return ascent.climb(self.objective, Pixels(start, self.bounds), [seed] * len(start))
