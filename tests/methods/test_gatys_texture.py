"""Textures of layers whose Gram matrices are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from methods.widened import gram
from problems import convolutional
from sightline.ascent.paintings import Paintings
from sightline.ascent.parametrisation import noise
from sightline.errors import UnknownName, UsageError
from sightline.methods.gradient.gatys_texture import CONTRAST, GatysTexture
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.types import Batch

Open = Callable[..., Model]
PROBLEM = convolutional()


@pytest.fixture
def model(open_problem: Open) -> Model:
    crop = PROBLEM.shape[1:]
    return open_problem(PROBLEM, preprocess=Preprocess(resize=None, crop=crop, mean=(0.5,) * 3, std=(0.1,) * 3))


def textures(model: Model, images: np.ndarray, method: GatysTexture) -> Paintings:
    found = model.explain(Batch.of(images), method, threads=2)
    assert isinstance(found, Paintings)
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_losses_are_those_of_the_pictures_and_fall(model: Model, seed: int) -> None:
    images = PROBLEM.images(seed=seed, count=2)
    found = textures(model, images, GatysTexture(layers=("relu1",), steps=60, octaves=1))
    wanted = gram(images, "relu1")

    def loss(pictures: np.ndarray) -> np.ndarray:
        return np.square(gram(pictures, "relu1") - wanted).sum(axis=(1, 2)) / np.square(wanted).sum(axis=(1, 2))

    begun = noise([0, 0], PROBLEM.shape, model.preprocess, CONTRAST)
    np.testing.assert_allclose(found.style_before, loss(begun), rtol=1e-3)
    made = np.moveaxis(found.pictures.astype(np.float64), -1, 1) / 25.5 - 5
    np.testing.assert_allclose(found.style_after, loss(made), rtol=1e-2, atol=1e-5)
    assert (found.style_after < found.style_before / 10).all()
    assert (found.content_after == 0).all()


def test_a_texture_may_be_larger_than_its_sample_and_is_filmed(model: Model) -> None:
    images = PROBLEM.images(seed=4, count=1)
    found = textures(model, images, GatysTexture(side=12, steps=4, frames=2, optimiser="adam"))
    height, width = PROBLEM.shape[1:]
    assert found.values.shape == (
        1,
        round(height * 12 / min(height, width)),
        round(width * 12 / min(height, width)),
        3,
    )
    assert found.frames.shape == (1, 2, *found.values.shape[1:])
    files = dict(found.files({"0": "zero"}))
    assert sorted(files) == ["paintings/zero.gif", "paintings/zero.png"]
    assert found.style_history.shape == (1, 4)


def test_other_seeds_give_other_textures(model: Model) -> None:
    images = PROBLEM.images(seed=4, count=1)
    one, two, again = (textures(model, images, GatysTexture(steps=3, seed=seed)).values for seed in (0, 1, 0))
    assert np.abs(one - two).mean() > 1
    np.testing.assert_array_equal(one, again)


def test_a_sample_of_one_colour_gives_a_finite_texture(model: Model) -> None:
    found = textures(model, np.zeros((1, *PROBLEM.shape), np.float32), GatysTexture(steps=5))
    assert np.isfinite(found.values).all()
    assert np.isfinite(found.style_after).all()
    assert not found.diverged.any()


def test_a_loss_that_runs_away_is_said_and_the_best_kept(model: Model) -> None:
    images = PROBLEM.images(seed=5, count=1) * 0.02
    method = GatysTexture(layers=("relu1",), steps=30, octaves=1, optimiser="adam", rate=1e6)
    found = textures(model, images, method)
    assert found.diverged.tolist() == [1]
    (remark,) = found.remarks()
    assert "diverged" in remark
    assert "Lower the rate" in remark
    assert found.style_after[0] <= found.style_before[0] * 1.01


def test_what_cannot_be_made(model: Model) -> None:
    images = PROBLEM.images(seed=2, count=1)
    with pytest.raises(UnknownName, match="Did you mean 'relu1'"):
        textures(model, images, GatysTexture(layers=("rellu1",)))
    with pytest.raises(UsageError, match="has no positions"):
        textures(model, images, GatysTexture(layers=("logits",)))
    with pytest.raises(UsageError, match="octaves=0"):
        textures(model, images, GatysTexture(octaves=0))
    with pytest.raises(UsageError, match="2 weights"):
        textures(model, images, GatysTexture(layers=("relu1",), layer_weights=(1.0, 2.0)))
    with pytest.raises(UnknownName, match="optimiser"):
        textures(model, images, GatysTexture(optimiser="sgd"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tile=0"):
        textures(model, images, GatysTexture(tile=0))
