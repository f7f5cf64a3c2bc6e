"""The tape: a formula of the caller's over the twin, against matrix algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from problems import convolutional
from sightline.dispatch import route
from sightline.model import Model
from sightline.routes.base import Settings
from sightline.target import probability

Open = Callable[..., Model]


@pytest.mark.parametrize("rule", [None, "guided_backprop"])
@pytest.mark.parametrize("seed", range(2))
def test_a_formula_of_logits_and_layers(open_problem: Open, seed: int, rule: str | None) -> None:
    problem = convolutional()
    images, weights = problem.images(seed, 5), np.random.default_rng(seed).normal(size=(5, problem.classes))
    oracle = route("autograd").open(open_problem(problem), Settings(threads=2))
    with oracle.tape(rule=rule) as tape:
        pixels = tape.tensor(images).requires_grad_()
        outputs = tape(pixels, probability(0), layers=["relu1"])
        np.testing.assert_allclose(outputs.logits.detach(), problem.logits(images), rtol=1e-4, atol=1e-4)
        assert outputs.tap("relu1").shape[0] == 5
        (gradient,) = torch.autograd.grad((outputs.logits * torch.from_numpy(weights)).sum(), pixels)
    expected = problem.backward(images, weights, rule)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
    assert not np.shares_memory(images, pixels.detach().numpy())


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_batch_that_the_graph_fixes_is_filled(open_problem: Open, count: int) -> None:
    problem = convolutional(batch=2)
    images, weights = problem.images(3, count), np.ones((count, problem.classes))
    oracle = route("autograd").open(open_problem(problem), Settings(threads=2))
    with oracle.tape() as tape:
        pixels = tape.tensor(images).requires_grad_()
        (gradient,) = torch.autograd.grad(tape(pixels, probability(0)).logits.sum(), pixels)
    np.testing.assert_allclose(gradient, problem.backward(images, weights), rtol=1e-4, atol=1e-4)
