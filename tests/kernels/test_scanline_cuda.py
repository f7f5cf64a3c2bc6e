"""The CUDA form without a GPU: its source compiles for what it is meant for, and is right when a CPU runs it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kernels.gpu_on_cpu import compiles, stand_in
from kernels.test_scanline import CASES, problem
from sightline_kernels.scanline import cuda, reference


@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
def test_the_source_compiles(chip: str) -> None:
    compiles(cuda.SOURCE, chip)


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    """The source's functions, with threads that wait for each other."""
    return stand_in(cuda.SOURCE, tmp_path_factory.mktemp("scanline"))


SEVERAL_BLOCKS = ((41, 43), (7, 9), 5, 5, 0.2, "scanline", False, "corner")  # and two words of channels
SEVERAL_RUNS_OF_TAPS = ((33, 31), (9, 9), 3, 25, 0.1, "outward", False, "hole")


@pytest.mark.parametrize("case", [*CASES, SEVERAL_BLOCKS, SEVERAL_RUNS_OF_TAPS])
@pytest.mark.parametrize("room", [cuda.PAIRS, 700])
def test_the_logic_is_the_definitions(case, room: int, cupy, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "PAIRS", room)
    given, canvas, known = problem(case, room % 5)
    made = [(canvas.copy(), known.copy()) for _ in range(2)]
    sources = [
        form.synthesise(canvas=picture, known=mask, **given)
        for form, (picture, mask) in zip((reference, cuda), made, strict=True)
    ]
    np.testing.assert_array_equal(sources[1], sources[0])
    np.testing.assert_array_equal(made[1][0], made[0][0])
    assert made[1][1].all()


def test_it_stops_when_it_is_told_to(cupy, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "EVERY", 3)
    given, canvas, known = problem(CASES[0], 1)
    before, told = int(known.sum()), []

    def tell(*done: int) -> bool:
        told.append(done)
        return len(told) < 2

    sources = cuda.synthesise(canvas=canvas, known=known, tell=tell, **given)
    assert len(told) == 2
    assert int(known.sum()) - before == told[-1][0] < told[-1][1]
    assert int((sources >= 0).sum()) == told[-1][0]
