"""What a layer still knows of an image: the picture that has the same features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sightline.abilities import Differentiable, Tape
from sightline.ascent.deployed import model_of
from sightline.ascent.depth import trunk
from sightline.ascent.inversions import Inversions, compared
from sightline.ascent.loop import Ascended, Ascent
from sightline.ascent.objectives import likeness
from sightline.ascent.parametrisation import Space, noise, picture
from sightline.ascent.regularisers import AlphaNorm, TotalVariation
from sightline.ascent.transforms import transforms
from sightline.errors import UsageError
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray

NOISE = 0.05  # standard deviation of the start, as a share of the pixel range


@method(needs=Differentiable, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Pictures with the features that an image has in a layer, one for every layer, found by gradient descent.

    Mahendran, Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015): squared distance of the
    features over their squared norm, an alpha-norm that holds values in range and total variation. Weights are means
    over pixels in model input space; Adam takes the place of momentum. Every image starts from the same noise.

    Returns ``Inversions`` (B, L, H, W, 3) float32, 0 to 255: for each layer, shallow to deep, the picture, with the
    features' relative error and the structural similarity to the image.

    Raises:
        UnknownName: no such layer.
        UsageError: parameters out of range.
    """

    layers: tuple[str, ...] = ()  # inverted one by one; evenly spread ones when none are given
    spread: int = 6  # how many those are
    together: bool = False  # match all layers at once, in one picture
    space: Space = "pixels"  # what is climbed over: pixels, or waves of every length (fourier)
    steps: int = 200  # of the descent
    rate: float = 0.05  # of Adam, falling to a tenth
    total_variation: float = 0.001  # weight of the differences between neighbours
    beta: float = 2.0  # their power: 2 is smooth, 1 allows sharp edges
    alpha_norm: float = 0.0001  # weight of the sixth power of values
    jitter: int = 0  # pixels that each step moves the picture, at most
    seed: int = 0  # of the noise that it starts from

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> Inversions:
        self._check()
        layers = self.layers or trunk(model_of(oracle), self.spread)
        groups = [layers] if self.together else [(layer,) for layer in layers]
        features = oracle.taps(images.tensor, layers)  # (B, C, h, w) or (B, D) each
        ends = list[Ascended]()
        with oracle.tape() as tape:
            for group in groups:
                ends.append(self._invert(oracle, tape, images, {layer: features[layer] for layer in group}))
        return compared(oracle, images, ends, groups, features)

    def _invert(
        self, oracle: Differentiable, tape: Tape, images: Batch, wanted: Mapping[str, FloatArray]
    ) -> Ascended:
        """Pictures (B, C, H, W) that match these features."""
        count = len(images)
        shape = images.tensor.shape[1:]
        start = noise([self.seed], (shape[0], shape[1], shape[2]), oracle.preprocess, NOISE)

        def climb(ascent: Ascent, rows: range) -> Ascended:
            features = {layer: tape.tensor(values[rows.start : rows.stop]) for layer, values in wanted.items()}
            pixels = tape.tensor(np.repeat(start, len(rows), axis=0))
            free = picture(self.space, pixels, oracle.preprocess, decorrelate=True)
            return ascent.climb(likeness(tape, features), free, [self.seed] * len(rows))

        return self._ascent().climb_rows(count, oracle.batch_size(count), climb)

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image, a backward pass counted as two."""
        return 3 * self.steps * (1 if self.together else len(self.layers) or self.spread)

    def _ascent(self) -> Ascent:
        return Ascent(
            steps=self.steps,
            rate=self.rate,
            schedule=lambda progress: 0.1**progress,
            transforms=transforms(jitter=self.jitter, rotation=0, scale=0),
            penalties=[
                TotalVariation(self.total_variation, self.beta),
                AlphaNorm(self.alpha_norm),
            ],
        )

    def _check(self) -> None:
        numbers = (self.rate, self.total_variation, self.beta, self.alpha_norm)
        if (
            min(self.steps, self.spread) < 1
            or min(self.jitter, self.seed) < 0
            or not all(0 <= n < np.inf for n in numbers)
        ):
            raise UsageError(
                f"steps={self.steps} and spread={self.spread} must be at least 1, jitter={self.jitter}, "
                f"seed={self.seed}, rate={self.rate}, total_variation={self.total_variation}, beta={self.beta} and "
                f"alpha_norm={self.alpha_norm} at least 0 and finite."
            )
