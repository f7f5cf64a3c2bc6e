"""Pictures painted in one pass, whole or tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.errors import UsageError
from sightline.graph.fold_norm import FoldNorm
from sightline.graph.freeze_norm import MEAN, VARIANCE, FreezeNorm, PoolNorm, Statistics, normalisations
from sightline.graph.mix_norm import MixNorm
from sightline.routes.base import Settings
from sightline.routes.sessions import open_graph
from sightline.styles.reach import reach_of
from sightline.styles.shares import mix
from sightline.styles.style import Style
from sightline.types import ByteArray, FloatArray

UNIT = 4  # what the network's sides are multiples of
MARGIN = 16  # mirrored pixels beyond each edge, where the network sees nothing but zeros
LOOKS, LOOK = 4, 256  # a large picture's statistics are those of 4 x 4 pieces of 256 pixels, spread evenly


@dataclass(frozen=True)
class Stylist:
    """Paints with one style, or one mix of several.

    Attributes:
        style: the network.
        settings: device and threads.
        tile: side of the tiles that pictures of more than 1.5 times as many pixels are painted in.
        shares: of a network's styles by name, in proportion; all of the first unless given.
    """

    style: Style
    settings: Settings = Settings()  # noqa: RUF009 - frozen
    tile: int = 1024
    shares: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.shares is not None and not self.style.names:
            raise UsageError(f"{self.style.name} holds one style: there is nothing to mix. Leave its shares out.")
        if self.tile < 2 * self.reach:
            raise UsageError(
                f"tile={self.tile} must be at least {2 * self.reach} pixels, twice what a pixel depends on."
            )

    @cached_property
    def graph(self) -> ir.Model:
        """Of a single style: shares become constants first of all, so that statistics can be folded."""
        style = self.style
        return MixNorm(mix(style.names, self.shares))(style.graph) if style.names else style.graph

    @cached_property
    def reach(self) -> int:
        """Pixels that a painted pixel depends on to each side."""
        return reach_of(self.graph, UNIT)

    def paint(self, pictures: Sequence[ByteArray]) -> list[ByteArray]:
        """Paintings of pictures (H, W, 3) uint8 sRGB, each of its own size; neighbours of one size share a run."""
        found = list[ByteArray]()
        for group in _alike(pictures):
            if self._is_large(group[0]):
                found += [self.paint_tiled(picture) for picture in group]
            else:
                found += list(_run(self._whole, np.stack([_widened(picture) for picture in group]), group[0]))
        return found

    def paint_tiled(self, picture: ByteArray) -> ByteArray:
        """A painting (H, W, 3) made tile by tile, all normalised by the statistics of the picture.

        Tiles overlap by what a pixel depends on, so that they agree where they meet.
        """
        wide = _widened(picture)
        session = self._frozen(self.statistics(wide))
        painted = np.empty_like(wide)
        for top, bottom in pairwise(_cuts(wide.shape[0], self.tile)):
            for left, right in pairwise(_cuts(wide.shape[1], self.tile)):
                rows, columns = (
                    slice(max(0, low - self.reach), high + self.reach) for low, high in ((top, bottom), (left, right))
                )
                piece = _pixels(_painted(session, wide[None, rows, columns]))[0]
                above, before = top - rows.start, left - columns.start
                painted[top:bottom, left:right] = piece[above : above + bottom - top, before : before + right - left]
        return _narrowed(painted, picture)

    def statistics(self, wide: ByteArray) -> Statistics:
        """Mean and variance that every normalisation would see, from pieces at full size.

        A picture shrunk to a size that fits would be another: its strokes and edges are finer, and the network
        answers them otherwise.
        """
        height, width = wide.shape[:2]
        side = min(LOOK, height // UNIT * UNIT, width // UNIT * UNIT)
        tops, lefts = (np.linspace(0, length - side, LOOKS).astype(int) for length in (height, width))
        pieces = np.stack([wide[top : top + side, left : left + side] for top in tops for left in lefts])
        names = normalisations(self.graph)
        wanted = [f"{name}{suffix}" for name in names for suffix in (MEAN, VARIANCE)]
        values = self._pooled.run(wanted, {self._input: _tensor(pieces)})
        return dict(zip(names, zip(values[::2], values[1::2], strict=True), strict=True))

    def _is_large(self, picture: ByteArray) -> bool:
        return picture.shape[0] * picture.shape[1] > 1.5 * self.tile**2

    @property
    def _input(self) -> str:
        return str(self.graph.graph.inputs[0].name)

    @cached_property
    def _whole(self) -> Any:
        return open_graph(self.graph, self.settings, self.style.name)

    @cached_property
    def _pooled(self) -> Any:
        return open_graph(PoolNorm()(self.graph), self.settings, self.style.name)

    def _frozen(self, statistics: Statistics) -> Any:
        """A session without any normalisation left: known statistics are folded into the convolutions."""
        return open_graph(FoldNorm()(FreezeNorm(statistics)(self.graph)), self.settings, self.style.name)


def blended(picture: ByteArray, painting: ByteArray, strength: float) -> ByteArray:
    """The share ``strength`` of the painting, the rest of the picture."""
    mixed = picture + np.float32(strength) * (painting.astype(np.float32) - picture)
    return np.rint(mixed).astype(np.uint8)


def _alike(pictures: Sequence[ByteArray]) -> Iterator[list[ByteArray]]:
    """Runs of pictures of one size."""
    group = list[ByteArray]()
    for picture in pictures:
        if group and group[-1].shape != picture.shape:
            yield group
            group = []
        group.append(picture)
    if group:
        yield group


def _run(session: Any, wide: ByteArray, like: ByteArray) -> Iterator[ByteArray]:
    for painting in _pixels(_painted(session, wide)):
        yield _narrowed(painting, like)


def _painted(session: Any, pictures: ByteArray) -> FloatArray:
    """(B, 3, H, W) of 0 to 1 for pictures (B, H, W, 3)."""
    (found,) = session.run(None, {session.get_inputs()[0].name: _tensor(pictures)})
    return found


def _tensor(pictures: ByteArray) -> FloatArray:
    return np.ascontiguousarray(np.moveaxis(pictures, -1, 1), np.float32) / np.float32(255)


def _pixels(paintings: FloatArray) -> ByteArray:
    return np.rint(np.moveaxis(paintings, 1, -1) * np.float32(255)).clip(0, 255).astype(np.uint8)


def _widened(picture: ByteArray) -> ByteArray:
    """With a mirrored margin, and as much more below and to the right as makes the sides multiples of 4."""
    places: list[NDArray[np.int64]] = []
    for side in picture.shape[:2]:
        reach = np.arange(-MARGIN, side + MARGIN + -side % UNIT) % (2 * side)
        places.append(np.where(reach < side, reach, 2 * side - 1 - reach))
    return picture[places[0]][:, places[1]]


def _narrowed(painting: ByteArray, like: ByteArray) -> ByteArray:
    return painting[MARGIN : MARGIN + like.shape[0], MARGIN : MARGIN + like.shape[1]]


def _cuts(length: int, tile: int) -> list[int]:
    """Where tiles begin and the last one ends; all about as large, at multiples of 4."""
    count = -(-length // tile)
    return [length * place // count // UNIT * UNIT for place in range(count)] + [length]
