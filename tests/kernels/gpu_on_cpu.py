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
KINDS = {
    "int": (np.int32, ctypes.c_int), "long long": (np.int64, ctypes.c_longlong),
    "unsigned": (np.uint32, ctypes.c_uint), "unsigned long long": (np.uint64, ctypes.c_ulonglong),
    "float": (np.float32, ctypes.c_float), "double": (np.float64, ctypes.c_double), "unsigned char": (np.uint8, None),
    "Key": (np.uint64, None),
}  # fmt: skip


def compiles(source: str, chip: str) -> None:
    """Fails unless NVRTC takes a source for a chip; skips where it is not installed, which the dev extra does."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVIDIA's run-time compiler is not installed")
    try:
        _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], [])
    except RuntimeError as missing:
        pytest.skip(f"NVIDIA's run-time compiler is not installed: {missing}")
    (status,) = nvrtc.nvrtcCompileProgram(program, 2, [f"--gpu-architecture={chip}".encode(), b"-ftz=true"])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert int(status) == 0, log.decode()


class OnDevice(np.ndarray):
    """An array that tells its address as CuPy's do."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


class StandIn(SimpleNamespace):
    """A module that is not one."""

    __hash__ = object.__hash__


def numpy_as_cupy() -> StandIn:
    """NumPy in CuPy's place, for what needs no kernel of its own."""
    made = StandIn(**{name: getattr(np, name) for name in dir(np) if not name.startswith("_")})
    for name in ("asarray", "ascontiguousarray", "empty"):
        setattr(made, name, _on_device(getattr(np, name)))
    made.asnumpy = np.asarray
    return made


def _on_device(make: Callable[..., np.ndarray]) -> Callable[..., OnDevice]:
    return lambda *given: make(*given).view(OnDevice)


def stand_in(source: str, folder: Path) -> StandIn:
    """NumPy in CuPy's place, whose ``RawKernel`` finds the functions of one source as a C++ compiler makes them.

    Blocks come one after the other, in no order; their threads take turns, in no order either, and wait for their
    block or their warp as they would on a GPU (``gpu_on_cpu.hpp``).
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    found = {name: [_parameter(one) for one in given.split(",")] for name, given in KERNEL.findall(source)}
    launchers = [_launcher(name, parameters) for name, parameters in found.items()]
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
            given = [_given(*one) for one in zip(arguments, found[name], strict=True)]
            sizes = [(ctypes.c_int * 3)(*size, *[1] * (3 - len(size))) for size in (grid, block)]
            wrong = launch(*sizes, *given)
            assert wrong is None, f"{name}{grid}{block}: {wrong.decode()}"

        return run

    made = numpy_as_cupy()
    made.RawKernel = lambda code, name: function(name)
    return made


def _parameter(text: str) -> tuple[str, bool, str]:
    """Type, whether it is a pointer to that, and name."""
    kind, pointer, name = re.fullmatch(r"\s*(?:const )?([\w ]+?)(\*?) (?:__restrict__ )?(\w+)\s*", text).groups()
    return kind, bool(pointer), name


def _given(argument: Any, parameter: tuple[str, bool, str]) -> Any:
    """What C takes for an argument, which must be of the parameter's type: a GPU would read the bytes behind it."""
    kind, pointer, name = parameter
    assert isinstance(argument, np.ndarray) == pointer, f"{name}: {argument!r}"
    if kind != "void":
        assert argument.dtype == KINDS[kind][0], f"{name} is {kind}; got {argument.dtype}"
    if not pointer:
        return KINDS[kind][1](argument)
    assert argument.flags.c_contiguous, name
    return ctypes.c_void_p(argument.ctypes.data)


def _launcher(name: str, parameters: list[tuple[str, bool, str]]) -> str:
    """A C function that launches a kernel."""
    declared = ", ".join(f"{kind}{'*' * pointer} {name}" for kind, pointer, name in parameters)
    names = ", ".join(name for _, _, name in parameters)
    return (
        f'extern "C" const char* launch_{name}(const int* of_blocks, const int* of_threads, {declared}) '
        f"{{ return gpu::launch(of_blocks, of_threads, [=] {{ {name}({names}); }}); }}"
    )
