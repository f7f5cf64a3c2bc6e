"""CUDA sources without a GPU: compiled for one by NVIDIA's compiler, and run thread after thread on a CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

SHIM = """
#include <cmath>
#include <cstring>
struct Place { long long x; };
static Place blockIdx, blockDim, threadIdx;
#define __global__
#define __device__
static int atomicAdd(int* where, int what) { int before = *where; *where += what; return before; }
static double __dadd_rn(double a, double b) { return a + b; }
static double __dsub_rn(double a, double b) { return a - b; }
static double __dmul_rn(double a, double b) { return a * b; }
static double __ddiv_rn(double a, double b) { return a / b; }
static double __dsqrt_rn(double a) { return std::sqrt(a); }
static float __fmul_rn(float a, float b) { return a * b; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fsub_rn(float a, float b) { return a - b; }
static unsigned __float_as_uint(float a) { unsigned bits; std::memcpy(&bits, &a, 4); return bits; }
static float __uint_as_float(unsigned bits) { float a; std::memcpy(&a, &bits, 4); return a; }
extern "C" void at(long long block, long long size, long long thread) {
    blockIdx.x = block; blockDim.x = size; threadIdx.x = thread;
}
"""
SCALARS = {
    np.dtype(np.int64): ctypes.c_longlong, np.dtype(np.int32): ctypes.c_int, np.dtype(np.float32): ctypes.c_float,
    np.dtype(np.float64): ctypes.c_double, np.dtype(np.uint64): ctypes.c_ulonglong,
}  # fmt: skip


def compiles(source: str, chip: str) -> None:
    """Fails unless NVRTC takes a source for a chip; skips where it is not installed, which the dev extra does."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVIDIA's run-time compiler is not installed")
    try:
        _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], [])
    except RuntimeError as missing:
        pytest.skip(f"NVIDIA's run-time compiler is not installed: {missing}")
    (status,) = nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={chip}".encode()])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert int(status) == 0, log.decode()


def numpy_as_cupy() -> SimpleNamespace:
    """NumPy in CuPy's place, for what needs no kernel of its own."""
    made = SimpleNamespace(**{name: getattr(np, name) for name in dir(np) if not name.startswith("_")})
    made.asnumpy = np.asarray
    return made


def stand_in(source: str, folder: Path) -> SimpleNamespace:
    """NumPy in CuPy's place, whose ``RawModule`` holds the functions of one source as a C++ compiler makes them."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    (folder / "kernel.cpp").write_text(SHIM + source)
    flags = ["-O2", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, folder / "kernel.cpp", "-o", folder / "it.so"], check=True)
    library = ctypes.CDLL(str(folder / "it.so"))
    library.at.argtypes = [ctypes.c_longlong] * 3

    def function(name: str) -> Callable[..., None]:
        def run(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            given = [
                ctypes.c_void_p(one.ctypes.data) if isinstance(one, np.ndarray) else SCALARS[one.dtype](one)
                for one in arguments
            ]
            assert all(not isinstance(one, np.ndarray) or one.flags.c_contiguous for one in arguments)
            for n in range(grid[0]):
                for thread in range(block[0]):
                    library.at(n, block[0], thread)
                    getattr(library, name)(*given)

        return run

    made = numpy_as_cupy()
    made.RawModule = lambda code: SimpleNamespace(get_function=function)
    return made
