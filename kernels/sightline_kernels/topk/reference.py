"""The definition, in NumPy, and what every form makes of its arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def topk(values: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest of every row, largest first; of equal ones the first.

    Args:
        values: (B, N) float32, infinite or finite.
        k: 1 to N.

    Returns:
        (B, k) values and their places in the row.

    Raises:
        ValueError: another shape or type, k out of range, or something that is no number.
    """
    check(values, k)
    if np.isnan(values).any():
        raise not_a_number(int(np.isnan(values).any(axis=1).argmax()))
    places = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, places, axis=1), places


def check(values: Floats, k: int) -> None:
    """Shape, type and k."""
    if values.ndim != 2 or values.dtype != np.float32:
        raise ValueError(f"Values are (B, N) float32; got {values.shape} {values.dtype}.")
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k={k} of rows of {values.shape[1]} numbers: it must be 1 to that.")


def not_a_number(row: int) -> ValueError:
    """What is raised where a row cannot be ordered."""
    return ValueError(f"Row {row} holds NaN, which is neither larger nor smaller than anything.")
