"""GuidedBackprop against products with transposed matrices and the rule's masks, written apart from any autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import RELU_PROBLEMS, known_pattern, linear
from sightline.errors import UsageError
from sightline.methods.gradient.guided_backprop import GuidedBackprop
from sightline.model import Model
from sightline.target import logit, probability, top
from sightline.types import Batch

Open = Callable[..., Model]


@pytest.mark.parametrize("name", RELU_PROBLEMS)
def test_every_relu_follows_the_rule(open_problem: Open, name: str) -> None:
    problem = RELU_PROBLEMS[name]
    images = problem.images(seed=29, count=3)
    best = problem.logits(images).argmax(axis=1)
    cases = {
        top(1): problem.logit_weights(best),
        logit(0) - logit(1): problem.logit_weights([0] * 3) - problem.logit_weights([1] * 3),
        probability(0): problem.probability_weights(images, [0] * 3),
    }
    plan = open_problem(problem).plan(GuidedBackprop(reduce="sum"), threads=2)
    for target, weights in cases.items():
        expected = problem.backward(images, weights, "guided_backprop").sum(axis=1)
        np.testing.assert_allclose(
            plan.run(Batch.of(images), target).values, expected, rtol=1e-4, atol=1e-5, err_msg=repr(target)
        )


def test_a_pattern_that_can_be_read_off_the_image(open_problem: Open) -> None:
    """One ReLU per pixel, weights +1 and -1 in turn: open where the pixel is positive and the weight is +1."""
    problem = known_pattern()
    images = problem.images(seed=2)
    even = np.arange(12).reshape(1, 3, 4) % 2 == 0
    for index, positive in ((0, even), (1, ~even)):
        maps = open_problem(problem).explain(Batch.of(images), GuidedBackprop(), logit(index), threads=2)
        np.testing.assert_array_equal(maps.values, (images[:, 0] > 0) & positive)


def test_a_network_without_relu_is_refused(open_problem: Open) -> None:
    problem = linear()
    with pytest.raises(UsageError, match=r"linear\.onnx has no ReLU\. Use saliency"):
        open_problem(problem).explain(Batch.of(problem.images(1)), GuidedBackprop(), threads=2)
