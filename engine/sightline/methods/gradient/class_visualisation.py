"""What a class or a unit looks for, as pictures made from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.abilities import Differentiable
from sightline.ascent.class_pictures import ClassPictures, verified
from sightline.ascent.deployed import deployed
from sightline.ascent.loop import Ascended, Ascent
from sightline.ascent.objectives import score
from sightline.ascent.parametrisation import Space, noise, picture
from sightline.ascent.regularisers import (
    L2,
    Blur,
    ClipSmallGradients,
    ClipSmallPixels,
    Penalty,
    Projection,
    TotalVariation,
)
from sightline.ascent.transforms import transforms
from sightline.errors import NoAscent, UsageError
from sightline.registry import method
from sightline.target import Target, class_scores
from sightline.types import Batch, FloatArray

NOISE = 0.05  # standard deviation of the start, as a share of the pixel range


@method(needs=Differentiable, takes_images=False)
@dataclass(frozen=True, kw_only=True)
class ClassVisualisation:
    """Pictures that the target's score is highest for, by gradient ascent.

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks" (2014); blur and clipping of Yosinski, Clune,
    Nguyen, Fuchs, Lipson, "Understanding Neural Networks Through Deep Visualization" (2015); Fourier parametrisation,
    decorrelated colours and robustness to transformation of Olah, Mordvintsev, Schubert, "Feature Visualization"
    (2017), which is what the defaults are. Penalties are means over pixels: weights do not depend on the size.
    ``top(1)`` means the class that the start ranks highest; ``logit((1, 5))`` asks for two classes side by side.

    Returns ``ClassPictures`` (N, H, W, 3) float32, 0 to 255: for each class, one per seed. Score and probability are
    those of ONNX Runtime for the picture rounded to 8 bits, and their mean over shifts of up to 8 pixels.

    Raises:
        UsageError: parameters out of range, or a start that has no gradient.
    """

    start: str = "noise"  # noise, zeros (of the model's input: its mean colour), or an image file
    space: Space = "fourier"  # what is climbed over: waves of every length, or pixels
    decorrelate: bool = True  # climb over colours without correlation, in Fourier space
    steps: int = 256  # of the ascent
    rate: float = 0.05  # of Adam
    jitter: int = 8  # pixels that each step moves the picture, at most
    rotation: float = 10.0  # degrees that each step turns it, at most
    zoom: float = 0.2  # share that each step grows or shrinks it, at most
    l2: float = 0.0  # weight of the mean square
    total_variation: float = 0.0  # weight of the squared differences between neighbours
    blur: float = 0.0  # pixels; width of a Gaussian after each step, falling to 0
    small_pixels: float = 0.0  # percent of the faintest pixels that become 0 after each step
    small_gradients: float = 0.0  # percent of the pixels that contribute least, likewise
    seeds: int = 4  # pictures per class
    seed: int = 0  # of the first picture

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> ClassPictures:
        self._check()
        streams = range(self.seed, self.seed + self.seeds)
        starts = self._starts(oracle, images.tensor.shape[1:], streams)  # (seeds, C, H, W)
        asked = max((len(part.index) for part in class_scores(target) if isinstance(part.index, tuple)), default=1)
        rows = [(choice, nth) for choice in range(asked) for nth in range(self.seeds)]
        start = starts[[nth for _, nth in rows]]  # (N, C, H, W)
        bound = oracle.bind(start, target.take([choice for choice, _ in rows])).target
        with oracle.tape() as tape:

            def climb(ascent: Ascent, part: range) -> Ascended:
                pixels = tape.tensor(start[part.start : part.stop])
                free = picture(self.space, pixels, oracle.preprocess, decorrelate=self.decorrelate)
                return ascent.climb(score(tape, bound.take(part)), free, [streams[rows[row][1]] for row in part])

            end = self._ascent().climb_rows(len(rows), oracle.batch_size(len(rows)), climb)
        if end.flat.any():
            raise NoAscent(
                f"{bound!r} has no gradient at the start ({self.start}): no step could be taken for "
                f"{int(end.flat.sum())} of {len(rows)} pictures. Choose another start, seed or target."
            )
        seeds = np.array([streams[nth] for _, nth in rows], np.int64)
        return verified(deployed(oracle), oracle.preprocess, end, bound, seeds)

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per class, a backward pass counted as two."""
        return 3 * self.steps * self.seeds

    def _ascent(self) -> Ascent:
        penalties: Sequence[Penalty] = (L2(self.l2), TotalVariation(self.total_variation))
        projections: Sequence[Projection] = (
            Blur(self.blur), ClipSmallPixels(self.small_pixels), ClipSmallGradients(self.small_gradients)
        )  # fmt: skip
        weights = (self.l2, self.total_variation)
        sizes = (self.blur, self.small_pixels, self.small_gradients)
        return Ascent(
            steps=self.steps,
            rate=self.rate,
            transforms=transforms(jitter=self.jitter, rotation=self.rotation, scale=self.zoom),
            penalties=[one for one, weight in zip(penalties, weights, strict=True) if weight],
            projections=[one for one, size in zip(projections, sizes, strict=True) if size],
        )

    def _starts(self, oracle: Differentiable, shape: tuple[int, ...], streams: range) -> FloatArray:
        """(seeds, C, H, W)."""
        match self.start:
            case "noise":
                return noise(streams, (shape[0], shape[1], shape[2]), oracle.preprocess, NOISE)
            case "zeros":
                return np.zeros((len(streams), *shape), np.float32)
            case path if Path(path).is_file():
                return np.repeat(oracle.read_image(Path(path))[None], len(streams), axis=0)
            case other:
                raise UsageError(f"start={other!r} is no file. Accepted: noise, zeros, or the path of an image.")

    def _check(self) -> None:
        if min(self.steps, self.seeds) < 1 or not 0 < self.rate < np.inf or min(self.seed, self.jitter) < 0:
            raise UsageError(
                f"steps={self.steps} and seeds={self.seeds} must be at least 1, rate={self.rate} above 0, "
                f"seed={self.seed} and jitter={self.jitter} at least 0."
            )
        if not all(0 <= percent < 100 for percent in (self.small_pixels, self.small_gradients)):
            raise UsageError(
                f"small_pixels={self.small_pixels} and small_gradients={self.small_gradients} are percentages "
                "from 0 to below 100."
            )
