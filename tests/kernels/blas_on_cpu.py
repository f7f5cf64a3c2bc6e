"""The few functions of cuBLAS that kernels call, on addresses of the host: what its manual says, column by column."""

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
    """Stands for ``cupy.cuda.cublas``; remembers the mode that products were made in."""

    def __init__(self) -> None:
        self.mode, self.modes, self.calls = 0, list[int](), 0

    def getMathMode(self, handle: int) -> int:
        return self.mode

    def setMathMode(self, handle: int, mode: int) -> None:
        self.mode = mode

    def gemm(self, ta, tb, m, n, k, alpha, a, lda, akind, b, ldb, bkind, beta, c, ldc, ckind) -> None:
        left = matrix(a, *((k, m) if ta else (m, k)), lda, akind)
        right = matrix(b, *((n, k) if tb else (k, n)), ldb, bkind)
        out = matrix(c, m, n, ldc, ckind)
        product = (left.T if ta else left).astype(np.float32) @ (right.T if tb else right).astype(np.float32)
        out[...] = number(alpha) * product + (number(beta) * out if number(beta) else 0)

    def sgemmBatched(self, handle, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count) -> None:
        self.modes.append(self.mode)
        self.calls += 1
        lists = [np.frombuffer((ctypes.c_char * (8 * count)).from_address(one), np.int64) for one in (a, b, c)]
        for left, right, out in zip(*lists, strict=True):
            kind = np.float32
            self.gemm(ta, tb, m, n, k, alpha, int(left), lda, kind, int(right), ldb, kind, beta, int(out), ldc, kind)

    def gemmEx(
        self, handle, ta, tb, m, n, k, alpha, a, akind, lda, b, bkind, ldb, beta, c, ckind, ldc, compute, algo
    ) -> None:
        self.modes.append(compute)
        kinds = [TYPES[kind] for kind in (akind, bkind, ckind)]
        self.gemm(ta, tb, m, n, k, alpha, a, lda, kinds[0], b, ldb, kinds[1], beta, c, ldc, kinds[2])

    def gemmStridedBatchedEx(
        self, handle, ta, tb, m, n, k, alpha, a, akind, lda, astride, b, bkind, ldb, bstride, beta, c, ckind, ldc,
        cstride, count, compute, algo,
    ) -> None:  # fmt: skip
        kinds = [TYPES[kind] for kind in (akind, bkind, ckind)]
        sizes = [np.dtype(kind).itemsize for kind in kinds]
        for i in range(count):
            self.gemmEx(
                handle, ta, tb, m, n, k, alpha, a + i * astride * sizes[0], akind, lda, b + i * bstride * sizes[1],
                bkind, ldb, beta, c + i * cstride * sizes[2], ckind, ldc, compute, algo,
            )  # fmt: skip


def with_blas(cupy: Any) -> Blas:
    """Give a stand-in for CuPy a cuBLAS."""
    blas = Blas()
    cupy.cuda = SimpleNamespace(cublas=blas, device=SimpleNamespace(get_cublas_handle=lambda: 0))
    return blas
