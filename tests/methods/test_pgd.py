"""What a ball reaches where scores are linear: its corner, or the point along the gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import convolutional
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import UsageError
from sightline.methods.gradient.pgd import Pgd
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.target import Target, logit, top
from sightline.types import Batch
from straight import Straight

Open = Callable[..., Model]


def fooled(model: Model, images: Batch, method: Pgd, target: Target) -> AdversarialExamples:
    found = model.plan(method, threads=2).run(images, target)
    assert isinstance(found, AdversarialExamples)
    return found


@pytest.mark.parametrize("epsilon", [2.0, 5.0, 9.5])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_linear_score_is_fooled_where_its_corner_is(open_problem: Open, epsilon: float, seed: int) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed, count=12)
    logits = straight.logits(pictures)
    way = straight.slopes[1] - straight.slopes[3]
    score = logits[:, 1] - logits[:, 3]
    reach = score + np.floor(epsilon) * np.abs(way).sum()
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    method = Pgd(epsilon=epsilon, steps=8, seed=seed)
    found = fooled(model, straight.batch(pictures), method, logit(1) - logit(3))
    np.testing.assert_array_equal(found.fooled, reach > 0)
    np.testing.assert_array_equal(found.already, score > 0)
    assert (found.linf <= epsilon).all()
    corner = straight.flat(pictures) + np.floor(epsilon) * np.sign(way)
    resists = ~found.fooled
    np.testing.assert_array_equal(straight.flat(found.values)[resists], corner[resists])


@pytest.mark.parametrize("epsilon", [6.0, 30.0, 90.0])
def test_a_euclidean_ball_is_used_up_after_rounding(open_problem: Open, epsilon: float) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=5, count=12)
    logits = straight.logits(pictures)
    way, score = straight.slopes[1] - straight.slopes[3], logits[:, 1] - logits[:, 3]
    bound = score + epsilon * np.linalg.norm(way)  # of a change that is not rounded
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), Pgd(norm="l2", epsilon=epsilon, steps=8), logit(1) - logit(3))
    assert (found.l2 <= epsilon).all()
    assert not found.fooled[bound <= 0].any()
    gains = (straight.flat(found.values) - straight.flat(pictures)) @ way
    resists = ~found.fooled
    assert (gains[resists] > 0.8 * epsilon * np.linalg.norm(way)).all()


def test_restarts_reach_what_one_start_does_not(open_problem: Open) -> None:
    problem = convolutional(shape=(3, 9, 8), pool=True)
    pixels = Preprocess(resize=None, crop=(9, 8), mean=(0.5,) * 3, std=(0.1,) * 3)
    model = open_problem(problem, preprocess=pixels)
    pictures = np.random.default_rng(4).integers(0, 256, (16, 9, 8, 3), dtype=np.uint8)
    images = Batch.of(pixels.normalise(pictures))
    one, many = (fooled(model, images, Pgd(epsilon=2.0, steps=3, restarts=restarts), logit(2)) for restarts in (1, 4))
    assert (many.fooled >= one.fooled).all()
    np.testing.assert_array_equal(many.values[one.fooled], one.values[one.fooled])  # they leave when they fool
    closer = ~many.fooled
    assert (many.margins[closer] >= one.margins[closer] - 1e-4).all()
    assert (many.queries[closer] > one.queries[closer]).all()
    logits = problem.logits(pixels.normalise(many.values))
    np.testing.assert_array_equal(many.fooled, logits.argmax(axis=1) == 2)


def test_the_start_is_the_same_in_every_batch(open_problem: Open) -> None:
    straight = Straight.of()
    images = straight.batch(straight.pictures(seed=9, count=5))
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    method = Pgd(epsilon=3.0, steps=2)
    whole, part = fooled(model, images, method, top(2)), fooled(model, images[3:4], method, top(2))
    np.testing.assert_array_equal(whole.values[3:4], part.values)
    other = fooled(model, images, Pgd(epsilon=3.0, steps=2, rate=0.1, seed=1), top(2))
    assert (other.values != whole.values).any()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": -2.0}, "epsilon=-2.0"),
        ({"epsilon": 0.5}, "change by 1 at least"),
        ({"epsilon": 256.0}, "255 at most"),
        ({"epsilon": float("nan")}, "epsilon=nan"),
        ({"norm": "l2", "epsilon": 0.9}, "Euclidean"),
        ({"norm": "l1"}, "linf, l2"),
        ({"steps": 0}, "steps=0"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"restarts": 0}, "restarts=0"),
        ({"restarts": 2, "random_start": False}, "all do the same"),
    ],
)
def test_parameters_out_of_range(open_problem: Open, fields: dict[str, object], said: str) -> None:
    straight = Straight.of()
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    with pytest.raises(UsageError, match=said):
        fooled(model, straight.batch(straight.pictures(1)), Pgd(**fields), top(1))  # type: ignore[arg-type]
