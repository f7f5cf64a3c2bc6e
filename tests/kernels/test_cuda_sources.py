"""Every CUDA source: compiled for the chips it is meant for, and none is left out."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import sightline_kernels
from kernels.gpu_on_cpu import compiles

FOLDER = Path(sightline_kernels.__path__[0])
FORMS = sorted(path.parent.name for path in FOLDER.glob("*/cuda.py"))
WITHOUT = {"gram", "launch"}  # products by cuBLAS alone; no kernel of its own


def source(kernel: str) -> str | None:
    return getattr(importlib.import_module(f"sightline_kernels.{kernel}.cuda"), "SOURCE", None)


def test_only_these_have_no_source_of_their_own() -> None:
    assert {kernel for kernel in FORMS if source(kernel) is None} == WITHOUT


@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
@pytest.mark.parametrize("kernel", [kernel for kernel in FORMS if kernel not in WITHOUT])
def test_it_compiles(kernel: str, chip: str) -> None:
    made = source(kernel)
    assert made is not None
    compiles(made, chip)


def test_a_source_with_a_fault_does_not_compile() -> None:
    """Or the tests above would prove nothing."""
    with pytest.raises(AssertionError, match="undefined"):
        compiles('extern "C" __global__ void f(int* a) { a[0] = nowhere; }', "sm_90")
