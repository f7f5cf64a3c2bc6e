"""A photograph painted in the style of other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from sightline.abilities import Differentiable
from sightline.ascent.deployed import model_of
from sightline.ascent.depth import content_layer, style_layers
from sightline.ascent.octaves import enlarged
from sightline.ascent.painting import Painter, Wanted
from sightline.ascent.paintings import Paintings
from sightline.ascent.parametrisation import noise
from sightline.ascent.pixels import pixel_values
from sightline.errors import UnknownName, UsageError
from sightline.image import read_image
from sightline.methods.gradient._painting import (
    Optimiser,
    Paint,
    check_painting,
    evened,
    judged,
    painted,
    passes,
)  # fmt: skip
from sightline.preprocess import Preprocess
from sightline.registry import method
from sightline.styles.colours import luminance, luminance_matched, matched, with_colours_of
from sightline.styles.style import OWN, PICTURE
from sightline.target import Target
from sightline.types import Batch, ByteArray, FloatArray

CONTRAST = 0.2  # standard deviation of the noise to start from, as a share of the pixel range
LONGEST = 4  # times its shorter side that a style may be long; the middle of a longer one is taken


@method(needs=Differentiable, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class StyleTransfer:
    """Images that keep their content and take the style of other pictures, by gradient descent.

    Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks" (2016): features of one layer as
    in the image, Gram matrices of several as in the style. Each layer's loss is divided by the squared norm of what
    is wanted, so that weights mean the same for every network; of several styles the mean of the matrices is wanted.
    Colours are kept as Gatys, Bethge, Hertzmann, Shechtman (2016), arXiv:1606.05897, do.

    Returns ``Paintings`` (B, H, W, 3) float32, 0 to 255, with the losses before, after and at every step.

    Raises:
        UnknownName: no such layer.
        BadImage: a style cannot be read.
        UsageError: parameters out of range, a layer without positions, or a style of one colour.
    """

    style: tuple[str, ...] = ()  # image files, mixed; brush strokes drawn by sightline when none are given
    style_shares: tuple[float, ...] = ()  # of several styles, one each; equal when none are given
    style_weight: float = 10.0  # of the style's loss
    content_weight: float = 0.5  # of the content's loss
    total_variation: float = 0.05  # weight of the differences between neighbours
    style_scale: float = 1.0  # the style's shorter side over the painting's: smaller strokes below 1
    colour: Literal["style", "luminance", "matched"] = "style"  # luminance: the image's; matched: style recoloured
    start: Literal["content", "noise", "style"] = "content"  # what is changed
    style_layers: tuple[str, ...] = ()  # five of the first three fifths when none are given
    layer_weights: tuple[float, ...] = ()  # one per style layer; equal when none are given
    content_layers: tuple[str, ...] = ()  # one three fifths down when none are given
    side: int | None = None  # pixels of the shorter side, read anew from the file; the model's input when not given
    steps: int = 300  # of the descent, shared by the sizes
    optimiser: Optimiser = "lbfgs"  # or adam: many images side by side
    rate: float = 8.0  # of adam, pixel values of 0 to 255, falling to a tenth
    octaves: int = 3  # sizes, each twice the one before: large strokes first
    tile: int | None = None  # side of the tiles that a large painting is looked at in, for want of memory
    frames: int = 0  # of a film of the making
    seed: int = 0  # of the noise

    def run(self, oracle: Differentiable, images: Batch, target: Target) -> Paintings:
        contents = self._contents(oracle, images)
        result = painted(oracle, images, self, self._options(oracle), self._paint(oracle, contents))
        if self.colour == "luminance":
            photographs = pixel_values(oracle.preprocess, contents)
            values = [with_colours_of(*pair) for pair in zip(result.values, photographs, strict=True)]
            return replace(result, values=np.array(values, np.float32).reshape(photographs.shape))
        return result

    def judge(self, oracle: Differentiable, images: Batch, paintings: ByteArray) -> tuple[FloatArray, FloatArray]:
        """Style and content losses (B,) of paintings (B, H, W, 3) that were made otherwise, of the size of ``run``'s.

        Raises:
            UsageError: they have another size.
        """
        paint = self._paint(oracle, self._contents(oracle, images))
        return judged(oracle, self, self._options(oracle), paint, paintings)

    def _contents(self, oracle: Differentiable, images: Batch) -> FloatArray:
        """(B, C, H, W) that are painted."""
        self._check()
        return images.tensor if self.side is None else enlarged(images, oracle.preprocess, self.side)

    def _options(self, oracle: Differentiable) -> dict[str, Any]:
        model = model_of(oracle)
        return {
            "style_layers": evened(self.style_layers or style_layers(model), self.layer_weights),
            "content_layers": self.content_layers or (content_layer(model),),
            "style_weight": self.style_weight, "content_weight": self.content_weight,
        }  # fmt: skip

    def _paint(self, oracle: Differentiable, contents: FloatArray) -> Paint:
        preprocess, shares = oracle.preprocess, self._shares()
        shorter = round(self.style_scale * min(contents.shape[2:]))
        styles = [read_style(name, max(1, shorter)) for name in self.style or ("",)]

        def paint(painter: Painter, rows: range) -> tuple[FloatArray, Wanted]:
            content = contents[rows.start : rows.stop]
            seen, worn = self._coloured(pixel_values(preprocess, content), styles, preprocess)
            tensors = [painter.tape.tensor(one) for one in worn]
            return self._begun(seen, worn, preprocess), Wanted(painter.tape.tensor(seen), tensors, shares)

        return paint

    def forward_passes(self, height: int, width: int) -> int:
        """Network evaluations per image, a backward pass counted as two."""
        return passes(self, height, width)

    def _coloured(
        self, photographs: FloatArray, styles: Sequence[FloatArray], preprocess: Preprocess
    ) -> tuple[FloatArray, list[FloatArray]]:
        """Content (b, C, H, W) and styles (1 or b, C, h, w) as the network is to see them."""
        if self.colour == "style" or not len(photographs):
            return preprocess.normalise(photographs), [preprocess.normalise(style[None]) for style in styles]
        change = matched if self.colour == "matched" else luminance_matched
        worn = [
            preprocess.normalise(np.stack([change(style, photograph) for photograph in photographs]))
            for style in styles
        ]
        shown = photographs if self.colour == "matched" else np.stack([luminance(one) for one in photographs])
        return preprocess.normalise(shown), worn

    def _begun(self, content: FloatArray, styles: Sequence[FloatArray], preprocess: Preprocess) -> FloatArray:
        """(b, C, H, W) to start from."""
        if self.start == "content":
            return content
        count, channels, height, width = content.shape
        if self.start == "noise":
            return noise([self.seed] * count, (channels, height, width), preprocess, CONTRAST)
        rows = [
            _covering(style, height, width) for style in np.broadcast_to(styles[0], (count, *styles[0].shape[1:]))
        ]
        return np.array(rows, np.float32).reshape(content.shape)

    def _shares(self) -> tuple[float, ...]:
        return tuple(evened([str(place) for place in range(len(self.style or ("",)))], self.style_shares).values())

    def _check(self) -> None:
        check_painting(self)
        for name, known in (("colour", ("style", "luminance", "matched")), ("start", ("content", "noise", "style"))):
            if getattr(self, name) not in known:
                raise UnknownName(name, getattr(self, name), known)
        weights = (self.style_weight, self.content_weight)
        if not all(0 <= weight < np.inf for weight in weights) or not 0.01 <= self.style_scale <= 100:
            raise UsageError(
                f"style_weight={self.style_weight} and content_weight={self.content_weight} must be at least 0 and "
                f"finite, style_scale={self.style_scale} lie in 0.01 to 100."
            )


def read_style(name: str, shorter: int) -> FloatArray:
    """(h, w, 3) of 0 to 255 with so many pixels on the shorter side; that of the style in the box without a name.

    Raises:
        BadImage: it cannot be read.
        UsageError: it has one colour only.
    """
    image = read_image(Path(name) if name else OWN / PICTURE)
    if all(low == high for low, high in cast("tuple[tuple[int, int], ...]", image.getextrema())):
        raise UsageError(
            f"The style {name} has one colour throughout, so there are no strokes and no texture to take from it. "
            "Give a picture that has them."
        )
    width, height = image.size
    least = min(width, height)
    box = [max(0, (side - LONGEST * least) // 2) for side in (width, height)]
    image = image.crop((box[0], box[1], width - box[0], height - box[1]))
    factor = shorter / least
    size = [max(1, round(side * factor)) for side in image.size]
    return np.asarray(image.resize((size[0], size[1]), Image.Resampling.LANCZOS), np.float32)


def _covering(style: FloatArray, height: int, width: int) -> FloatArray:
    """(C, H, W): a style (C, h, w) mirrored at its borders until it covers the picture."""
    down, across = max(0, height - style.shape[1]), max(0, width - style.shape[2])
    return np.pad(style, ((0, 0), (0, down), (0, across)), mode="symmetric")[:, :height, :width]
