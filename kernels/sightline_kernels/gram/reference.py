"""The definition, in NumPy, in float64; and what every form makes of its arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

Normalisation = Literal["none", "position", "element"]
Floats = NDArray[np.float32]

SLICE = 1024  # positions whose products are added in float32; the sums of slices are added in float64


def gram(maps: NDArray[Any], *, per: Normalisation = "position", threads: int | None = None) -> Floats:  # noqa: ARG001
    """Products of every two channels, summed over positions (Gatys, Ecker, Bethge, NIPS 2015).

    Args:
        maps: (B, C, P) or (B, C, H, W), float32, float16 or bfloat16 (of ml_dtypes).
        per: what the sums are divided by. "none": nothing. "position": P, so that maps of one layer compare whatever
            the image's size; the mean product. "element": C * P, as many implementations of style transfer have it.
        threads: how many; all cores unless given.

    Returns:
        (B, C, C) float32, symmetric.

    Raises:
        ValueError: another shape or type.
    """
    flat = checked(maps)
    wide = widened(flat).astype(np.float64)
    return (wide @ wide.transpose(0, 2, 1) * scale(flat.shape[1], flat.shape[2], per)).astype(np.float32)


def gram_of_chunks(
    chunks: Iterable[NDArray[Any]],
    *,
    per: Normalisation = "position",
    threads: int | None = None,  # noqa: ARG001  the signature of all forms
) -> Floats:
    """The Gram matrix of maps that come in pieces along the positions, in order; the same bits for any pieces.

    Sums run over slices of `SLICE` positions counted from the first one, wherever pieces begin: an unfinished slice
    waits for the next piece. ``gram`` of the whole maps is the same bits, too.

    Args:
        chunks: (B, C, p) each, of any p, at least one.
        per: as ``gram`` has it, of all positions.
        threads: how many; all cores unless given.

    Raises:
        ValueError: no piece, or pieces that do not match.
    """
    return gram(np.concatenate([checked(one) for one in chunks], axis=2), per=per)


def checked(maps: NDArray[Any]) -> NDArray[Any]:
    """Maps as (B, C, P)."""
    if maps.ndim not in (3, 4) or maps.shape[1] == 0:
        raise ValueError(f"Maps are (B, C, P) or (B, C, H, W) with C > 0; got {maps.shape}.")
    if maps.dtype.name not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"Maps are float32, float16 or bfloat16; got {maps.dtype}.")
    return maps if maps.ndim == 3 else maps.reshape(*maps.shape[:2], maps.shape[2] * maps.shape[3])


def widened(maps: NDArray[Any]) -> Floats:
    """The same numbers in float32."""
    if maps.dtype.name == "bfloat16":  # the upper half of a float32
        return (maps.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return maps.astype(np.float32, copy=False)


def scale(channels: int, positions: int, per: str) -> float:
    """What sums over positions are multiplied with."""
    if per not in get_args(Normalisation):
        raise ValueError(f"Normalisation {per!r} is none of {', '.join(get_args(Normalisation))}.")
    parts = {"none": 1, "position": positions, "element": channels * positions}
    return 1.0 / max(1, parts[cast(Normalisation, per)])
