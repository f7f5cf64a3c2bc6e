"""Methods by superpixels on problems whose contributions are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from problems import convolutional, linear
from sightline.errors import UsageError
from sightline.methods.forward._superpixels import superpixels
from sightline.methods.forward.kernel_shap import KernelShap
from sightline.methods.forward.lime import Lime
from sightline.methods.forward.superpixel_occlusion import SuperpixelOcclusion
from sightline.model import Model
from sightline.target import logit
from sightline.types import Batch

Open = Callable[..., Model]


def quarters(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(1, C, H, W) of flat regions, so that superpixels are they."""
    random = np.random.default_rng(seed)
    channels, height, width = shape
    levels = random.permutation(8)[:4].reshape(1, 2, 2).astype(np.float32) - 3
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 2 // width
    return np.repeat(levels[:, rows][:, :, columns], channels, axis=0)[None]


def contributions(problem, image: np.ndarray, numbers: np.ndarray, index: int) -> np.ndarray:
    """(S,) weight times pixel, summed over each superpixel: what a linear score owes to it."""
    weights = problem.steps[0].matrix[index].reshape(problem.shape)
    per_pixel = (weights * image).sum(axis=0)
    return np.array([per_pixel[numbers == one].sum() for one in range(numbers.max() + 1)])


EXACT_ON_LINEAR = (
    SuperpixelOcclusion(segments=6),
    KernelShap(segments=6, samples=200),
    KernelShap(segments=6, samples=2000),
    Lime(segments=6, ridge=0.0),
)


@pytest.mark.parametrize("method", EXACT_ON_LINEAR, ids=repr)
def test_a_linear_score_is_shared_out_exactly(open_problem: Open, method) -> None:
    problem = linear()
    image = problem.images(seed=6, count=1)
    maps = open_problem(problem).explain(Batch.of(image), method, logit(1), threads=2)
    numbers = superpixels(image[0], 6, method.compactness)
    assert numbers.max() >= 1, "one superpixel would show nothing"
    expected = contributions(problem, image[0], numbers, 1)[numbers]
    np.testing.assert_allclose(maps.values[0], expected, rtol=1e-3, atol=1e-3)


def test_shapley_values_are_means_over_all_orders(open_problem: Open) -> None:
    problem = convolutional("shapley", shape=(3, 12, 10), pool=True)
    image = quarters(3, problem.shape)
    numbers = superpixels(image[0], 4, 0.1)
    count = int(numbers.max()) + 1
    assert 3 <= count <= 6

    def value(pieces: frozenset[int]) -> float:
        shown = np.isin(numbers, list(pieces))
        return float(problem.logits(np.where(shown, image, 0).astype(np.float32))[0, 1])

    expected = np.zeros(count)
    for order in itertools.permutations(range(count)):
        seen: frozenset[int] = frozenset()
        for piece in order:
            expected[piece] += value(seen | {piece}) - value(seen)
            seen |= {piece}
    expected /= math.factorial(count)
    maps = open_problem(problem).explain(Batch.of(image), KernelShap(segments=4), logit(1), threads=2)
    np.testing.assert_allclose(maps.values[0], expected[numbers], rtol=1e-3, atol=1e-3)


def test_sampled_shapley_values_approach_the_exact_ones(open_problem: Open) -> None:
    problem = convolutional("sampled", shape=(3, 16, 16), pool=True)
    blocks = np.random.default_rng(8).standard_normal((1, 3, 4, 4), dtype=np.float32)
    image = blocks.repeat(4, axis=2).repeat(4, axis=3)
    assert 8 <= superpixels(image[0], 10, 0.1).max() + 1 <= 16
    model = open_problem(problem)
    exact, some, more = (
        model.explain(Batch.of(image), KernelShap(segments=10, samples=n), logit(0), threads=2).values[0]
        for n in (1 << 16, 60, 900)
    )
    assert np.abs(more - exact).max() < 0.1 * np.abs(exact).max()
    assert np.abs(more - exact).mean() < np.abs(some - exact).mean()


def test_superpixels_are_numbered_from_zero_and_come_from_the_tensor_alone() -> None:
    image = np.random.default_rng(1).standard_normal((3, 40, 30), dtype=np.float32)
    numbers = superpixels(image, 12, 0.1)
    assert sorted(set(numbers.ravel().tolist())) == list(range(numbers.max() + 1))
    np.testing.assert_array_equal(superpixels(image * 3 + 1, 12, 0.1), numbers)
    assert superpixels(np.ones((3, 9, 8), np.float32), 5, 0.1).shape == (9, 8)


@pytest.mark.parametrize(
    "method", [Lime(samples=0), KernelShap(samples=1), SuperpixelOcclusion(segments=0)], ids=repr
)
def test_parameters_out_of_range(open_problem: Open, method) -> None:
    problem = linear()
    with pytest.raises(UsageError, match="must be at least"):
        open_problem(problem).explain(Batch.of(problem.images(seed=1)), method, logit(0), threads=2)
