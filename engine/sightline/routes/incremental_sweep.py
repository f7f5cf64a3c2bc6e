"""A window sweep that computes only what each window changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.graph.incremental_occlusion.rewrite import FILLERS, Picture, Remainder, Source, Sweep
from sightline.target import Outputs, Target
from sightline.types import FloatArray, IntArray
from sightline_kernels.window_index import reference

FIRST = 1024  # windows whose tables NumPy makes, in less time than it takes to import Numba: a first result is sooner
Run = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Base:
    """What is computed once per image.

    Attributes:
        image: (C, H, W).
        fill: (C, H, W) what hidden pixels become.
        maps: (h, w, C) by value.
        integrals: (h + 1, w + 1, C) float64 sums over all positions above and to the left, by value.
    """

    image: FloatArray
    fill: FloatArray
    maps: Mapping[str, FloatArray]
    integrals: Mapping[str, NDArray[np.float64]]


class IncrementalSweep:
    """Feeds a compiled sweep, chunk by chunk, one image after the other.

    Args:
        sweep: compiled for these windows.
        windows: (M, 4) top, left, height, width.
        image: name of the base graph's input.
        run_base: the base graph, opened; None where the sweep needs no base.
        run_sweep: the sweep graph, opened.
        values: what targets read of its outputs.
        whole: the sweep graph takes all rows of every map, not only those that the windows of a run touch.
    """

    def __init__(
        self,
        sweep: Sweep,
        windows: IntArray,
        image: str,
        run_base: Run | None,
        run_sweep: Run,
        values: Callable[[Mapping[str, FloatArray]], Outputs],
        *,
        whole: bool = False,
    ):
        self.together = 1
        self._sweep, self._windows, self._image = sweep, windows, image
        self._run_base, self._run_sweep, self._values, self._whole = run_base, run_sweep, values, whole
        self._seen = 0  # windows so far

    def base(self, images: FloatArray, fills: FloatArray) -> Base:
        """Run one image (1, C, H, W) as it is."""
        (image,), (fill,) = images, fills
        found = {} if self._run_base is None else self._run_base({self._image: image[None]})
        maps = {name.removesuffix("@base"): value[0] for name, value in found.items()}
        wanted = dict.fromkeys(one.value for one in self._sweep.remainders)
        return Base(image, fill, maps, {name: _integral(maps[name]) for name in wanted})

    def feed(self, base: Base, rows: IntArray) -> dict[str, NDArray[Any]]:
        """Inputs of the sweep graph for some of the windows."""
        feed: dict[str, NDArray[Any]] = {}
        for picture in self._sweep.pictures:
            feed[picture.input] = _assembled(base, picture, self._windows[rows], rows)
        self._seen += len(rows)
        window_index = _compiled() if self._seen > FIRST else reference.window_index
        for source in self._sweep.sources:
            feed |= _tables(base.maps[source.value], source, rows, window_index, whole=self._whole)
        for one in self._sweep.remainders:
            feed[one.input] = _outside(base.integrals[one.value], one, rows)
        return feed

    def scores(self, base: Base, owners: IntArray, rows: IntArray, target: Target) -> FloatArray:
        """(m,) of some of the windows; ``target`` is bound to them, and all are of the one image."""
        outputs = self._run_sweep(self.feed(base, rows))
        return np.asarray(target.value(self._values(outputs)), np.float32)


def _assembled(base: Base, picture: Picture, windows: IntArray, rows: IntArray) -> FloatArray:
    """(m, C, h, w) cuts of the image with each window hidden."""
    channels, height, width = base.image.shape
    h, w = picture.cut.rows.size, picture.cut.columns.size
    found = np.full((len(windows), channels, h, w), picture.filler, np.float32)
    places = zip(picture.cut.rows.start[rows], picture.cut.columns.start[rows], windows, strict=True)
    for made, (top, left, window) in zip(found, places, strict=True):
        _paste(made, base.image, (top, left), (0, 0, height, width))
        _paste(made, base.fill, (top, left), tuple(int(n) for n in window))
    return found


def _paste(made: FloatArray, image: FloatArray, place: tuple[int, int], window: tuple[int, ...]) -> None:
    """Copy a window (top, left, height, width) of an image to where it lies in a cut of the image at ``place``."""
    top, left = max(window[0], place[0]), max(window[1], place[1])
    bottom = min(window[0] + window[2], place[0] + made.shape[1])
    right = min(window[1] + window[3], place[1] + made.shape[2])
    if bottom > top and right > left:
        made[:, top - place[0] : bottom - place[0], left - place[1] : right - place[1]] = image[
            :, top:bottom, left:right
        ]


def _compiled() -> Callable[..., NDArray[np.int32]]:
    """The same kernel, several times as fast."""
    from sightline_kernels.window_index.cpu import window_index

    return window_index


def _tables(
    activations: FloatArray,
    source: Source,
    rows: IntArray,
    window_index: Callable[..., NDArray[np.int32]],
    *,
    whole: bool,
) -> dict[str, NDArray[Any]]:
    """The base's rows that the windows of this chunk touch, and the tables that index them."""
    height, width, channels = activations.shape
    cuts = [table.cut.rows for table in source.tables]
    first = 0 if whole else max(0, min(int(cut.start[rows].min()) for cut in cuts))
    last = height if whole else min(height, max(int(cut.start[rows].max()) + cut.size for cut in cuts))
    band = activations[first:last].reshape(-1, channels)  # a view: whole lines of the map
    feed: dict[str, NDArray[Any]] = {source.band: band}
    for table in source.tables:
        feed[table.input] = window_index(
            (table.cut.rows.start[rows], table.cut.columns.start[rows]),
            (table.cut.rows.size, table.cut.columns.size),
            (source.cut.rows.start[rows], source.cut.columns.start[rows]),
            (source.cut.rows.size, source.cut.columns.size),
            (height, width),
            (first, last),
            len(band) + FILLERS[table.filler],
            len(band) + len(FILLERS),
        )
    return feed


def _integral(activations: FloatArray) -> NDArray[np.float64]:
    height, width, channels = activations.shape
    sums = np.zeros((height + 1, width + 1, channels))
    sums[1:, 1:] = activations.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    return sums


def _outside(integral: NDArray[np.float64], remainder: Remainder, rows: IntArray) -> FloatArray:
    """(m, C, 1, 1) sums over all positions that the cut leaves out."""
    top, left = remainder.cut.rows.start[rows], remainder.cut.columns.start[rows]
    bottom, right = top + remainder.cut.rows.size, left + remainder.cut.columns.size
    inside = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return (integral[-1, -1] - inside).astype(np.float32)[:, :, None, None]
