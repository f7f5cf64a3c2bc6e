"""CUDA sources without a GPU: compiled for one by NVIDIA's compiler, and run on a CPU, threads as fibers."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

SHIM = Path(__file__).with_suffix(".hpp")
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(([^)]*)\)')
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
    """NumPy in CuPy's place, whose ``RawModule`` holds the functions of one source as a C++ compiler makes them.

    Blocks come one after the other, in no order; their threads take turns, in no order either, and wait for their
    block or their warp as they would on a GPU (``gpu_on_cpu.hpp``).
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    launchers = [_launcher(*found) for found in KERNEL.findall(source)]
    (folder / "kernel.cpp").write_text("\n".join([SHIM.read_text(), source, *launchers]))
    flags = [
        "-O2",
        "-std=c++17",
        "-ffp-contract=off",
        "-U_FORTIFY_SOURCE",
        "-Wno-unknown-pragmas",
        "-shared",
        "-fPIC",
    ]
    subprocess.run([compiler, *flags, folder / "kernel.cpp", "-o", folder / "it.so"], check=True)
    library = ctypes.CDLL(str(folder / "it.so"))

    def function(name: str) -> Callable[..., None]:
        launch = getattr(library, f"launch_{name}")
        launch.restype = ctypes.c_char_p

        def run(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            given = [
                ctypes.c_void_p(one.ctypes.data) if isinstance(one, np.ndarray) else SCALARS[one.dtype](one)
                for one in arguments
            ]
            assert all(not isinstance(one, np.ndarray) or one.flags.c_contiguous for one in arguments)
            sizes = [(ctypes.c_int * 3)(*size, *[1] * (3 - len(size))) for size in (grid, block)]
            wrong = launch(*sizes, *given)
            assert wrong is None, f"{name}{grid}{block}: {wrong.decode()}"

        return run

    made = numpy_as_cupy()
    made.RawModule = lambda code: SimpleNamespace(get_function=function)
    return made


def _launcher(name: str, parameters: str) -> str:
    """A C function that launches a kernel."""
    names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
    return (
        f'extern "C" const char* launch_{name}(const int* of_blocks, const int* of_threads, {parameters}) '
        f"{{ return gpu::launch(of_blocks, of_threads, [=] {{ {name}({names}); }}); }}"
    )
