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


def test_the_logic_is_the_definitions(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", stand_in(cuda.SOURCE, tmp_path))
    for number in (1, 3, 6):
        given, canvas, known = problem(CASES[number], number)
        monkeypatch.setattr(cuda, "PAIRS", 500)
        monkeypatch.setattr(cuda, "THREADS", 100)
        made = [(canvas.copy(), known.copy()) for _ in range(2)]
        sources = [
            form.synthesise(canvas=picture, known=mask, **given)
            for form, (picture, mask) in zip((reference, cuda), made, strict=True)
        ]
        np.testing.assert_array_equal(sources[1], sources[0])
        np.testing.assert_array_equal(made[1][0], made[0][0])
        assert made[1][1].all()
