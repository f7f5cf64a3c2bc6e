"""Photographs that are nearly the same picture: maps of five copies are alike without a mark in any of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from sightline.types import ByteArray, IntArray

SIDE = 16  # pixels of the pictures that are compared
SAME = 0.95  # correlation of pixels from which two are one: copies have 0.99, of 800 photographs no two 0.9


def firsts(views: Sequence[ByteArray]) -> IntArray:
    """(n,) place of the first photograph that each one (H, W, 3) nearly repeats, its own where it repeats none.

    Compared in pixels, made small and freed of brightness and contrast, not in features: those of a network that
    reads a mark are alike wherever the mark is. What hangs together by pairs is one.
    """
    if len(views) == 0:
        return np.zeros(0, np.int64)
    small = [cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel() for one in views]
    rows = np.stack(small).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    _, groups = connected_components(rows @ rows.T >= SAME, directed=False)
    return np.array([int(np.flatnonzero(groups == one)[0]) for one in groups], np.int64)
