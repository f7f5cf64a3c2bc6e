"""Tiles of a picture whose features, put together, are those of the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from sightline.errors import UsageError
from sightline.graph.receptive import Axis, ReceptiveField

Place = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True)
class Tile:
    """A part of a picture.

    Attributes:
        seen: pixels that the network is shown: the tile and a margin as wide as a receptive field.
        kept: by layer, the positions of what it then computes that belong to the tile.
        place: by layer, where those lie in what is kept of the whole picture's map.
    """

    seen: Place
    kept: Mapping[str, Place]
    place: Mapping[str, Place]


ALL = (slice(None), slice(None))


def mosaic(
    fields: Mapping[str, ReceptiveField | None], size: tuple[int, int], side: int | None, margin: int = 0
) -> tuple[Tile, ...]:
    """The tiles of a picture of a size; one that is all of it where ``side`` is None or no side is longer.

    Positions whose field has its middle in the margin are not kept, unless a layer has no others, or sees the whole
    picture.

    Args:
        fields: by layer.
        size: height and width of the picture.
        side: of a tile in pixels, made a multiple of the layers' strides.
        margin: pixels along the picture's border.

    Raises:
        UsageError: a layer sees the whole picture, so that no tile holds what it needs.
    """
    if side is None or max(size) <= side:
        kept = {
            name: ALL
            if field is None
            else (_inner(field.rows, size[0], margin), _inner(field.columns, size[1], margin))
            for name, field in fields.items()
        }
        return (Tile(ALL, kept, dict.fromkeys(fields, ALL)),)
    known = {name: field for name, field in fields.items() if field is not None}
    if len(known) < len(fields):
        lost = ", ".join(repr(name) for name in fields if name not in known)
        raise UsageError(f"tile={side}: {lost} sees the whole picture, so it cannot be cut. Leave tile out.")
    rows = _parts({name: field.rows for name, field in known.items()}, size[0], side, margin)
    columns = _parts({name: field.columns for name, field in known.items()}, size[1], side, margin)
    return tuple(
        Tile(
            (down.seen, across.seen),
            {name: (down.kept[name], across.kept[name]) for name in known},
            {name: (down.place[name], across.place[name]) for name in known},
        )
        for down in rows
        for across in columns
    )


@dataclass(frozen=True)
class _Part:
    """A tile along one axis."""

    seen: slice
    kept: Mapping[str, slice]
    place: Mapping[str, slice]


def _inner(axis: Axis, length: int, margin: int) -> slice:
    """Positions whose middle lies in the picture without its margin; all of them where there are none."""
    if not margin:
        return slice(None)
    middle = (axis.low + axis.high) / 2
    first = max(0, math.ceil((margin - middle) / axis.jump))
    last = math.floor((length - 1 - margin - middle) / axis.jump)
    return slice(first, last + 1) if first <= last else slice(None)


def _parts(axes: Mapping[str, Axis], length: int, side: int, margin: int) -> list[_Part]:
    unit = math.lcm(*(math.ceil(axis.jump) for axis in axes.values()))
    reach = unit * math.ceil(max(axis.size for axis in axes.values()) / unit)
    step = unit * max(1, side // unit)
    starts = [start for start in range(0, length, step) if start == 0 or length - start >= unit]
    inner = {name: _inner(axis, length, margin) for name, axis in axes.items()}
    return [_part(axes, inner, start, end, reach, length) for start, end in pairwise([*starts, length])]


def _part(
    axes: Mapping[str, Axis], inner: Mapping[str, slice], start: int, end: int, reach: int, length: int
) -> _Part:
    """Pixels ``start`` to ``end``; the last part also keeps what the network makes of the border, if anybody does."""
    first, last = max(0, start - reach), min(length, end + reach)
    kept, place = dict[str, slice](), dict[str, slice]()
    for name, axis in axes.items():
        jump = int(axis.jump)
        begins, ends = start // jump, None if end == length else end // jump
        if inner[name].stop is not None:
            begins = min(max(begins, inner[name].start), inner[name].stop)
            ends = inner[name].stop if ends is None else max(begins, min(ends, inner[name].stop))
        kept[name] = slice(begins - first // jump, None if ends is None else ends - first // jump)
        before = inner[name].start or 0
        place[name] = slice(begins - before, None if ends is None else ends - before)
    return _Part(slice(first, last), kept, place)
