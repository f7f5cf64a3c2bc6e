"""One step along a gradient that is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sightline.adversarial.examples import AdversarialExamples
from sightline.methods.gradient.fgsm import Fgsm
from sightline.model import Model
from sightline.target import Target, logit, top
from sightline.types import Batch
from straight import Straight

Open = Callable[..., Model]


def fooled(model: Model, images: Batch, method: Fgsm, target: Target) -> AdversarialExamples:
    found = model.plan(method, threads=2).run(images, target)
    assert isinstance(found, AdversarialExamples)
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 7.9])
@pytest.mark.parametrize("aim", ["leave", "reach"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_moves_with_the_sign_of_the_cross_entropy(
    open_problem: Open, epsilon: float, aim: str, channels: int
) -> None:
    """d log p_c = w_c - sum p_k w_k; down it to leave c, up it to reach c. What is not whole is not used."""
    straight = Straight.of(shape=(channels, 5, 7))
    pictures = straight.pictures(seed=3)
    logits = straight.logits(pictures)
    own = logits.argmax(axis=1) if aim == "leave" else np.full(len(pictures), 2)
    slope = straight.slopes[own] - softmax(logits) @ straight.slopes
    step = np.sign(slope) * np.floor(epsilon) * (-1 if aim == "leave" else 1)
    expected = np.where((logits.argmax(axis=1) == own)[:, None] & (aim == "reach"), 0, step)  # already there
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), Fgsm(epsilon=epsilon), top(1) if aim == "leave" else logit(2))
    np.testing.assert_array_equal(straight.flat(found.values) - straight.flat(pictures), expected)
    after = straight.logits(found.values)
    wanted = (after.argmax(axis=1) == own) if aim == "reach" else (after.argmax(axis=1) != own)
    np.testing.assert_array_equal(found.fooled, wanted)
    np.testing.assert_allclose(found.linf, np.abs(expected).max(axis=1))
    np.testing.assert_allclose(found.l2, np.linalg.norm(expected, axis=1), rtol=1e-6)


def test_a_euclidean_step_points_along_the_gradient(open_problem: Open) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=8)
    target = logit(0) - logit(1) - 100 * logit(2)  # out of reach
    ways = straight.slopes[0] - straight.slopes[1] - 100 * straight.slopes[2]
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), Fgsm(norm="l2", epsilon=60.0), target)
    gains = (straight.flat(found.values) - straight.flat(pictures)) @ ways
    tried = ~found.already
    assert tried.any()
    assert (found.l2 <= 60).all()
    assert (gains[tried] > 0.97 * 60 * np.linalg.norm(ways)).all()  # of what a change without rounding could gain
