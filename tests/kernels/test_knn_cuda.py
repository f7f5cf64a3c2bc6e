"""The CUDA form without a GPU: its source compiles for what it is meant for, and is right when a CPU runs it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sightline_kernels.knn import cuda, reference

SHIM = """
#include <cmath>
struct Place { long long x; };
static Place blockIdx, blockDim, threadIdx;
#define __global__
static int atomicAdd(int* where, int what) { int before = *where; *where += what; return before; }
static double __dadd_rn(double a, double b) { return a + b; }
static double __dsub_rn(double a, double b) { return a - b; }
static double __dmul_rn(double a, double b) { return a * b; }
static double __ddiv_rn(double a, double b) { return a / b; }
static double __dsqrt_rn(double a) { return std::sqrt(a); }
extern "C" void at(long long block, long long size, long long thread) {
    blockIdx.x = block; blockDim.x = size; threadIdx.x = thread;
}
"""


@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
def test_the_source_compiles(chip):
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVIDIA's run-time compiler is not installed")
    try:
        _, program = nvrtc.nvrtcCreateProgram(cuda.SOURCE.encode(), b"knn.cu", 0, [], [])
    except RuntimeError as missing:
        pytest.skip(f"NVIDIA's run-time compiler is not installed: {missing}")
    (status,) = nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={chip}".encode()])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert int(status) == 0, log.decode()


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The source's functions, run thread after thread."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "knn.cpp").write_text(SHIM + cuda.SOURCE)
    command = [compiler, "-O2", "-ffp-contract=off", "-shared", "-fPIC", folder / "knn.cpp", "-o", folder / "knn.so"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(folder / "knn.so"))
    library.at.argtypes = [ctypes.c_longlong] * 3
    scalars = {np.dtype(np.int64): ctypes.c_longlong, np.dtype(np.int32): ctypes.c_int}

    def function(name):
        def run(grid, block, arguments):
            given = [
                ctypes.c_void_p(one.ctypes.data) if isinstance(one, np.ndarray) else scalars[one.dtype](one)
                for one in arguments
            ]
            assert all(not isinstance(one, np.ndarray) or one.flags.c_contiguous for one in arguments)
            for n in range(grid[0]):
                for thread in range(block[0]):
                    library.at(n, block[0], thread)
                    getattr(library, name)(*given)

        return run

    return function


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
@pytest.mark.parametrize("seed", range(2))
def test_the_logic_is_the_definitions(metric, seed, kernels, monkeypatch):
    stand_in = SimpleNamespace(**{name: getattr(np, name) for name in dir(np) if not name.startswith("_")})
    stand_in.asnumpy = np.asarray
    stand_in.RawModule = lambda code: SimpleNamespace(get_function=kernels)
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    monkeypatch.setattr(cuda, "ROOM", 16)
    random = np.random.default_rng(seed)
    bank = np.round(random.standard_normal((90, 21)) * 2).astype(np.float16 if seed else np.float32)
    bank[40:60] = bank[3]
    bank[7] = 0
    asked = random.standard_normal((3, 21)).astype(np.float32)
    asked[0], asked[2] = bank[3], 0
    mask = random.random(90) < 0.8
    expected = reference.search(bank, asked, 12, metric=metric, mask=mask)
    found = cuda.search(np.split(bank, [30, 31]), asked, 12, metric=metric, mask=mask)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    bank[50, 2] = np.nan
    mask[50] = True
    with pytest.raises(ValueError, match="Row 50 holds"):
        cuda.search(bank, asked, 12, metric=metric, mask=mask)
