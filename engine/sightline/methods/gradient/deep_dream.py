"""What a layer sees in an image, made stronger until everybody sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sightline.abilities import Differentiable, Tape
from sightline.ascent.deployed import model_of
from sightline.ascent.depth import trunk
from sightline.ascent.dreaming import Dreamer
from sightline.ascent.dreams import Dreams
from sightline.ascent.loop import Objective
from sightline.ascent.objectives import resemblance, strength
from sightline.ascent.octaves import enlarged, octave_sizes, zoomed
from sightline.ascent.parametrisation import Bounds
from sightline.ascent.pixels import pixel_values, rounded
from sightline.errors import UsageError
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray, Photo, joined

MOST_OCTAVES = 32


@method(needs=Differentiable, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class DeepDream:
    """Images in which a layer responds more strongly, by gradient ascent at several sizes.

    Mordvintsev, Olah, Tyka, "Inceptionism: Going Deeper into Neural Networks" (2015). What is climbed is half the
    layer's mean square, the mean of one channel, or resemblance to the features of a guide image. From the smallest
    octave to the largest, what was added is carried over. The gradient is divided by its mean magnitude in each image
    and octave. Pictures are seen through windows of the model's own input size that lie elsewhere at every step, so
    that any size is dreamt in the memory of one window and without seams; opposite sides of a picture adjoin.

    Returns ``Dreams`` (B, H, W, 3) float32, 0 to 255, and the frames of a zoom into each if asked for.

    Raises:
        UnknownName: no such layer.
        UsageError: parameters out of range, no such channel or guide.
    """

    layer: str | None = None  # any name that sightline inspect lists; one two thirds down when not given
    channel: int | None = None  # of the layer; all when not given
    guide: str | None = None  # image file whose features are dreamt of
    side: int | None = None  # pixels of the shorter side, read anew from the file; the model's input when not given
    octaves: int = 4  # sizes, the image's own the last
    octave_scale: float = 1.4  # from one to the next
    steps: int = 10  # per octave
    rate: float = 1.5  # pixel values of 0 to 255 that a step changes a pixel by on average
    jitter: int = 32  # pixels that the window is moved at each step, at most
    frames: int = 0  # of a zoom into the dream, each dreamt on at full size
    zoom: float = 1.04  # from one frame to the next
    seed: int = 0  # of the windows' places

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> Dreams:
        self._check()
        layer = self.layer or trunk(model_of(oracle), 4)[-2:][0]
        start = images.tensor if self.side is None else enlarged(images, oracle.preprocess, self.side)
        with oracle.tape() as tape:
            dreamer = self._dreamer(oracle, tape, layer, images)
            batch = oracle.batch_size(len(images))
            starts = range(0, max(len(images), 1), batch)
            parts = [
                self._dreams(oracle, tape, dreamer, start[n : n + batch], images.photos[n : n + batch])
                for n in starts
            ]
        return replace(joined(parts), layer=layer)

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image, a backward pass counted as two."""
        side = self.side or min(height, width)
        sizes = octave_sizes(side, side, max(1, min(self.octaves, MOST_OCTAVES)), max(self.octave_scale, 1.0))
        pieces = [math.ceil(one / min(height, width)) ** 2 for one, _ in sizes]
        return 3 * self.steps * (sum(pieces) + self.frames * pieces[-1])

    def _dreams(
        self, oracle: Differentiable, tape: Tape, dreamer: Dreamer, start: FloatArray, photos: tuple[Photo, ...]
    ) -> Dreams:
        """Of the images (B, C, H, W) that are dreamt side by side."""
        ground = tape.tensor(start)
        dream, stopped = dreamer.dream(ground, self.octaves, self.octave_scale)
        frames = [dream]
        while len(frames) < self.frames and not stopped:
            frame, stopped = dreamer.dream(zoomed(frames[-1], self.zoom), 1, 1.0)
            frames.append(frame)
        values = [pixel_values(oracle.preprocess, frame.cpu().numpy()) for frame in frames]  # (B, H, W, 3) each
        return Dreams(
            values=values[0],
            photos=photos,
            layer="",
            before=dreamer.score(ground).cpu().numpy(),
            after=dreamer.score(dream).cpu().numpy(),
            frames=np.stack([rounded(value) for value in values], axis=1)[:, : self.frames],
            stopped=np.full(len(start), int(stopped), np.int64),
        )

    def _dreamer(self, oracle: Differentiable, tape: Tape, layer: str, images: Batch) -> Dreamer:
        preprocess = oracle.preprocess
        return Dreamer(
            objective=self._objective(oracle, tape, layer),
            bounds=Bounds.of(preprocess, tape.device),
            window=(images.tensor.shape[2], images.tensor.shape[3]),
            steps=self.steps,
            rate=self.rate * abs(preprocess.scale) / float(np.abs(preprocess.std).mean()),
            jitter=self.jitter,
            seed=self.seed,
        )

    def _objective(self, oracle: Differentiable, tape: Tape, layer: str) -> Objective:
        shape = model_of(oracle).layers.find(layer).shape  # (1, C, h, w)
        if self.channel is not None and not 0 <= self.channel < shape[1]:
            raise UsageError(f"Layer {layer!r} has channels 0 to {shape[1] - 1}, not {self.channel}.")
        if self.guide is None:
            return strength(tape, layer, self.channel)
        if self.channel is not None:
            raise UsageError(
                f"guide={self.guide!r} and channel={self.channel} exclude each other: a guide chooses its features "
                "itself. Give one of them."
            )
        if not Path(self.guide).is_file():
            raise UsageError(f"guide={self.guide!r} is no file. Give the path of an image.")
        if len(shape) != 4:
            raise UsageError(
                f"A guide's features are compared position by position, and layer {layer!r} of shape {shape[1:]} has "
                "no positions. Give an earlier layer."
            )
        features = oracle.taps(oracle.read_image(Path(self.guide))[None], [layer])[layer]
        return resemblance(tape, layer, tape.tensor(features))

    def _check(self) -> None:
        if (
            min(self.steps, self.octaves) < 1
            or self.octaves > MOST_OCTAVES
            or min(self.jitter, self.frames, self.seed) < 0
        ):
            raise UsageError(
                f"steps={self.steps} must be at least 1, octaves={self.octaves} lie in 1 to {MOST_OCTAVES}, "
                f"jitter={self.jitter}, frames={self.frames} and seed={self.seed} be at least 0."
            )
        if (
            not 0 < self.rate < np.inf
            or min(self.octave_scale, self.zoom) < 1
            or (self.side is not None and self.side < 1)
        ):
            raise UsageError(
                f"rate={self.rate} must be above 0, octave_scale={self.octave_scale}, zoom={self.zoom} and "
                f"side={self.side} at least 1."
            )
