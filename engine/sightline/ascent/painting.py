"""One batch of pictures painted, from the smallest size to the full one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sightline.abilities import Tape
from sightline.ascent.divergence import Divergence
from sightline.ascent.loop import Ascent, Moment
from sightline.ascent.margins import MARGIN, narrowed, widened
from sightline.ascent.mosaic import Tile, mosaic
from sightline.ascent.octaves import octave_sizes, resized
from sightline.ascent.optimisers import LBFGS, Adam
from sightline.ascent.parametrisation import Bounds, Pixels
from sightline.ascent.regularisers import TotalVariation
from sightline.ascent.stylisation import Goal, Stylisation, features_of, mixed_grams
from sightline.graph.receptive import ReceptiveField
from sightline.preprocess import Preprocess
from sightline.types import ByteArray, FloatArray, IntArray

LOG = logging.getLogger(__name__)
OCTAVE = 2.0  # from one size to the next
SMALLEST = 32  # pixels of the shorter side below which networks see next to nothing


@dataclass(frozen=True)
class Wanted:
    """What B pictures are to resemble.

    Attributes:
        content: (B, C, H, W), or None for textures.
        styles: (1 or B, C, h, w) each, of any size.
        shares: of the styles, sum 1.
    """

    content: Tensor | None
    styles: Sequence[Tensor]
    shares: Sequence[float]


@dataclass(frozen=True)
class Painted:
    """B pictures and how they came to be.

    Attributes:
        images: (B, C, H, W) in model input space.
        style, content: (B, n) losses at each step taken, octave after octave.
        frames: (B, F, H, W, 3) uint8, evenly spread over the steps.
        stopped: (B,) that an interrupt ended early.
        diverged: (B,) whose loss ran away.
    """

    images: FloatArray
    style: FloatArray
    content: FloatArray
    frames: ByteArray
    stopped: IntArray
    diverged: IntArray


@dataclass(frozen=True, kw_only=True)
class Painter:
    """Paints by gradient descent on content and style losses.

    Attributes:
        tape: runs the network.
        preprocess: of the model.
        style_layers: with their weights, sum 1.
        content_layers: likewise without.
        fields: what a position of each layer sees.
        style_weight, content_weight, total_variation: of the losses.
        steps: in all, spread evenly over the octaves.
        optimiser: L-BFGS, or Adam with ``rate``.
        rate: model input that a step of Adam changes a pixel by at most.
        octaves: sizes, each twice the one before.
        tile: side of the tiles that larger pictures are looked at in, or None.
        frames: of a film of the making.
    """

    tape: Tape
    preprocess: Preprocess
    style_layers: Mapping[str, float]
    content_layers: Sequence[str]
    fields: Mapping[str, ReceptiveField | None]
    style_weight: float
    content_weight: float
    total_variation: float
    steps: int
    optimiser: Literal["adam", "lbfgs"]
    rate: float
    octaves: int
    tile: int | None
    frames: int

    def paint(self, start: Tensor, wanted: Wanted) -> Painted:
        """Pictures of the start's size (B, C, H, W)."""
        picture = start
        height, width = picture.shape[-2:]
        diary = _Diary(self, (height, width))
        stopped = diverged = np.zeros(len(start), np.bool_)
        sizes = self._sizes(height, width)
        for octave, size in enumerate(sizes):
            if stopped.any():
                break
            objective = self.objective(wanted, size, height)
            divergence = Divergence(self.style_weight + self.content_weight)
            pixels = Pixels(widened(resized(picture, size)), Bounds.of(self.preprocess, start.device))
            steps = self.steps * (octave + 1) // len(sizes) - self.steps * octave // len(sizes)
            ascent = self._ascent(steps, divergence, diary.of(objective))
            end = ascent.climb(objective, pixels, [0] * len(start))
            picture = narrowed(torch.from_numpy(end.images).to(start))
            stopped, diverged = end.stopped, diverged | divergence.rows.cpu().numpy()
        return Painted(
            resized(picture, (height, width)).cpu().numpy(),
            *diary.losses(),
            diary.film(),
            stopped.astype(np.int64),
            diverged.astype(np.int64),
        )

    def objective(self, wanted: Wanted, size: tuple[int, int], full: int) -> Stylisation:
        """The losses of widened pictures of a size, all that is wanted shrunk as they are from ``full`` rows."""
        content = dict[str, Tensor]()
        if wanted.content is not None:
            wide = widened(resized(wanted.content, size))
            content = features_of(self.tape, wide, self.content_layers, self._tiles(wide))
        factor = size[0] / full
        styles = [
            widened(resized(style, [max(1, round(side * factor)) for side in style.shape[-2:]]))
            for style in wanted.styles
        ]
        parts = [features_of(self.tape, style, tuple(self.style_layers), self._tiles(style)) for style in styles]
        grams = mixed_grams(parts, wanted.shares)
        goal = Goal(
            content=content, style=grams, layer_weights=self.style_layers,
            content_weight=self.content_weight, style_weight=self.style_weight,
        )  # fmt: skip
        return Stylisation(self.tape, goal, self._tiles_of((size[0] + 2 * MARGIN, size[1] + 2 * MARGIN)))

    def _tiles(self, wide: Tensor) -> tuple[Tile, ...]:
        return self._tiles_of((wide.shape[-2], wide.shape[-1]))

    def _tiles_of(self, size: tuple[int, int]) -> tuple[Tile, ...]:
        return mosaic({layer: self.fields[layer] for layer in self._layers}, size, self.tile, MARGIN)

    @property
    def _layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.style_layers, *self.content_layers)))

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """From the smallest that still shows something to the full one."""
        sizes = octave_sizes(height, width, self.octaves, OCTAVE)
        return [*(size for size in sizes[:-1] if min(size) >= SMALLEST), sizes[-1]]

    def _ascent(self, steps: int, divergence: Divergence, watch: _Page) -> Ascent:
        adam = self.optimiser == "adam"
        return Ascent(
            steps=steps,
            rate=self.rate if adam else 1.0,
            schedule=(lambda progress: 0.1**progress) if adam else (lambda _: 1.0),
            optimiser=Adam() if adam else LBFGS(),
            penalties=[TotalVariation(self.total_variation)] if self.total_variation else (),
            until=divergence,
            keep="best",
            watch=watch,
        )


class _Diary:
    """What is noted of a painting while it is made."""

    def __init__(self, painter: Painter, size: tuple[int, int]):
        self.painter, self.size = painter, size
        self.style, self.content, self.frames = list[Tensor](), list[Tensor](), list[ByteArray]()
        self.total = painter.steps

    def of(self, objective: Stylisation) -> _Page:
        return _Page(self, objective)

    def losses(self) -> tuple[FloatArray, FloatArray]:
        return tuple(torch.stack(column, dim=1).cpu().numpy() for column in (self.style, self.content))  # type: ignore[return-value]

    def film(self) -> ByteArray:
        if self.frames:
            return np.stack(self.frames, axis=1)
        return np.zeros((len(self.style[0]), 0, *self.size, 3), np.uint8)


@dataclass
class _Page:
    """The part of a diary that belongs to one octave."""

    diary: _Diary
    objective: Stylisation

    def __call__(self, moment: Moment) -> None:
        diary, style, content = self.diary, self.objective.style, self.objective.content
        diary.style.append(style)
        diary.content.append(content)
        step = len(diary.style)
        LOG.info(
            "step %d of %d: style loss %.3g, content loss %.3g",
            step, diary.total, float(style.mean()), float(content.mean()),
        )  # fmt: skip
        wanted = diary.painter.frames
        if len(diary.frames) < wanted * step // diary.total:
            shown = resized(narrowed(moment.images), diary.size).cpu().numpy()
            diary.frames.append(diary.painter.preprocess.to_pixels(shown))  # (B, H, W, 3)
