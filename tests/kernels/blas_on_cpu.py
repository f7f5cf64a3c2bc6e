"""The function of cuBLAS that kernels call, on addresses of the host: what its manual says, column by column."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

TYPES = {0: np.float32, 2: np.float16}


def matrix(address: int, rows: int, columns: int, leading: int, kind: type) -> np.ndarray:
    """A view of a matrix whose columns lie ``leading`` numbers apart."""
    assert leading >= rows
    size = (leading * (columns - 1) + rows) * np.dtype(kind).itemsize
    flat = np.frombuffer((ctypes.c_char * size).from_address(address), kind)
    step = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (step, step * leading))


def number(address: int) -> np.float32:
    return np.frombuffer((ctypes.c_char * 4).from_address(address), np.float32)[0]


class Blas:
    """Stands for ``cupy.cuda.cublas``; remembers what products were made in."""

    def __init__(self) -> None:
        self.modes, self.math, self.mode = list[int](), list[int](), 0

    def getMathMode(self, handle: int) -> int:
        return self.mode

    def setMathMode(self, handle: int, mode: int) -> None:
        self.mode = mode

    def gemmEx(
        self, handle, ta, tb, m, n, k, alpha, a, akind, lda, b, bkind, ldb, beta, c, ckind, ldc, compute, algo
    ) -> None:
        self.modes.append(compute)
        self.math.append(self.mode)
        left = matrix(a, *((k, m) if ta else (m, k)), lda, TYPES[akind])
        right = matrix(b, *((n, k) if tb else (k, n)), ldb, TYPES[bkind])
        out = matrix(c, m, n, ldc, TYPES[ckind])
        product = (left.T if ta else left).astype(np.float32) @ (right.T if tb else right).astype(np.float32)
        out[...] = number(alpha) * product + (number(beta) * out if number(beta) else 0)


def with_blas(cupy: Any) -> Blas:
    """Give a stand-in for CuPy a cuBLAS."""
    blas = Blas()
    cupy.cuda = SimpleNamespace(cublas=blas, device=SimpleNamespace(get_cublas_handle=lambda: 0))
    return blas
