"""The definition, in NumPy: one block after the other, against every block of the sample."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sightline_kernels.quilting.task import Place, Task
from sightline_kernels.scanline.task import Bools, Bytes, Tell, draw


def quilt(
    sample: Bytes,
    size: tuple[int, int],
    *,
    block: int = 32,
    overlap: int | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
    tileable: bool = False,
    usable: Bools | None = None,
    tell: Tell | None = None,
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> NDArray[np.int64]:
    """Lay blocks of a sample so that they overlap, each cut where it differs least (Efros, Freeman, SIGGRAPH 2001).

    A block is drawn from those of the sample whose sum of squared differences, over what is there already, is at most
    (1 + tolerance) times the least one. In each overlap, the path of least squared difference across it becomes the
    seam: beyond it lies the new block. We differ in that a block which merely goes on with the sample where its
    neighbour ends, to less than the overlap, is taken only where there is no other: it fits without a fault, and the
    texture would be a copy of the sample up to the sample's edge. Blocks are spread evenly, so that they overlap a
    little more than asked for where the size is no whole number of them.

    Args:
        sample: (h, w, C) uint8.
        size: height and width of the texture, pixels.
        block: side of a block, pixels: larger than the texture's largest regular feature.
        overlap: of blocks, pixels; a sixth of the block unless given.
        tolerance: of a block's distance above the least.
        seed: other seeds give other textures.
        tileable: the canvas is a torus: its right edge meets its left, its lower edge its upper.
        usable: (h, w) pixels of the sample that may be copied; all unless given.
        tell: called now and then with the blocks laid and in all; stops the work by returning False.
        threads: how many; all cores unless given.

    Returns:
        (H, W) number (row * w + column) of the pixel of the sample that each pixel is a copy of; -1 where there is
        none since the work was stopped.

    Raises:
        ValueError: see ``Task.of``.
    """
    task = Task.of(sample, size, block, overlap, tolerance, seed, tileable, usable)
    canvas, sources = np.zeros((*task.extent, sample.shape[2]), np.int64), np.full(task.extent, -1, np.int64)
    blocks = sliding_window_view(sample.astype(np.int64), (block, block), axis=(0, 1))  # (., ., C, block, block)
    numbers = np.arange(sample.shape[0] * sample.shape[1]).reshape(sample.shape[:2])
    places = list(task.places())
    taken = np.zeros((len(places), 2), np.int64)
    for place in places:
        lines = (place.row + np.arange(block)) % task.extent[0], (place.column + np.arange(block)) % task.extent[1]
        where, known = np.ix_(*lines), task.known(place)
        old = canvas[where].transpose(2, 0, 1)  # (C, block, block)
        distances = (np.square(blocks - old) * known).sum(axis=(2, 3, 4))
        allowed = task.allowed(place, taken)
        least = distances[allowed].min()
        near = np.argwhere(allowed & (distances <= np.int64(least * (1.0 + tolerance))))
        row, column = near[int(draw(seed, np.array([place.number]))[0]) * len(near) >> 32]
        new = _newer(place, np.square(blocks[row, column] - old).sum(axis=0))
        canvas[where] = np.where(new[..., None], blocks[row, column].transpose(1, 2, 0), canvas[where])
        sources[where] = np.where(new, numbers[row : row + block, column : column + block], sources[where])
        taken[place.number] = row, column
        if tell is not None and not tell(place.number + 1, len(places)):
            break
    return sources[: size[0], : size[1]]


def _newer(place: Place, errors: NDArray[np.int64]) -> Bools:
    """(block, block) pixels on the new block's side of every seam, its own pixels included."""
    new, side = np.ones(errors.shape, np.bool_), len(errors)
    turned = ((place.left, errors, new), (place.right, errors[:, ::-1], new[:, ::-1]))
    turned += ((place.top, errors.T, new.T), (place.bottom, errors[::-1].T, new[::-1].T))
    for width, strip, part in turned:  # each as if it were at the left
        if width:
            part &= np.arange(side) >= seam(strip[:, :width])[:, None]
    return new


def seam(errors: NDArray[np.int64]) -> NDArray[np.int64]:
    """The column in each line of the path from the first line to the last whose errors' sum is least.

    From line to line it moves by one column at most; of equal paths, the one further left at the last line where
    they part.
    """
    sums = errors.copy()
    for line in range(1, len(errors)):
        padded = np.pad(sums[line - 1], 1, constant_values=np.iinfo(np.int64).max)
        sums[line] += sliding_window_view(padded, 3).min(axis=1)
    path = np.zeros(len(errors), np.int64)
    path[-1] = sums[-1].argmin()
    for line in range(len(errors) - 2, -1, -1):
        first = max(0, path[line + 1] - 1)
        path[line] = first + sums[line, first : path[line + 1] + 2].argmin()
    return path
