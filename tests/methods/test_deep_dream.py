"""Dreams of layers whose response is known, at sizes that the network does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from problems import convolutional
from sightline.ascent.dreams import Dreams
from sightline.errors import UnknownName, UsageError
from sightline.methods.gradient.deep_dream import DeepDream
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.types import Batch

Open = Callable[..., Model]


@pytest.fixture
def model(open_problem: Open) -> Model:
    problem = convolutional()
    crop = problem.shape[1:]
    return open_problem(problem, preprocess=Preprocess(resize=None, crop=crop, mean=(0.5,) * 3, std=(0.1,) * 3))


def dreams(model: Model, images: np.ndarray, method: DeepDream) -> Dreams:
    found = model.explain(Batch.of(images), method, threads=2)
    assert isinstance(found, Dreams)
    return found


def test_the_layer_responds_more_and_by_what_it_says(model: Model) -> None:
    problem = convolutional()
    images = problem.images(seed=4, count=2)
    found = dreams(model, images, DeepDream(layer="relu1", channel=2, octaves=1, jitter=0, steps=5))
    channels = model.layers.find("relu1").shape[1]

    def response(tensor: np.ndarray) -> np.ndarray:
        return problem.values(tensor.astype(np.float32))[2].reshape(2, channels, -1)[:, 2].mean(axis=1)

    np.testing.assert_allclose(found.before, response(images), rtol=1e-4, atol=1e-5)
    dreamt = np.moveaxis(found.values, -1, 1) / 25.5 - 5
    np.testing.assert_allclose(found.after, response(dreamt), rtol=1e-3, atol=1e-3)
    assert (found.after > found.before).all()


def test_each_step_changes_a_pixel_by_the_rate_on_average(model: Model) -> None:
    images = convolutional().images(seed=6, count=1) * 0.1  # far from the bounds
    found = dreams(model, images, DeepDream(layer="conv1", octaves=1, jitter=0, steps=1, rate=2.0))
    before = np.moveaxis((images + 5) * 25.5, 1, -1)
    assert np.abs(found.values - before).mean() == pytest.approx(2.0, rel=0.02)


def test_a_zoom_gives_frames_and_films(model: Model, tmp_path: Path) -> None:
    found = dreams(model, convolutional().images(seed=1, count=1), DeepDream(octaves=1, steps=1, frames=3))
    assert found.frames.shape[:2] == (1, 3)
    np.testing.assert_array_equal(found.frames[:, 0], found.pictures)
    files = dict(found.files({"0": "zero"}))
    assert sorted(files) == ["dreams/zero.gif", "dreams/zero.mp4", "dreams/zero.png"]


def test_a_picture_larger_than_the_network_has_no_seams(demo_scene: Path) -> None:
    """Where windows meet, neighbours differ no more than elsewhere."""
    with sightline.load("demo") as model:
        photos = sightline.read([str(demo_scene)], like=model)
        found = model.explain(photos, DeepDream(side=200, octaves=2, steps=6), threads=2)
        assert isinstance(found, Dreams)
        plain = model.explain(photos, DeepDream(side=200, octaves=1, steps=1, rate=1e-6), threads=2)
    assert found.values.shape[1:3] == (200, 200)
    added = (found.values - plain.values)[0].mean(axis=-1)  # type: ignore[attr-defined]
    steps = np.abs(np.diff(added, axis=1)).mean(axis=0)  # (199,) by column
    around = np.convolve(np.pad(steps, 5, mode="edge"), np.ones(11) / 11, mode="valid")
    assert (steps / around).max() < 2


@pytest.fixture
def demo_scene(tmp_path: Path) -> Path:
    from sightline.demo.dataset import batch

    path = tmp_path / "scene.png"
    Image.fromarray(batch(5, range(1)).images[0]).resize((200, 200)).save(path)
    return path


def test_what_cannot_be_dreamt(model: Model) -> None:
    images = convolutional().images(seed=2, count=1)
    with pytest.raises(UnknownName, match="Did you mean 'relu1'"):
        dreams(model, images, DeepDream(layer="rellu1"))
    with pytest.raises(UsageError, match="has channels 0 to"):
        dreams(model, images, DeepDream(layer="relu1", channel=99))
    with pytest.raises(UsageError, match=r"guide='nothing\.jpg' is no file"):
        dreams(model, images, DeepDream(layer="relu1", guide="nothing.jpg"))
    with pytest.raises(UsageError, match=r"guide='nothing\.jpg' and channel=1 exclude each other"):
        dreams(model, images, DeepDream(layer="relu1", guide="nothing.jpg", channel=1))
    with pytest.raises(UsageError, match="has no positions"):
        dreams(model, images, DeepDream(layer=model.layers.layers[-1].name, guide=__file__))
    with pytest.raises(UsageError, match="octaves=0"):
        dreams(model, images, DeepDream(octaves=0))
