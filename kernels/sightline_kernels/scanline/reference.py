"""The definition, in NumPy: one pixel after the other, against every window of the sample."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sightline_kernels.scanline.task import Bools, Bytes, Order, Task, Tell, draw

EVERY = 64  # pixels between two reports


def synthesise(
    sample: Bytes,
    canvas: Bytes,
    known: Bools,
    *,
    window: int = 11,
    tolerance: float = 0.1,
    seed: int = 0,
    order: Order = "scanline",
    tileable: bool = False,
    usable: Bools | None = None,
    tell: Tell | None = None,
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> NDArray[np.int64]:
    """Fill the unknown pixels of a canvas, in place, with pixels of a sample (Efros, Leung, ICCV 1999).

    Each pixel is copied from one of the candidates whose window differs least from its own: the weighted sum of
    squared differences over what is known there, at most (1 + tolerance) times the least one. Among these one is
    drawn, by the seed and the pixel's place alone. We differ in that the order of the pixels is settled before, by
    the mask alone, so that pixels that do not see each other can be made at once; that weights are whole numbers, so
    that all forms agree in every bit; and that a poor match is taken rather than put off.

    Args:
        sample: (h, w, C) uint8.
        canvas: (H, W, C) uint8; its unknown pixels are written.
        known: (H, W); pixels are marked once they are made. At least one should be known, or the first is any.
        window: side of the neighbourhood, odd, pixels: as large as the texture's largest regular feature.
        tolerance: of a candidate's distance above the least.
        seed: other seeds give other textures.
        order: "scanline", or "outward" from what is known, for growing and for holes.
        tileable: the canvas is a torus: its right edge meets its left, its lower edge its upper.
        usable: (h, w) pixels of the sample that may be seen; all unless given.
        tell: called now and then with the pixels done and in all; stops the work by returning False.
        threads: how many; all cores unless given.

    Returns:
        (H, W) number (row * w + column) of the pixel of the sample that each pixel was copied from; -1 elsewhere.

    Raises:
        ValueError: see ``Task.of``.
    """
    task = Task.of(sample, canvas, known, window, tolerance, seed, order, tileable, usable)
    sources = np.full(known.shape, -1, np.int64)
    if not len(task.order):
        return sources
    lines, columns = np.divmod(task.candidates, sample.shape[1])
    windows = sliding_window_view(sample.astype(np.int64), (window, window), axis=(0, 1))  # (., ., C, window, window)
    windows = windows[lines - task.reach, columns - task.reach]  # (N, C, window, window)
    for done, pixel in enumerate(task.order):
        seen, weights = _neighbourhood(task, int(pixel))
        distances = (np.square(windows - seen).sum(axis=1) * weights).sum(axis=(1, 2))  # (N,)
        near = np.flatnonzero(distances <= np.int64(min(distances.min() * (1.0 + tolerance), 2.0**31)))
        drawn = int(draw(seed, pixel[None])[0]) * len(near) >> 32
        source = task.candidates[near[drawn]]
        canvas.reshape(-1, canvas.shape[2])[pixel] = sample.reshape(-1, sample.shape[2])[source]
        known.ravel()[pixel], sources.ravel()[pixel] = True, source
        if tell is not None and (done + 1) % EVERY == 0 and not tell(done + 1, len(task.order)):
            break
    return sources


def _neighbourhood(task: Task, pixel: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Colours (C, window, window) around a pixel, and weights (window, window): 0 where nothing is known."""
    height, width = task.known.shape
    steps = np.arange(-task.reach, task.reach + 1)
    lines, columns = pixel // width + steps, pixel % width + steps
    if task.tileable:
        inside = np.ones((task.window, task.window), np.bool_)
    else:
        inside = ((lines >= 0) & (lines < height))[:, None] & (columns >= 0) & (columns < width)
    where = np.ix_(lines % height, columns % width)
    seen = inside & task.known[where]
    return task.canvas[where].transpose(2, 0, 1).astype(np.int64), task.weights.astype(np.int64) * seen
