"""Gram matrices of maps on the device: the source compiled, and its tiles multiplied on a CPU."""

from __future__ import annotations

import sys

import numpy as np
import pytest

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
def gram(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cuda.gram


@pytest.mark.parametrize(("dtype", "arithmetic"), [(np.float32, "fp32"), (np.float32, "tf32"), (np.float16, "fp32")])
@pytest.mark.parametrize("per", ["none", "position", "element"])
@pytest.mark.parametrize(
    "shape", [(2, 64, 5, 7), (1, 320, 9), (3, 7, 1), (1, 131, 1500), (2, 96, 3001), (1, 33, 64, 9), (1, 256, 704)]
)
def test_sums_of_products(shape, per, dtype, arithmetic, gram):
    maps = (np.random.default_rng(sum(shape)).standard_normal(shape) + 0.5).astype(dtype)
    found, expected = gram(maps, per=per, arithmetic=arithmetic), reference.gram(maps, per=per)
    assert found.dtype == np.float32
    apart = 2e-3 if arithmetic == "tf32" else 2e-5
    np.testing.assert_allclose(found, expected, rtol=apart, atol=apart * np.abs(expected).max())
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))


def test_tf32_is_what_was_asked_for(gram):
    """Numbers that it holds are multiplied without a loss; the others are rounded."""
    held = np.round(np.random.default_rng(1).standard_normal((1, 70, 96)) * 64).astype(np.float32)
    np.testing.assert_array_equal(gram(held, arithmetic="tf32"), gram(held))
    one = np.full((1, 1, 1), 1 + 2.0**-10 + 2.0**-12, np.float32)
    assert gram(one, arithmetic="tf32") == (1 + 2.0**-10) ** 2
    assert gram(one) == np.float32(one**2)


def test_maps_that_begin_anywhere(gram):
    """Fours of numbers are read where they begin at whole 16 bytes, and one by one elsewhere."""
    maps = np.random.default_rng(2).standard_normal((2, 5, 128)).astype(np.float32)
    moved = np.empty(maps.size + 1, np.float32)[1:].reshape(maps.shape)
    moved[...] = maps
    np.testing.assert_array_equal(gram(moved), gram(maps))


@pytest.mark.parametrize(
    ("batch", "channels", "positions"), [(8, 512, 784), (8, 64, 50176), (1, 7, 1), (1, 65, 10**6)]
)
def test_slices_are_all_of_the_positions(batch, channels, positions):
    pairs, slices, length = cuda.plan(batch, channels, positions)
    assert (slices - 1) * length < positions <= slices * length <= positions + length
    assert length % cuda.LINE == 0
    assert length <= cuda.LONGEST
    assert slices == 1 or batch * pairs * slices <= 2 * cuda.ENOUGH or length > cuda.LONGEST - cuda.LINE


def test_what_is_no_map_is_refused(gram):
    for maps in (np.ones((3, 4)), np.ones((1, 2, 3))):
        with pytest.raises(ValueError, match="float32 or float16; got"):
            gram(maps)
    assert gram(np.ones((0, 3, 4), np.float32)).shape == (0, 3, 3)
    assert (gram(np.ones((1, 3, 0), np.float32)) == 0).all()
