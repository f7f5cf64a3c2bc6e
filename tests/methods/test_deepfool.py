"""The nearest of several planes, by arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.methods.gradient.deepfool import Deepfool
from sightline.model import Model
from sightline.target import Target, logit, top
from sightline.types import Batch
from straight import Straight

Open = Callable[..., Model]


def fooled(model: Model, images: Batch, method: Deepfool, target: Target) -> AdversarialExamples:
    found = model.plan(method, threads=2).run(images, target)
    assert isinstance(found, AdversarialExamples)
    return found


def distances(straight: Straight, pictures: np.ndarray) -> np.ndarray:
    """(B, K) from each picture to where a class overtakes its own; infinite for its own."""
    logits = straight.logits(pictures)
    own = logits.argmax(axis=1)
    ways = np.linalg.norm(straight.slopes[None] - straight.slopes[own][:, None], axis=2)
    leads = logits.max(axis=1, keepdims=True) - logits
    return np.where(ways > 0, leads / np.maximum(ways, 1e-9), np.inf)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_nearest_plane_is_crossed(open_problem: Open, seed: int) -> None:
    straight = Straight.of(classes=6)
    pictures = straight.pictures(seed, count=10)
    expected = distances(straight, pictures)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), Deepfool(), top(1))
    assert found.fooled.all()
    assert (found.l2 >= expected.min(axis=1)).all()
    assert (found.l2 <= 1.05 * expected.min(axis=1) + 2).all()
    clear = np.sort(expected, axis=1)[:, 1] > expected.min(axis=1) * 1.1 + 3
    np.testing.assert_array_equal(found.after[clear], expected.argmin(axis=1)[clear])


def test_with_two_candidates_the_runner_up_is_chosen_though_it_is_farther(open_problem: Open) -> None:
    straight = Straight.of(classes=6)
    pictures = straight.pictures(seed=1, count=60)
    expected = distances(straight, pictures)
    runner_up = np.argsort(-straight.logits(pictures), axis=1)[:, 1]
    farther = expected[np.arange(60), runner_up] > 1.06 * expected.min(axis=1)
    assert farther.any()
    some = pictures[farther]
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    ten, two = (
        fooled(model, straight.batch(some), Deepfool(candidates=candidates), top(1)) for candidates in (10, 2)
    )
    np.testing.assert_array_equal(ten.after, expected[farther].argmin(axis=1))
    np.testing.assert_array_equal(two.after, runner_up[farther])
    assert (two.l2 > ten.l2).all()


def test_a_class_and_a_formula_have_one_plane(open_problem: Open) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=3, count=8)
    logits = straight.logits(pictures)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), Deepfool(), logit(0) - logit(2))
    distance = np.maximum(logits[:, 2] - logits[:, 0], 0) / np.linalg.norm(straight.slopes[0] - straight.slopes[2])
    assert (found.l2 >= distance).all()
    assert (found.l2 <= 1.05 * distance + 2).all()
    reached = fooled(model, straight.batch(pictures), Deepfool(), logit(1))
    assert reached.fooled.all()
    np.testing.assert_array_equal(straight.logits(reached.values).argmax(axis=1), 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"steps": 0}, "steps=0"), ({"candidates": 1}, "candidates=1"), ({"overshoot": -1.0}, "-1.0")],
)
def test_parameters_out_of_range(open_problem: Open, fields: dict[str, float], said: str) -> None:
    straight = Straight.of()
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    with pytest.raises(UsageError, match=said):
        fooled(model, straight.batch(straight.pictures(1)), Deepfool(**fields), top(1))  # type: ignore[arg-type]
