"""In CuPy: kernels by source and name, each made once."""

from __future__ import annotations

from functools import cache
from typing import Any


def kernel(source: str, name: str) -> Any:
    """What is called with a grid, the threads of a block, and arguments in the types of the parameters.

    CuPy compiles the source when it is first launched on a device, and has float32 below 2**-126 taken for 0.
    """
    import cupy  # pyright: ignore[reportMissingImports]  # the device is asked for when there is something to do

    device: Any = cupy
    return _made(device, source, name)


@cache
def _made(device: Any, source: str, name: str) -> Any:
    return device.RawKernel(source, name)
