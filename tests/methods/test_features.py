"""Descriptors against what their definitions say of a closed-form layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import convolutional
from sightline.errors import UnknownName, UsageError
from sightline.methods.forward.features import Descriptors, Features
from sightline.model import Model
from sightline.types import Batch, Photo

Open = Callable[..., Model]


def described(model: Model, images: np.ndarray, method: Features) -> Descriptors:
    found = model.explain(Batch.of(images), method, threads=2)
    assert isinstance(found, Descriptors)
    return found


@pytest.mark.parametrize("seed", [11, 12])
def test_pools_of_a_layer(open_problem: Open, seed: int) -> None:
    problem = convolutional()
    model, images = open_problem(problem), problem.images(seed=seed, count=3)
    maps = problem.values(images)[2].reshape(3, *model.layers.find("relu1").shape[1:]).astype(np.float64)
    count, channels, height, width = maps.shape
    found = {pool: described(model, images, Features(layers=("relu1",), pool=pool)) for pool in ("avg", "max", "gem")}
    near = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(
        found["avg"].values, maps.reshape(count, channels, -1).sum(2) / (height * width), **near
    )
    np.testing.assert_allclose(found["max"].values, [[one.max() for one in image] for image in maps], **near)
    cubes = [[np.cbrt(np.mean(np.maximum(one, 0) ** 3)) for one in image] for image in maps]
    np.testing.assert_allclose(found["gem"].values, cubes, **near)

    every = described(model, images, Features(layers=("relu1",), pool="none"))
    (space,) = every.spaces
    assert (space.grid, space.features) == ((height, width), channels)
    row = 1 * height * width + 0 * width + (width - 1)  # image 1, first line, last column
    np.testing.assert_allclose(space.of(every.values)[row], maps[1, :, 0, width - 1], **near)


def test_distances_of_gram_rows_are_those_of_gram_matrices(open_problem: Open) -> None:
    problem = convolutional()
    model, images = open_problem(problem), problem.images(seed=5, count=2)
    maps = problem.values(images)[2].reshape(2, *model.layers.find("relu1").shape[1:]).astype(np.float64)
    grams = [one.reshape(len(one), -1) @ one.reshape(len(one), -1).T / one[0].size for one in maps]
    found = described(model, images, Features(layers=("relu1",), pool="gram")).values
    assert found.shape[1] == len(grams[0]) * (len(grams[0]) + 1) // 2
    np.testing.assert_allclose(np.linalg.norm(found[0] - found[1]), np.linalg.norm(grams[0] - grams[1]), rtol=1e-4)


def test_several_layers_and_pixels_lie_side_by_side(open_problem: Open) -> None:
    problem = convolutional()
    model, images = open_problem(problem), problem.images(seed=8, count=2)
    view = np.random.default_rng(2).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    batch = Batch(images, (Photo("a", view=view), Photo("b", view=255 - view)))
    found = model.explain(batch, Features(layers=("relu1", "fc"), pixels=4), threads=2)
    assert isinstance(found, Descriptors)
    assert [space.name for space in found.spaces] == ["relu1", "fc", "pixels"]
    assert found.spaces[-1].stop == found.values.shape[1]
    logits = problem.values(images)[5]
    np.testing.assert_allclose(found.spaces[1].of(found.values), logits.reshape(2, -1), rtol=1e-4, atol=1e-5)
    blocks = view.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3)) / 255  # areas of 2 x 2
    thumbnail = found.spaces[2].of(found.values)[0].reshape(4, 4, 3)
    np.testing.assert_allclose(thumbnail, blocks, atol=1.01 / 255)  # rounded along each axis


def test_what_cannot_be_described_is_said(open_problem: Open) -> None:
    problem = convolutional()
    model, images = open_problem(problem), Batch.of(problem.images(1))
    with pytest.raises(UnknownName, match="Did you mean 'relu1'"):
        model.explain(images, Features(layers=("relu_1",)), threads=2)
    with pytest.raises(UsageError, match="pixels=0 must be the side"):
        model.explain(images, Features(only_pixels=True), threads=2)
    with pytest.raises(UsageError, match=r"pixels of 0 are not known"):
        model.explain(images, Features(only_pixels=True, pixels=4), threads=2)
