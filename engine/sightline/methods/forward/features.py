"""Descriptors of images: what layers say of them, pooled, and their pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sightline.abilities import Taps
from sightline.bank.space import PIXELS, Space
from sightline.errors import UsageError
from sightline.registry import method
from sightline.target import Target
from sightline.types import Batch, FloatArray, Photo, Provenance

Pool = Literal["avg", "max", "gem", "none", "gram"]
POWER = 3.0  # of gem, as its authors use it


@dataclass(frozen=True)
class Descriptors:
    """What a bank holds of B images.

    Attributes:
        values: (B, columns) float32, the spaces side by side.
        photos: one per row.
        spaces: which columns belong together.
    """

    values: FloatArray
    photos: tuple[Photo, ...]
    spaces: tuple[Space, ...]
    provenance: Provenance | None = None

    def __len__(self) -> int:
        return len(self.photos)

    def columns(self) -> Mapping[str, Sequence[object]]:
        """Nothing beside the values."""
        return {}


@method(needs=Taps, takes_target=False)
@dataclass(frozen=True, kw_only=True)
class Features:
    """One descriptor per image and layer, or one per position of a layer.

    Pools over positions: their mean, maximum, or generalised mean of power 3 (Radenovic, Tolias, Chum, "Fine-tuning
    CNN Image Retrieval with No Human Annotation", 2019; of positive parts); ``none`` keeps every position, row by
    row; ``gram`` gives the mean products of channels (Gatys, Ecker, Bethge, 2015), each pair once and weighted by the
    square root of 2, so that distances of descriptors are those of the matrices. A layer without positions is taken
    as it is. Pixels are the model's crop, shrunk by the mean over areas, 0 to 1.

    Returns ``Descriptors``: values (B, columns) float32 in units of the layers, signed if the layer is.

    Raises:
        UnknownName: no such layer; the nearest names are suggested.
        UsageError: nothing to describe by, or pixels of images that nobody read from files.
    """

    layers: tuple[str, ...] = ()  # any names that sightline inspect lists; the last one with maps when none is given
    pool: Pool = "avg"  # over the positions
    pixels: int = 0  # side of a thumbnail that is kept beside them; 0 for none
    only_pixels: bool = False  # leave the network out

    def run(self, oracle: Taps, images: Batch, target: Target) -> Descriptors:
        if self.pixels < 0 or (self.only_pixels and not self.pixels):
            raise UsageError(f"pixels={self.pixels} must be the side of a thumbnail: 32, for example.")
        layers = () if self.only_pixels else self.layers or (oracle.deepest_maps,)
        maps = oracle.taps(images.tensor, layers) if layers else {}
        parts, spaces, start = list[FloatArray](), list[Space](), 0
        for layer in dict.fromkeys(layers):
            grid, found = described(maps[layer], self.pool)
            pooled = self.pool if maps[layer].ndim == 4 else "none"
            spaces.append(Space(layer, pooled, start, grid, found.shape[1] // (grid[0] * grid[1])))
            parts.append(found)
            start = spaces[-1].stop
        if self.pixels:
            spaces.append(Space(PIXELS, PIXELS, start, (1, 1), 3 * self.pixels**2))
            parts.append(thumbnails(images.photos, self.pixels))
        return Descriptors(np.concatenate(parts, axis=1), images.photos, tuple(spaces))


def described(maps: FloatArray, pool: Pool) -> tuple[tuple[int, int], FloatArray]:
    """Positions (h, w) that are kept, and descriptors (B, h w D) of maps (B, C, h, w) or (B, D)."""
    numbers = math.prod(maps.shape[1:])
    if maps.ndim != 4:
        return (1, 1), maps.reshape(len(maps), numbers)
    if pool == "none":
        return (maps.shape[2], maps.shape[3]), maps.transpose(0, 2, 3, 1).reshape(len(maps), numbers)
    return (1, 1), POOLS[pool](maps)


def generalised_mean(maps: FloatArray) -> FloatArray:
    """(B, C): the power mean of the positive parts."""
    positive = np.maximum(maps, 0)
    return ((positive**POWER).mean(axis=(2, 3)) ** (1 / POWER)).astype(np.float32)


def gram_rows(maps: FloatArray) -> FloatArray:
    """(B, C (C + 1) / 2): mean over positions of the product of each pair of channels."""
    flat = maps.reshape(*maps.shape[:2], math.prod(maps.shape[2:]))  # (B, C, h w)
    products = flat @ flat.transpose(0, 2, 1) / np.float32(flat.shape[2])  # (B, C, C)
    rows, columns = np.triu_indices(maps.shape[1])
    weights = np.where(rows == columns, 1, np.sqrt(2)).astype(np.float32)
    return products[:, rows, columns] * weights


POOLS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "avg": lambda maps: maps.mean(axis=(2, 3)),
    "max": lambda maps: maps.max(axis=(2, 3)),
    "gem": generalised_mean,
    "gram": gram_rows,
}


def thumbnails(photos: Sequence[Photo], side: int) -> FloatArray:
    """(B, side side 3): pixels of 0 to 1, row by row, red, green, blue.

    Raises:
        UsageError: a photo does not know what the model sees of it.
    """
    from PIL import Image

    found = np.empty((len(photos), side, side, 3), np.float32)
    for row, photo in enumerate(photos):
        if photo.view is None:
            raise UsageError(f"The pixels of {photo.id} are not known: read images from files with sightline.read.")
        found[row] = np.asarray(Image.fromarray(photo.view).resize((side, side), Image.Resampling.BOX))
    return found.reshape(len(photos), 3 * side**2) / np.float32(255)
