"""Paintings between a content and a style, where either end is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from methods.widened import features, gram
from problems import convolutional
from sightline.ascent.paintings import Paintings
from sightline.errors import BadImage, UnknownName, UsageError
from sightline.methods.gradient.style_transfer import StyleTransfer, read_style
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.types import Batch

Open = Callable[..., Model]
PROBLEM = convolutional()
PLAIN = {"total_variation": 0.0, "octaves": 1}


@pytest.fixture
def model(open_problem: Open) -> Model:
    crop = PROBLEM.shape[1:]
    return open_problem(PROBLEM, preprocess=Preprocess(resize=None, crop=crop, mean=(0.5,) * 3, std=(0.1,) * 3))


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Three styles of other sizes and aspects."""
    rng = np.random.default_rng(8)
    paths = [tmp_path / f"style{row}.png" for row in range(3)]
    for path, size in zip(paths, [(30, 41, 3), (64, 9, 3), (12, 12, 3)], strict=True):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


def painted(model: Model, images: np.ndarray, method: StyleTransfer) -> Paintings:
    found = model.explain(Batch.of(images), method, threads=2)
    assert isinstance(found, Paintings)
    return found


@pytest.mark.parametrize("seed", [3, 4])
def test_losses_are_those_of_the_formula(model: Model, pictures: list[str], seed: int) -> None:
    """With a style of the network's own size, so that its features have a closed form."""
    height, width = PROBLEM.shape[1:]
    rng = np.random.default_rng(seed)
    style = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(style).save(pictures[0])
    images = PROBLEM.images(seed=seed, count=2)
    method = StyleTransfer(
        style=(pictures[0],), style_layers=("relu1",), content_layers=("relu2",), steps=40, **PLAIN
    )
    found = painted(model, images, method)
    made = np.moveaxis(found.pictures.astype(np.float64), -1, 1) / 25.5 - 5
    grams = [gram(part, "relu1") for part in (made, model.preprocess.normalise(style[None]))]
    expected = np.square(grams[0] - grams[1]).sum(axis=(1, 2)) / np.square(grams[1]).sum()
    np.testing.assert_allclose(found.style_after, expected, rtol=1e-2, atol=1e-5)
    seen = np.clip(images, -5, 5)
    whole = features(seen, "relu2")
    error = features(made, "relu2") - whole
    np.testing.assert_allclose(
        found.content_after,
        np.square(error).sum(axis=(1, 2)) / np.square(whole).sum(axis=(1, 2)),
        rtol=2e-2,
        atol=1e-4,
    )
    assert (found.style_after < found.style_before).all()


def test_without_style_the_content_stays_and_without_content_the_style_comes(
    model: Model, pictures: list[str]
) -> None:
    images = PROBLEM.images(seed=6, count=1)
    layers = {"style_layers": ("relu1",), "content_layers": ("relu1",)}
    still = painted(model, images, StyleTransfer(style=(pictures[0],), style_weight=0.0, steps=5, **layers, **PLAIN))
    shown = np.moveaxis(np.clip(images, -5, 5) + 5, 1, -1) * 25.5
    np.testing.assert_allclose(still.values, shown, atol=1e-2)
    gone = painted(
        model, images, StyleTransfer(style=(pictures[0],), content_weight=0.0, steps=60, **layers, **PLAIN)
    )
    assert gone.style_after[0] < still.style_after[0] / 20
    assert gone.content_after[0] > still.content_after[0] + 0.1


def test_a_share_of_all_is_that_style_alone(model: Model, pictures: list[str]) -> None:
    images = PROBLEM.images(seed=7, count=1)
    alone = painted(model, images, StyleTransfer(style=(pictures[1],), steps=4))
    mixed = painted(model, images, StyleTransfer(style=tuple(pictures[:2]), style_shares=(0.0, 2.0), steps=4))
    np.testing.assert_allclose(mixed.values, alone.values, atol=1e-2)
    half = painted(model, images, StyleTransfer(style=tuple(pictures[:2]), steps=4))
    assert np.abs(half.values - alone.values).mean() > 0.1


@pytest.mark.parametrize("start", ["content", "noise", "style"])
@pytest.mark.parametrize("colour", ["style", "luminance", "matched"])
def test_every_start_and_colour(model: Model, pictures: list[str], start: str, colour: str) -> None:
    images = PROBLEM.images(seed=8, count=2)
    method = StyleTransfer(style=(pictures[2],), start=start, colour=colour, steps=3, octaves=1)  # type: ignore[arg-type]
    found = painted(model, images, method)
    assert np.isfinite(found.values).all()
    if colour == "luminance":  # differences between channels are the photograph's, where nothing was cut off
        shown = np.moveaxis(np.clip(images, -5, 5) + 5, 1, -1) * 25.5
        inside = ((found.values > 0) & (found.values < 255)).all(axis=-1)
        chroma = [part[..., 0] - part[..., 2] for part in (found.values, shown)]
        np.testing.assert_allclose(chroma[0][inside], chroma[1][inside], atol=1e-2)


def test_styles_of_any_aspect_are_read(tmp_path: Path) -> None:
    stripes = np.full((3, 900, 3), 7, np.uint8)
    stripes[:, ::9] = 200
    Image.fromarray(stripes).save(tmp_path / "long.png")
    assert read_style(str(tmp_path / "long.png"), 20).shape == (20, 80, 3)
    Image.fromarray(np.uint8([[[7, 7, 7], [9, 9, 9]]])).save(tmp_path / "tiny.png")
    tiny = read_style(str(tmp_path / "tiny.png"), 9)
    assert tiny.shape[0] == 9
    assert 5 <= tiny.min() < tiny.max() <= 11  # cubic weights overshoot
    assert read_style("", 24).shape == (24, 24, 3)


def test_what_cannot_be_painted(model: Model, pictures: list[str], tmp_path: Path) -> None:
    images = PROBLEM.images(seed=2, count=1)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(BadImage, match="not an image"):
        painted(model, images, StyleTransfer(style=(str(tmp_path / "broken.png"),)))
    with pytest.raises(BadImage, match="cannot be read"):
        painted(model, images, StyleTransfer(style=("nowhere.png",)))
    with pytest.raises(UnknownName, match="Did you mean 'relu2'"):
        painted(model, images, StyleTransfer(content_layers=("rellu2",)))
    with pytest.raises(UnknownName, match="colour"):
        painted(model, images, StyleTransfer(colour="none"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="style_scale=0"):
        painted(model, images, StyleTransfer(style_scale=0))
    with pytest.raises(UsageError, match="3 weights"):
        painted(model, images, StyleTransfer(style=tuple(pictures[:2]), style_shares=(1.0, 1.0, 1.0)))
