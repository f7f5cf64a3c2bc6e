"""A window sweep that runs the whole network for every window."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from sightline.abilities import SweepChunk
from sightline.target import Target
from sightline.types import FloatArray


def dense_sweep(
    score: Callable[[FloatArray, Target], FloatArray],
    images: FloatArray,
    windows: NDArray[np.int64],
    fill: FloatArray,
    target: Target,
    batch: int,
) -> Iterator[SweepChunk]:
    """Scores of every image with each window hidden in turn.

    One buffer of ``batch`` copies is kept; before a run the windows are painted into it, after it they are
    restored from the image, so that memory does not depend on the number of windows and no mask is ever made.

    Args:
        score: (b, C, H, W) and a bound target to (b,) scores.
        images: (B, C, H, W).
        windows: (M, 4) top, left, height, width.
        fill: what a hidden pixel becomes, broadcast against (B, C, H, W).
        target: bound to the B images.
        batch: rows of the buffer.
    """
    fills = np.broadcast_to(fill, images.shape)
    buffer = np.empty((min(batch, len(windows)), *images.shape[1:]), dtype=np.float32)
    for image in range(len(images)):
        buffer[:] = images[image]
        for start in range(0, len(windows), batch):
            chunk = windows[start : start + batch]
            for row, (top, left, height, width) in enumerate(chunk):
                place = np.s_[:, top : top + height, left : left + width]
                buffer[row][place] = fills[image][place]
            scores = score(buffer[: len(chunk)], target.take([image] * len(chunk)))
            yield SweepChunk(image, slice(start, start + len(chunk)), scores)
            for row, (top, left, height, width) in enumerate(chunk):
                place = np.s_[:, top : top + height, left : left + width]
                buffer[row][place] = images[image][place]
