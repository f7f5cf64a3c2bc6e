"""Saliency against the Jacobian written as a product of matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import PROBLEMS, linear
from sightline.errors import UsageError
from sightline.methods.gradient._attribution import Reduction
from sightline.methods.gradient.saliency import Saliency
from sightline.model import Model
from sightline.target import logit, probability, top, unit
from sightline.types import Batch

Open = Callable[..., Model]
REDUCTIONS: dict[Reduction, Callable[[np.ndarray], np.ndarray]] = {
    "max_abs": lambda g: np.max([np.abs(g[:, c]) for c in range(g.shape[1])], axis=0),
    "mean_abs": lambda g: sum(np.abs(g[:, c]) for c in range(g.shape[1])) / g.shape[1],
    "l2": lambda g: np.sqrt(sum(g[:, c] ** 2 for c in range(g.shape[1]))),
    "sum": lambda g: sum(g[:, c] for c in range(g.shape[1])),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradient_of_logit_and_of_probability(open_problem: Open, name: str) -> None:
    problem = PROBLEMS[name]
    images = problem.images(seed=17, count=3)
    best = problem.logits(images).argmax(axis=1)
    cases = {
        top(1): problem.logit_weights(best),
        probability(1): problem.probability_weights(images, [1, 1, 1]),
        3 * logit(0) - logit(1): 3 * problem.logit_weights([0] * 3) - problem.logit_weights([1] * 3),
    }
    model = open_problem(problem)
    for reduce, reduced in REDUCTIONS.items():
        for target, weights in cases.items():
            maps = model.explain(Batch.of(images), Saliency(reduce=reduce), target, threads=2)
            expected = reduced(problem.backward(images, weights))
            np.testing.assert_allclose(maps.values, expected, rtol=1e-4, atol=1e-5, err_msg=f"{reduce} {target!r}")
            assert maps.signed == (reduce == "sum")  # type: ignore[attr-defined]


def test_a_unit_inside_the_network(open_problem: Open) -> None:
    """The mean of a channel of the first ReLU, and one position of it."""
    problem = PROBLEMS["convolutional"]
    images, model = problem.images(seed=4), open_problem(problem)
    first, relu = problem.steps[:2]
    before = first.forward(images.astype(np.float64).reshape(3, -1))  # (B, 4·h·w)
    height, width = model.layers.find("relu1").shape[2:]
    for position in (None, (2, 3)):
        weights = np.zeros((3, 4, height, width))
        if position is None:
            weights[:, 2] = 1 / (height * width)
        else:
            weights[:, 2, 2, 3] = 1
        expected = first.backward(before, relu.backward(before, weights.reshape(3, -1), None), None)
        maps = model.explain(Batch.of(images), Saliency(reduce="sum"), unit("relu1", 2, position), threads=2)
        np.testing.assert_allclose(maps.values, expected.reshape(images.shape).sum(axis=1), rtol=1e-4, atol=1e-6)


def test_an_unknown_reduction_is_refused(open_problem: Open) -> None:
    problem = linear()
    method = Saliency(reduce="median")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="reduce='median' is not one of max_abs, mean_abs, l2, sum"):
        open_problem(problem).explain(Batch.of(problem.images(1)), method, threads=2)
