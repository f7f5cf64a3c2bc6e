"""More of a texture: a picture with a sample's Gram matrices, made from noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sightline.abilities import Differentiable
from sightline.ascent.deployed import model_of
from sightline.ascent.depth import style_layers
from sightline.ascent.painting import Painter, Wanted
from sightline.ascent.paintings import Paintings
from sightline.ascent.parametrisation import noise
from sightline.methods.gradient._painting import (
    Optimiser,
    check_painting,
    evened,
    painted,
    passes,
)  # fmt: skip
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray

CONTRAST = 0.2  # standard deviation of the noise, as a share of the pixel range


@method(needs=Differentiable, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class GatysTexture:
    """Pictures in which a network's features occur together as they do in a sample, wherever that is.

    Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks" (2015): the distance between Gram
    matrices of several layers, by L-BFGS from noise. Each layer's distance is taken over the squared norm of the
    sample's matrix, and matrices are means over positions, so that sample and texture may differ in size.

    Returns ``Paintings`` (B, H, W, 3) float32, 0 to 255, with the losses before, after and at every step.

    Raises:
        UnknownName: no such layer.
        UsageError: parameters out of range, or a layer without positions.
    """

    layers: tuple[str, ...] = ()  # whose Gram matrices are matched; five of the first three fifths if none
    layer_weights: tuple[float, ...] = ()  # one per layer; equal when none are given
    side: int | None = None  # pixels of the texture's shorter side; that of the model's input when not given
    steps: int = 300  # of the descent, shared by the sizes
    optimiser: Optimiser = "lbfgs"  # or adam: many samples side by side, but slower down
    rate: float = 8.0  # of adam, pixel values of 0 to 255, falling to a tenth
    total_variation: float = 0.0  # weight of the differences between neighbours
    octaves: int = 3  # sizes, each twice the one before: structures larger than the network sees
    tile: int | None = None  # side of the tiles that a large texture is looked at in, for want of memory
    frames: int = 0  # of a film of the making
    seed: int = 0  # of the noise

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> Paintings:
        check_painting(self)
        layers = self.layers or style_layers(model_of(oracle))
        options: dict[str, Any] = {
            "style_layers": evened(layers, self.layer_weights), "content_layers": (), "style_weight": 1.0,
            "content_weight": 0.0,
        }  # fmt: skip
        channels, height, width = images.tensor.shape[1:]
        factor = 1.0 if self.side is None else self.side / min(height, width)
        size = (round(height * factor), round(width * factor))

        def paint(painter: Painter, rows: range) -> tuple[FloatArray, Wanted]:
            start = noise([self.seed] * len(rows), (channels, *size), oracle.preprocess, CONTRAST)
            sample = painter.tape.tensor(images.tensor[rows.start : rows.stop])
            return start, Wanted(None, (sample,), (1.0,))

        return painted(oracle, images, self, options, paint)

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image, a backward pass counted as two."""
        return passes(self, height, width)
