"""One picture of a result with all that is needed to read it, and the renderers that make them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from sightline.colour import ColourScale, overlay
from sightline.errors import UsageError
from sightline.types import ByteArray, FloatArray, Photo, Result

SMALLEST_SIDE = 192  # pixels; smaller views are enlarged by whole numbers, so that a map over them stays smooth
CLIP_PERCENTILE = 99.5  # single pixels of a gradient would otherwise leave the rest without colour


@dataclass(frozen=True)
class Panel:
    """One picture, a grid of small ones or a list of bars, as a report shows it and `write_overlays` writes it.

    Attributes:
        title: what is seen, in two or three words.
        caption: how to read it: sign, unit, what was left out.
        alt: the picture in words, for those who do not see it.
        pixels: (h, w, 3) uint8 sRGB; None where there is none.
        cells: small pictures (h, w, 3) of one size, each with its label, drawn side by side in flat squares.
        scale: which colour is which number; None where colours are no numbers.
        bars: labels and shares, 0 to 1, drawn as a list of bars.
        target: the class that is explained; pages name it by its label.
        name: tells the panels of one result apart in file names; "" for the only one.
    """

    title: str
    caption: str = ""
    alt: str = ""
    pixels: ByteArray | None = None
    cells: tuple[tuple[ByteArray, str], ...] = ()
    scale: ColourScale | None = None
    bars: tuple[tuple[str, float], ...] = ()
    target: int | None = None
    name: str = ""


class Renderer(Protocol):
    """What a file of this folder that is named for a result type holds."""

    def panels(self, result: Result, row: int | None) -> Iterable[Panel]:
        """The pictures of one row; with row None, those of the result as a whole."""
        ...


def panels(result: Result, row: int | None) -> list[Panel]:
    """The pictures of one row of any result, or with row None of the result as a whole.

    Raises:
        UsageError: no file of ``report/`` is named for the result's class or one of its bases.
    """
    for kind in type(result).__mro__:
        module = f"sightline.report.{_snake_case(kind.__name__)}"
        if kind is not object and importlib.util.find_spec(module):
            return list(cast(Renderer, importlib.import_module(module)).panels(result, row))
    name = type(result).__name__
    raise UsageError(
        f"A report cannot draw {name}: add engine/sightline/report/{_snake_case(name)}.py with a function "
        "panels(result, row), as the README beside it shows."
    )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def method_name(result: Result, otherwise: str) -> str:
    """The name of the method that made a result, ``otherwise`` where nobody wrote it down."""
    method = result.provenance.method if result.provenance else ""
    return method.partition("(")[0] or otherwise


def map_panel(
    photo: Photo,
    values: FloatArray,
    *,
    signed: bool,
    title: str,
    caption: str,
    target: int | None = None,
    name: str = "",
) -> Panel:
    """A map (h, w) over its photograph, or by itself where the photograph is not at hand.

    Numbers that are not finite give a panel that says so in place of the picture.
    """
    try:
        scale = ColourScale.fit(values, signed=signed, clip_percentile=CLIP_PERCENTILE)
    except UsageError as error:
        return Panel(title, f"Not drawn. {error}", target=target, name=name)
    if photo.view is None:
        pixels, ground = enlarge(scale.colours(values)), "by itself"
    else:
        pixels, ground = overlay(enlarge(photo.view), values, scale), "over the photograph"
    alt = f"{title} of {photo.id} {ground}: {scale.range()}, strongest in the {_place(values, signed)}"
    return Panel(title, caption, alt, pixels, scale=scale, target=target, name=name)


def view_panel(photo: Photo) -> Panel:
    """What the model sees of a photograph."""
    if photo.view is None:
        return Panel("Input", "The pixels of this input were not kept.")
    height, width = photo.view.shape[:2]
    caption = f"What the model sees: {width} × {height} pixels."
    return Panel("Input", caption, f"{photo.id} as the model sees it", enlarge(photo.view))


def enlarge(pixels: ByteArray, smallest_side: int = SMALLEST_SIDE) -> ByteArray:
    """Every pixel of (H, W, …) repeated by the least whole number that brings the shorter side to a size."""
    factor = max(1, -(-smallest_side // min(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _place(values: FloatArray, signed: bool) -> str:
    """Which ninth of a map holds its extreme, in words."""
    peak = int(np.argmax(np.abs(values) if signed else values))
    row, column = (
        3 * place // size for place, size in zip(np.unravel_index(peak, values.shape), values.shape, strict=True)
    )
    words = (("top", "", "bottom")[int(row)], ("left", "", "right")[int(column)])
    return " ".join(filter(None, words)) or "middle"
