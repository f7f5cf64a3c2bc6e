"""What every attack answers when there is little or nothing to attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from problems import convolutional, known_pattern, linear
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import MissingPreprocess, UsageError
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.registry import parse
from sightline.target import Target, logit, probability, top, unit
from sightline.types import Batch
from straight import Straight

Open = Callable[..., Model]
GRADIENT = ["fool(steps=25,rate=0.4)", "fgsm(epsilon=9)", "pgd(epsilon=9,steps=6)", "deepfool(steps=9)"]
ATTACKS = [*GRADIENT, "square_attack(epsilon=9,queries=60)"]
every_attack = pytest.mark.parametrize("attack", ATTACKS)


def fooled(model: Model, images: Batch, attack: str, target: Target) -> AdversarialExamples:
    found = model.plan(parse(attack), threads=2).run(images, target)
    assert isinstance(found, AdversarialExamples)
    return found


@every_attack
def test_what_fools_already_is_left_alone_and_said(open_problem: Open, attack: str) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=2, count=4)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    own = tuple(straight.logits(pictures).argmax(axis=1).tolist())
    found = fooled(model, straight.batch(pictures), attack, probability(own))
    np.testing.assert_array_equal(found.values, pictures)
    assert found.columns()["outcome"] == ["already"] * 4
    assert found.queries.sum() == 0
    assert found.linf.sum() == found.share.sum() == 0
    assert found.columns()["ssim"] == [1.0] * 4
    assert [remark.partition(":")[0] for remark in found.remarks()] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("attack", GRADIENT)
def test_a_gradient_of_zero_is_said(open_problem: Open, attack: str) -> None:
    """Behind a black picture every ReLU of this network is shut, and stays so for changes by less than half."""
    problem = known_pattern()
    grey = Preprocess(resize=None, crop=(3, 4), mean=(0.5,), std=(0.1,), channels="L")
    model = open_problem(problem, preprocess=grey)
    pictures = np.stack([np.zeros((3, 4, 3), np.uint8), np.full((3, 4, 3), 140, np.uint8)])
    found = fooled(model, Batch.of(grey.normalise(pictures)), attack, logit(1))
    assert found.columns()["outcome"][0] == "no gradient"
    assert found.columns()["outcome"][1] != "no gradient"
    assert list(found.remarks()) == ["0: its gradient is 0 everywhere, so that no attack could be tried."]


@every_attack
def test_pictures_of_one_colour(open_problem: Open, attack: str) -> None:
    problem = convolutional(shape=(3, 9, 8), pool=True)
    pixels = Preprocess(resize=None, crop=(9, 8), mean=(0.5,) * 3, std=(0.1,) * 3)
    model = open_problem(problem, preprocess=pixels)
    pictures = np.stack([np.full((9, 8, 3), shade, np.uint8) for shade in (0, 128, 255)])
    found = fooled(model, Batch.of(pixels.normalise(pictures)), attack, top(1))
    before, after = (problem.logits(pixels.normalise(views)).argmax(axis=1) for views in (pictures, found.values))
    np.testing.assert_array_equal(found.before, before)
    np.testing.assert_array_equal(found.after, after)
    np.testing.assert_array_equal(found.fooled, after != before)
    assert np.isfinite([found.share, found.l2, found.margins]).all()
    chances = problem.probabilities(pixels.normalise(found.values)).max(axis=1)
    np.testing.assert_allclose(found.confidence_after, chances, rtol=1e-4)


@every_attack
def test_channels_in_another_order_are_saved_as_colours(open_problem: Open, attack: str) -> None:
    """A model of BGR: what it says of the saved picture is what it says of the tensor."""
    straight = Straight.of()
    preprocess = straight.preprocess.changed(channels="BGR", mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.1))
    model = open_problem(straight.problem, preprocess=preprocess)
    pictures = straight.pictures(seed=7, count=3)
    found = fooled(model, Batch.of(preprocess.normalise(pictures)), attack, top(2))
    logits = straight.problem.logits(preprocess.normalise(found.values))
    np.testing.assert_array_equal(found.after, logits.argmax(axis=1))
    np.testing.assert_array_equal(found.originals, pictures)
    assert found.fooled.any()
    assert (found.values != pictures).any()


@every_attack
def test_an_inner_unit_can_be_raised(open_problem: Open, attack: str) -> None:
    problem = convolutional()
    size = problem.shape[1:]
    pixels = Preprocess(resize=None, crop=(size[0], size[1]), mean=(0.5,) * 3, std=(0.1,) * 3)
    model = open_problem(problem, preprocess=pixels)
    pictures = np.random.default_rng(6).integers(0, 256, (6, *size, 3), dtype=np.uint8)
    found = fooled(model, Batch.of(pixels.normalise(pictures)), attack, unit("conv1", 1))
    shape = model.layers.find("conv1").shape[1:]
    means = problem.values(pixels.normalise(found.values))[1].reshape(6, *shape)[:, 1].mean(axis=(1, 2))
    np.testing.assert_array_equal(found.fooled, means > 0)
    np.testing.assert_allclose(found.margins, means, atol=1e-4)


@every_attack
def test_what_cannot_be_attacked(open_problem: Open, attack: str) -> None:
    straight = Straight.of()
    images = straight.batch(straight.pictures(seed=1, count=2))
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    with pytest.raises(UsageError, match="classes 0 to 3"):
        fooled(model, images, attack, logit(4))
    with pytest.raises(UsageError, match="ranks 1 to 4"):
        fooled(model, images, attack, top(5))
    with pytest.raises(MissingPreprocess):
        fooled(open_problem(straight.problem), images, attack, top(1))


@every_attack
def test_one_class_is_always_the_highest(open_problem: Open, attack: str) -> None:
    alone: dict[str, Any] = {"classes": 1}
    straight = Straight.of(**alone)
    model = open_problem(linear(**alone), preprocess=straight.preprocess)
    images = straight.batch(straight.pictures(seed=1, count=2))
    with pytest.raises(UsageError, match="one class"):
        fooled(model, images, attack, top(1))
    score = straight.logits(straight.pictures(seed=1, count=2))[:, 0]
    np.testing.assert_array_equal(fooled(model, images, attack, logit(0) * 1.0).already, score > 0)
