"""Gram matrices, tiles and descents that run away, each against what is known of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from problems import convolutional, pooled_head
from sightline.ascent.divergence import Divergence
from sightline.ascent.gram import channel_products, gram, gram_distance
from sightline.ascent.loop import Ascent
from sightline.ascent.margins import MARGIN, narrowed, widened
from sightline.ascent.mosaic import mosaic
from sightline.ascent.optimisers import NormalisedGradient
from sightline.ascent.parametrisation import Bounds, Pixels
from sightline.ascent.stylisation import Goal, Stylisation, features_of
from sightline.errors import UsageError
from sightline.methods.gradient.gatys_texture import GatysTexture
from sightline.model import Model
from sightline.preprocess import Preprocess

Open = Callable[..., Model]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gram_matrices_are_blind_to_place_and_content_is_not(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand((2, 16, 27, 31), generator=generator).relu()
    order = torch.randperm(27 * 31, generator=generator)
    shuffled = features.flatten(2)[:, :, order].reshape(features.shape)
    assert (gram_distance(gram(shuffled), gram(features)).sqrt() < 1e-6).all()
    content = (shuffled - features).square().sum() / (
        features - features.mean(dim=(2, 3), keepdim=True)
    ).square().sum()
    assert content > 0.5


def test_channel_products_and_their_slope_are_those_of_the_formula() -> None:
    features = torch.randn((2, 3, 4, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    flat = features.numpy().reshape(2, 3, 20)
    np.testing.assert_allclose(channel_products(features), np.einsum("bcp,bdp->bcd", flat, flat))
    np.testing.assert_allclose(gram(features), np.einsum("bcp,bdp->bcd", flat, flat) / 20)
    assert torch.autograd.gradcheck(channel_products, features.requires_grad_())


def preprocess(size: tuple[int, int]) -> Preprocess:
    return Preprocess(resize=None, crop=size, mean=(0.5,) * 3, std=(0.1,) * 3)


@pytest.mark.parametrize(("seed", "margin"), [(1, 0), (2, 0), (1, 5), (2, 12)])
def test_losses_and_slopes_of_tiles_are_those_of_the_whole(open_problem: Open, seed: int, margin: int) -> None:
    problem = convolutional()  # strides 2 and 1, one-sided pads
    model = open_problem(problem, preprocess=preprocess(problem.shape[1:]))
    oracle = model.oracle(model.plan(GatysTexture(), threads=2))
    rng = np.random.default_rng(seed)
    pictures, other = (rng.normal(size=(2, 3, 37, 29)).astype(np.float32) for _ in range(2))
    layers = ("relu1", "relu2")
    fields = {layer: model.layers.find(layer).field for layer in layers}
    found = []
    with oracle.tape() as tape:
        for side in (None, 11):
            tiles = mosaic(fields, (37, 29), side, margin)
            content = features_of(tape, tape.tensor(other), ("relu2",), tiles)
            wanted = {layer: torch.eye(features.shape[1])[None] for layer, features in features_of(
                tape, tape.tensor(other), layers, tiles).items()}  # fmt: skip
            goal = Goal(
                content=content, style=wanted, layer_weights={"relu1": 0.3, "relu2": 0.7}, content_weight=2.0,
                style_weight=3.0,
            )  # fmt: skip
            leaf = tape.tensor(pictures).requires_grad_()
            scores = Stylisation(tape, goal, tiles)(leaf)
            scores.sum().backward()
            found.append((len(tiles), content["relu2"], scores.detach(), leaf.grad))
    (one, *whole), (many, *parts) = found
    assert (one, many) == (1, 12)
    for expected, ours in zip(whole, parts, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("margin", [3, 8])
def test_positions_in_a_margin_are_not_kept(open_problem: Open, margin: int) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=preprocess(problem.shape[1:]))
    field = model.layers.find("relu2").field
    assert field is not None
    (tile,) = mosaic({"relu2": field, "all": None}, (40, 30), None, margin)
    assert tile.kept["all"] == (slice(None), slice(None))
    for axis, kept, length in zip((field.rows, field.columns), tile.kept["relu2"], (40, 30), strict=True):
        middles = [(axis.low + axis.high) / 2 + place * axis.jump for place in range(length)]
        inside = [place for place, middle in enumerate(middles) if margin <= middle <= length - 1 - margin]
        assert (kept.start, kept.stop) == (inside[0], inside[-1] + 1)
    (tile,) = mosaic({"relu2": field}, (40, 30), None, 20)  # nothing would be left
    assert tile.kept["relu2"] == (slice(None), slice(None))


def test_a_layer_that_sees_everything_cannot_be_cut() -> None:
    with pytest.raises(UsageError, match="sees the whole picture"):
        mosaic({"logits": None}, (64, 64), 16)


@pytest.mark.parametrize("size", [(5, 70), (40, 3), (1, 1)])
def test_margins_mirror_and_come_off_again(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    wide = widened(images)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="symmetric")
    np.testing.assert_array_equal(wide, expected)
    np.testing.assert_array_equal(narrowed(wide), images)


def test_rows_that_run_away_are_stopped_and_keep_their_best() -> None:
    """Steps of 1 on a bowl of unit radius: one row walks in, one is thrown out, one falls into a hole."""

    def score(images: torch.Tensor) -> torch.Tensor:
        squares = images.square().flatten(1).mean(dim=1)
        hole = (squares < 4) & torch.tensor([False, False, True])
        return torch.where(hole, torch.nan, -squares * torch.tensor([1.0, -1.0, 1.0]))

    start = torch.full((3, 1, 2, 2), 5.0)
    start[1] = 1.0
    divergence = Divergence(scale=1.0)
    low = torch.full((1, 1, 1, 1), -1e6)
    turned = lambda images: score(images) * torch.tensor([1.0, -1.0, 1.0])  # noqa: E731
    pixels = Pixels(start, Bounds(low, -low))
    ascent = Ascent(steps=60, rate=1.0, optimiser=NormalisedGradient(), until=divergence, keep="best")
    end = ascent.climb(lambda images: turned(images) * torch.tensor([1.0, -1.0, 1.0]), pixels, [0, 1, 2])
    assert divergence.rows.tolist() == [False, False, True]
    assert np.isfinite(end.images).all()
    assert np.abs(end.images[2]).max() == pytest.approx(2.0)  # the last place before the hole


def test_pooled_heads_have_positions_to_the_end(open_problem: Open) -> None:
    problem = pooled_head()
    model = open_problem(problem, preprocess=preprocess(problem.shape[1:]))
    images = problem.images(seed=1, count=1)
    found = model.explain(_batch(images), GatysTexture(layers=("relu",), steps=3, octaves=1), threads=2)
    assert found.values.shape == (1, *problem.shape[1:], 3)


def _batch(images: np.ndarray):
    from sightline.types import Batch

    return Batch.of(images)
