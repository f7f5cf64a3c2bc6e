"""Pictures with wanted features, where the features leave no choice or none at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import convolutional, linear
from sightline.ascent.inversions import Inversions, depth_correlation
from sightline.errors import UnknownName, UsageError
from sightline.methods.gradient.inversion import Inversion
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.types import Batch

Open = Callable[..., Model]
PLAIN = {"total_variation": 0.0, "alpha_norm": 0.0}


def preprocess(size: tuple[int, int], channels: int = 3) -> Preprocess:
    order = {3: "RGB", 1: "L"}[channels]
    return Preprocess(resize=None, crop=size, mean=(0.5,) * channels, std=(0.1,) * channels, channels=order)  # type: ignore[arg-type]


def inverted(model: Model, images: np.ndarray, method: Inversion) -> Inversions:
    found = model.explain(Batch.of(images), method, threads=2)
    assert isinstance(found, Inversions)
    return found


def test_errors_are_those_of_the_pictures_that_are_returned(open_problem: Open) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=preprocess(problem.shape[1:]))
    images = problem.images(seed=3, count=2)
    found = inverted(model, images, Inversion(layers=("conv1", "relu1"), steps=150, **PLAIN))
    assert found.layers == ("conv1", "relu1")
    for column, step in enumerate((1, 2)):
        back = np.moveaxis(found.values[:, column], -1, 1) / 25.5 - 5  # model input space
        wanted, made = (problem.values(part.astype(np.float32))[step].reshape(2, -1) for part in (images, back))
        errors = np.linalg.norm(made - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        np.testing.assert_allclose(found.feature_errors[:, column], errors, rtol=0.02, atol=1e-3)
    assert (found.feature_errors < 0.6).all()


def test_a_picture_depends_on_its_features_alone(open_problem: Open) -> None:
    """Two images that a linear network cannot tell apart are inverted to the same picture."""
    problem = linear()
    channels, height, width = problem.shape
    model = open_problem(problem, preprocess=preprocess((height, width), channels))
    image = problem.images(seed=5, count=1)
    zero, ones = np.zeros_like(image), np.eye(image.size, dtype=np.float32).reshape(-1, *problem.shape)
    slopes = (problem.logits(ones) - problem.logits(zero)).T  # (K, C H W)
    null = np.linalg.svd(slopes)[2][-1].reshape(1, *problem.shape)
    images = np.concatenate([image, image + 0.5 * null]).astype(np.float32)
    found = inverted(model, images, Inversion(layers=("logits",), steps=60, **PLAIN))
    np.testing.assert_allclose(found.values[0], found.values[1], atol=0.5)


def test_layers_together_make_one_picture(open_problem: Open) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=preprocess(problem.shape[1:]))
    found = inverted(
        model, problem.images(seed=2, count=1), Inversion(layers=("conv1", "fc"), together=True, steps=3)
    )
    assert found.layers == ("conv1 + fc",)
    assert found.values.shape[1] == 1


def test_depth_correlation() -> None:
    assert depth_correlation([0.9, 0.5, 0.4, 0.1]) == -1
    assert depth_correlation([0.1, 0.2, 0.9]) == 1
    assert depth_correlation([0.5, 0.4]) is None
    assert depth_correlation([0.5, 0.5, 0.5]) is None


def test_what_cannot_be_inverted(open_problem: Open) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=preprocess(problem.shape[1:]))
    images = problem.images(seed=2, count=1)
    with pytest.raises(UnknownName, match="Did you mean 'conv1'"):
        inverted(model, images, Inversion(layers=("conv_1",)))
    with pytest.raises(UsageError, match="steps=0"):
        inverted(model, images, Inversion(steps=0))
