"""Layer-wise relevance propagation against its rules, written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from problems import PROBLEMS, Affine, Problem
from sightline.methods.gradient.lrp import Lrp
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.target import logit
from sightline.types import Batch

Open = Callable[..., Model]
EPSILON = 1e-6


def shared(x: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray, Any]], relevance: np.ndarray) -> np.ndarray:
    """(B, I) from (B, O): every term is an input, a matrix (O, I) and an offset."""
    z = sum(one @ matrix.T + offset for one, matrix, offset in layers)
    quotient = relevance / (z + EPSILON * np.where(z < 0, -1, 1))
    return np.asarray(sum(one * (quotient @ matrix) for one, matrix, _ in layers))


def terms(rule: str, x: np.ndarray, layer: Affine, low: float, high: float, gamma: float) -> list[Any]:
    matrix, offset = layer.matrix, layer.offset
    positive, negative = matrix.clip(min=0), matrix.clip(max=0)
    match rule:
        case "epsilon":
            return [(x, matrix, offset)]
        case "gamma":
            return [(x, matrix + gamma * positive, offset + gamma * offset.clip(min=0))]
        case "z_plus":
            return [(x.clip(min=0), positive, 0), (x.clip(max=0), negative, 0)]
        case "flat":
            return [(np.ones_like(x), (matrix != 0).astype(float), 0)]
        case _:
            return [(x, matrix, 0), (np.full_like(x, low), -positive, 0), (np.full_like(x, high), -negative, 0)]


def propagated(problem: Problem, images: np.ndarray, index: int, rules: list[str], low: float, high: float) -> Any:
    """(B, C, H, W): a rule for every matrix of the problem, from the image on."""
    values = problem.values(images)
    relevance = np.zeros_like(values[-1])
    relevance[:, index] = values[-1][:, index]
    left = list(rules)
    for step, x in zip(reversed(problem.steps), reversed(values[:-1]), strict=True):
        if isinstance(step, Affine):
            relevance = shared(x, terms(left.pop(), x, step, low, high, 0.25), relevance)
    return relevance.reshape(images.shape)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("composite", "rules"),
    [
        ("epsilon", ["epsilon", "epsilon", "epsilon"]),
        ("gamma", ["gamma", "gamma", "epsilon"]),
        ("z_plus", ["z_plus", "z_plus", "epsilon"]),
        ("epsilon_plus_flat", ["flat", "z_plus", "epsilon"]),
        ("epsilon_gamma_box", ["box", "gamma", "epsilon"]),
        ("by_depth", ["box", "gamma", "epsilon"]),
    ],
)
def test_every_composite_is_its_rules(open_problem: Open, composite: Any, rules: list[str], seed: int) -> None:
    problem = PROBLEMS["convolutional"]
    pixels = Preprocess(resize=None, crop=problem.shape[1:], mean=(0.5,) * 3, std=(0.25,) * 3)  # -2 to 2
    images = problem.images(seed, 2).clip(-2, 2)
    found = open_problem(problem, preprocess=pixels).plan(Lrp(composite=composite), threads=2)
    result: Any = found.run(Batch.of(images), logit(1))
    expected = propagated(problem, images, 1, rules, -2.0, 2.0)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(result.values, expected.sum(axis=1), rtol=1e-3, atol=1e-3 * scale)
    np.testing.assert_allclose(result.totals, problem.logits(images)[:, 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_where_biases_take_no_share(open_problem: Open, seed: int) -> None:
    problem = PROBLEMS["convolutional"]
    images = problem.images(seed, 4)
    plan = open_problem(problem).plan(Lrp(composite="epsilon", biases=False, epsilon=1e-9), threads=2)
    result: Any = plan.run(Batch.of(images), logit(1))
    np.testing.assert_allclose(result.values.sum(axis=(1, 2)), problem.logits(images)[:, 1], rtol=1e-2, atol=1e-3)
