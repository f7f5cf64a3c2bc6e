"""Numbers as colours: scales with a stated range, pictures of maps, and maps laid over photographs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.errors import UsageError
from sightline.types import ByteArray, FloatArray

STEPS = 255  # colours of a scale; odd, so that a diverging one has a middle of its own
_DIVERGING = "coolwarm"  # blue, light grey, red; of even lightness on both sides (Moreland, 2009)
_SEQUENTIAL = "inferno"  # black, purple, orange, yellow; perceptually uniform


@dataclass(frozen=True)
class ColourScale:
    """Which number gets which colour.

    A signed scale is symmetric about 0, which takes the middle colour; an unsigned one runs from ``low`` to ``high``.
    Numbers beyond either end take the colour of that end.

    Attributes:
        low, high: the numbers at the ends of the colour bar.
        signed: whether 0 is the middle.
        minimum, maximum: of the numbers themselves; they leave the scale where it was clipped.
    """

    low: float
    high: float
    signed: bool
    minimum: float
    maximum: float

    @classmethod
    def fit(cls, values: NDArray[Any], *, signed: bool, clip_percentile: float = 100.0) -> Self:
        """The scale of these numbers, in any shape.

        Args:
            values: at least one number, all finite.
            signed: centre the scale on 0.
            clip_percentile: where the scale ends, as a percentile of the numbers (of their magnitudes when signed):
                below 100, single spikes do not darken all the rest. A scale that would shrink to nothing is not
                clipped.

        Raises:
            UsageError: there are no numbers, or some are not finite, or the percentile is not above 0 up to 100.
        """
        if not 0 < clip_percentile <= 100:
            raise UsageError(f"clip_percentile={clip_percentile} must be above 0 and at most 100.")
        if values.size == 0:
            raise UsageError(f"A map of shape {values.shape} holds no numbers; nothing can be drawn.")
        lost = values.size - int(np.isfinite(values).sum())
        if lost:
            raise UsageError(
                f"The map holds {lost} of {values.size} numbers that are not finite and cannot be drawn. Look at the "
                "model and its input for overflow, fp16 models above all."
            )
        minimum, maximum = float(values.min()), float(values.max())
        start = 0.0 if signed else minimum
        reach = np.abs(values) if signed else values
        high = float(np.percentile(reach, clip_percentile))
        high = high if high > start else float(reach.max())
        return cls(-high if signed else minimum, high, signed, minimum, maximum)

    def positions(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Where numbers lie on the scale: -1 to 1 about 0 when signed, else 0 to 1; all 0 on an empty scale."""
        start, reach = (0.0, self.high) if self.signed else (self.low, self.high - self.low)
        if reach <= 0:
            return np.zeros(values.shape)
        return np.clip((values.astype(np.float64) - start) / reach, -1.0 if self.signed else 0.0, 1.0)

    def colours(self, values: NDArray[Any]) -> ByteArray:
        """(..., 3) uint8 sRGB of numbers of any shape."""
        return self.paint(self.positions(values))

    def bar(self) -> ByteArray:
        """(1, 255, 3) uint8, the colours from ``low`` to ``high``."""
        return self.paint(np.linspace(-1.0 if self.signed else 0.0, 1.0, STEPS)[None])

    def ticks(self) -> list[tuple[float, str]]:
        """Where on the bar, 0 to 1, stands which number; one beyond which numbers were clipped says so.

        >>> ColourScale(-2.0, 2.0, True, minimum=-1.5, maximum=7.0).ticks()
        [(0.0, '−2'), (0.5, '0'), (1.0, '≥ 2')]
        """
        if self.low == self.high:
            return [(0.5, number(self.high))]
        ends = [
            (0.0, ("≤ " if self.minimum < self.low else "") + number(self.low)),
            (1.0, ("≥ " if self.maximum > self.high else "") + number(self.high)),
        ]
        return [ends[0], (0.5, "0"), ends[1]] if self.signed else ends

    def range(self) -> str:
        """The smallest and the largest number, clipped or not."""
        same = self.minimum == self.maximum
        return number(self.maximum) if same else f"{number(self.minimum)} to {number(self.maximum)}"

    def paint(self, positions: NDArray[np.float64]) -> ByteArray:
        """(..., 3) uint8 sRGB of `positions`."""
        middle = STEPS // 2
        # rint rounds halves to even, the same way on both sides: opposite numbers lie equally far from the middle
        steps = middle + np.rint(positions * middle) if self.signed else np.rint(positions * (STEPS - 1))
        return _palette(_DIVERGING if self.signed else _SEQUENTIAL)[steps.astype(np.intp)]


def number(value: float) -> str:
    """Three significant digits, or all of an integer part below a million, with a true minus sign.

    >>> number(-0.012345), number(12345.6), number(0.0), number(2e7)
    ('−0.0123', '12346', '0', '2e+07')
    """
    text = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value + 0.0:.3g}"
    return text.replace("-", "−")


@cache
def _palette(name: str) -> ByteArray:
    from matplotlib import colormaps  # takes a third of a second, and forward-only commands draw nothing

    colours: NDArray[np.float64] = np.asarray(colormaps[name](np.linspace(0, 1, STEPS)))[:, :3]
    return np.rint(colours * 255).astype(np.uint8)  # (255, 3)


def colourise(values: FloatArray, *, signed: bool, clip_percentile: float = 100.0) -> tuple[ByteArray, ColourScale]:
    """A picture of a map: (H, W, 3) uint8 from (H, W), and the scale that says which colour is which number.

    Raises:
        UsageError: as `ColourScale.fit`.
    """
    scale = ColourScale.fit(values, signed=signed, clip_percentile=clip_percentile)
    return scale.colours(values), scale


def overlay(view: ByteArray, values: FloatArray, scale: ColourScale, *, strength: float = 0.85) -> ByteArray:
    """A map over its photograph, (H, W, 3) uint8 from a view (H, W, 3) and a map (h, w) of any size.

    The photograph is drawn in pale grey, so that every colour belongs to the map. Opacity is 0 at the start of the
    scale (0 itself when signed) and grows to ``strength`` at its ends, as the square root, so that weak values show.
    """
    height, width = view.shape[:2]
    # (H, W); bilinear, positions of the map being the centres of equal parts of the view
    positions = scale.positions(resize_map(values, height, width))
    opacity = strength * np.sqrt(np.abs(positions))[..., None]  # (H, W, 1)
    blend = pale(view) * (1 - opacity) + scale.paint(positions) * opacity
    return np.rint(blend).astype(np.uint8)


def pale(view: ByteArray) -> NDArray[np.float64]:
    """(H, W, 3) grey of a photograph, 0 to 255 squeezed into 40 to 255: the ground under an overlay."""
    luminance = np.asarray(Image.fromarray(view).convert("L"), dtype=np.float64)  # (H, W)
    return np.repeat((40 + luminance * (215 / 255))[..., None], 3, axis=2)


def resize_map(values: FloatArray, height: int, width: int) -> FloatArray:
    """A map (h, w) brought to (height, width) bilinearly; averaged where it shrinks."""
    if values.shape == (height, width):
        return values
    source = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(source.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
