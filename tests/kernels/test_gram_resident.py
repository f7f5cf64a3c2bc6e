"""Gram matrices of maps on the device: the source compiled, the calls of cuBLAS run by what its manual says."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kernels.blas_on_cpu import with_blas
from kernels.gpu_on_cpu import compiles, stand_in
from sightline_kernels.gram import reference
from sightline_kernels.gram.resident import cuda


@pytest.mark.parametrize("chip", ["sm_80", "sm_90"])
def test_the_source_compiles(chip):
    compiles(cuda.SOURCE, chip)


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    return stand_in(cuda.SOURCE, tmp_path_factory.mktemp("gram"))


@pytest.fixture
def blas(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "pointer", lambda array: array.ctypes.data)
    return with_blas(cupy)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("per", ["none", "position", "element"])
@pytest.mark.parametrize(
    "shape", [(2, 64, 5, 7), (1, 320, 9), (3, 7, 1), (1, 131, 1500), (2, 96, 3001), (1, 33, 64, 9), (1, 256, 700)]
)
def test_sums_of_products(shape, per, dtype, blas, monkeypatch):
    monkeypatch.setattr(cuda, "LARGEST", 64)  # several blocks of few channels
    maps = (np.random.default_rng(sum(shape)).standard_normal(shape) + 0.5).astype(dtype)
    found, expected = cuda.gram(maps, per=per), reference.gram(maps, per=per)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))


def test_nothing_is_computed_twice(blas):
    """All blocks in one call; the positions that fill no slice in a second."""
    cuda.gram(np.ones((1, 512, 1024), np.float32))
    assert blas.calls == 1
    found = cuda.gram(np.ones((1, 512, 1029), np.float32), per="none")
    assert blas.calls == 3
    assert (found == 1029).all()


def test_tf32_is_asked_for_and_put_back(blas):
    cuda.gram(np.ones((1, 32, 64), np.float32), arithmetic="tf32")
    cuda.gram(np.ones((1, 32, 64), np.float32))
    assert (blas.modes, blas.mode) == ([3, 0], 0)


def test_what_is_no_map_is_refused(blas):
    for maps in (np.ones((3, 4)), np.ones((1, 2, 3))):
        with pytest.raises(ValueError, match="float32 or float16; got"):
            cuda.gram(maps)
    assert cuda.gram(np.ones((0, 3, 4), np.float32)).shape == (0, 3, 3)
    assert (cuda.gram(np.ones((1, 3, 0), np.float32)) == 0).all()
