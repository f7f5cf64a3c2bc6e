"""In CuPy: products by cuBLAS, of each block of channels with itself and those after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline_kernels.gram.reference import SLICE, Floats, Normalisation, checked, scale

CHANNELS = 128  # of a block: of 512 channels 10 of 16 blocks are computed
CHUNK = 64 * SLICE  # positions on the device at a time: 1 GiB of 8 x 512 channels


def gram(
    maps: NDArray[Any],
    *,
    per: Normalisation = "position",
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> Floats:
    """Products of every two channels; see the reference. Not yet run on a GPU: its logic is proven on a CPU."""
    flat = checked(maps)
    starts = range(0, max(flat.shape[2], 1), CHUNK)
    return gram_of_chunks((flat[:, :, start : start + CHUNK] for start in starts), per=per)


def gram_of_chunks(
    chunks: Iterable[NDArray[Any]],
    *,
    per: Normalisation = "position",
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> Floats:
    """The Gram matrix of maps that come in pieces along the positions; see the reference.

    All products have one shape, an unfinished slice is filled up with zeros: cuBLAS, which chooses its algorithm by
    the shape, then gives the same bits for any pieces.
    """
    import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

    device: Any = cupy
    total, positions = None, 0
    for piece in _slices(device, chunks):
        batch, channels, count = piece.shape
        positions += count
        if count < SLICE:
            piece = device.pad(piece, ((0, 0), (0, 0), (0, SLICE - count)))
        if total is None:
            total = device.zeros((batch, channels, channels), np.float64)
        for first in range(0, channels, CHANNELS):
            rows, columns = piece[:, first : first + CHANNELS], piece[:, first:]
            total[:, first : first + CHANNELS, first:] += device.matmul(rows, columns.transpose(0, 2, 1))
    if total is None:
        raise ValueError("There is no piece of the maps.")
    upper = (device.asnumpy(total) * scale(total.shape[1], positions, per)).astype(np.float32)
    return np.triu(upper) + np.triu(upper, 1).transpose(0, 2, 1)


def _slices(device: Any, chunks: Iterable[NDArray[Any]]) -> Iterator[Any]:
    """(B, C, SLICE) float32 on the device, one after the other wherever pieces begin; the last is short or empty."""
    rest = None
    for given in chunks:
        piece = _widened(device, checked(given))
        if rest is not None and piece.shape[:2] != rest.shape[:2]:
            raise ValueError(f"A piece of {piece.shape} follows pieces of {rest.shape[:2]} maps and channels.")
        piece = piece if rest is None else device.concatenate([rest, piece], axis=2)
        whole = piece.shape[2] // SLICE * SLICE
        for start in range(0, whole, SLICE):
            yield device.ascontiguousarray(piece[:, :, start : start + SLICE])
        rest = piece[:, :, whole:]
    if rest is not None:
        yield rest


def _widened(device: Any, maps: NDArray[Any]) -> Any:
    """The same numbers in float32, on the device: they travel as they are."""
    if maps.dtype.name == "bfloat16":  # the upper half of a float32
        return (device.asarray(maps.view(np.uint16)).astype(np.uint32) << 16).view(np.float32)
    return device.asarray(maps).astype(np.float32)
