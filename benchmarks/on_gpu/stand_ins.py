"""NumPy in CuPy's place for a rehearsal: kernels are compiled by a C++ compiler and run on the CPU."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[2] / "tests"


def install() -> None:
    """Let ``import cupy`` find it."""
    sys.path.insert(0, str(TESTS))
    from kernels.blas_on_cpu import with_blas
    from kernels.gpu_on_cpu import numpy_as_cupy, stand_in

    made = numpy_as_cupy()
    compiled: dict[str, Any] = {}

    def kernel(code: str, name: str) -> Any:
        if code not in compiled:
            compiled[code] = stand_in(code, Path(tempfile.mkdtemp(prefix="kernel"))).RawKernel
        return compiled[code](code, name)

    made.RawKernel = kernel
    with_blas(made)
    made.cuda.Device = lambda *_: SimpleNamespace(synchronize=lambda: None)
    made.cuda.runtime = SimpleNamespace(
        runtimeGetVersion=lambda: 0, getDeviceProperties=lambda _: {"name": b"rehearsal"}
    )
    made.from_dlpack = np.from_dlpack
    made.__version__ = "rehearsal"
    sys.modules["cupy"] = made  # type: ignore[assignment]
