"""Masks against their definition, and the definition against the paper's recipe."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.ndimage import zoom

from kernels.gpu_on_cpu import stand_in
from sightline_kernels.masks import cpu, cuda, reference


def test_numbers_depend_on_seed_and_mask_alone():
    whole = reference.draw(5, 0, 40, 3)
    np.testing.assert_array_equal(reference.draw(5, 17, 9, 3), whole[17:26])
    assert not np.array_equal(reference.draw(6, 0, 40, 3), whole)
    assert whole.min() >= 0
    assert whole.max() < 1


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_uniform_and_uncorrelated(seed: int):
    numbers = reference.draw(seed, 0, 20_000, 7)  # (n, 51)
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=5 * (1 / 12 / 20_000) ** 0.5)
    np.testing.assert_allclose(numbers.var(axis=0), 1 / 12, rtol=0.03)
    correlation = np.corrcoef(numbers.T) - np.eye(51)
    assert np.abs(correlation).max() < 5 / 20_000**0.5


@pytest.mark.parametrize(("cells", "size"), [(7, (224, 224)), (3, (17, 26)), (4, (8, 12)), (2, (5, 4))])
def test_a_mask_is_the_papers(cells: int, size: tuple[int, int]):
    uniform = reference.draw(1, 0, 5, cells)
    found = reference.masks(uniform, cells, 0.4, size)
    cell = [-(-side // cells) for side in size]
    for one, numbers in zip(found, uniform, strict=True):
        grid = (numbers[: cells * cells] < 0.4).reshape(cells, cells).astype(np.float64)
        factors = [(cells + 1) * step / cells for step in cell]
        stretched = zoom(grid, factors, order=1, mode="nearest", grid_mode=True)
        top, left = (int(part * step) for part, step in zip(numbers[cells * cells :], cell, strict=True))
        np.testing.assert_allclose(one, stretched[top : top + size[0], left : left + size[1]], atol=1e-5)


def test_every_pixel_is_visible_with_the_probability_asked_for():
    mean = reference.masks(reference.draw(9, 0, 4000, 5), 5, 0.3, (20, 23)).mean(axis=0)
    np.testing.assert_allclose(mean, 0.3, atol=0.04)


@pytest.mark.parametrize("seed", range(4))
def test_compiled_is_the_definition(seed: int):
    random = np.random.default_rng(seed)
    size = int(random.integers(1, 40)), int(random.integers(1, 40))
    cells, count = int(random.integers(1, 9)), int(random.integers(0, 12))
    image = random.standard_normal((3, *size), dtype=np.float32)
    fill = random.standard_normal((3, 1, 1), dtype=np.float32)
    uniform, scores = reference.draw(seed, 3, count, cells), random.standard_normal(count)
    copies = [np.full((count, 3, *size), np.nan, np.float32) for _ in range(2)]
    sums = [(np.ones(size), np.ones(size)) for _ in range(2)]
    for form, made, (total, squares) in zip((reference, cpu), copies, sums, strict=True):
        form.blend(image, fill, uniform, cells, 0.5, made)
        form.accumulate(scores, uniform, cells, 0.5, total, squares)
    np.testing.assert_allclose(copies[1], copies[0], atol=2e-6)
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    """The CUDA source's functions, run thread after thread."""
    return stand_in(cuda.SOURCE, tmp_path_factory.mktemp("masks"))


@pytest.mark.parametrize("seed", range(4))
def test_the_gpus_form_is_the_definition_to_the_last_bit(seed: int, cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    random = np.random.default_rng(seed)
    size = int(random.integers(1, 20)), int(random.integers(1, 20))
    cells, count = int(random.integers(1, 9)), int(random.integers(0, 7))
    image = random.standard_normal((3, *size), dtype=np.float32)
    fill = random.standard_normal((3, 1, 1), dtype=np.float32)
    uniform = reference.draw(seed + 2**40, 3, count, cells)
    np.testing.assert_array_equal(cuda.draw(seed + 2**40, 3, count, cells), uniform)
    scores, copies = random.standard_normal(count), [np.full((count, 3, *size), np.nan, np.float32) for _ in range(2)]
    sums = [(np.ones(size), np.ones(size)) for _ in range(2)]
    for form, made, (total, squares) in zip((reference, cuda), copies, sums, strict=True):
        form.blend(image, fill, uniform, cells, 0.5, made)
        form.accumulate(scores, uniform, cells, 0.5, total, squares)
    np.testing.assert_array_equal(copies[1], copies[0])
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5, atol=1e-6)  # the reference multiplies in another order
