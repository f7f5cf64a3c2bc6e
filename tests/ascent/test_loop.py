"""The loop on objectives whose highest point is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.ascent.loop import Ascended, Ascent, Moment
from sightline.ascent.optimisers import LBFGS, Adam, NormalisedGradient
from sightline.ascent.parametrisation import Bounds, Pixels
from sightline.ascent.regularisers import L2
from sightline.ascent.tiles import Torus

SHAPE = (2, 5, 4)  # C, H, W


def start(count: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32))


def pixels(images: Tensor, reach: float = 100.0) -> Pixels:
    low = torch.full((1, SHAPE[0], 1, 1), -reach)
    return Pixels(images, Bounds(low, -low))


def bowl(centre: Tensor):
    """Highest, 0, at the centre."""
    return lambda images: -(images - centre).square().flatten(1).sum(dim=1)


@pytest.mark.parametrize(("optimiser", "rate", "steps"), [(LBFGS(), 1.0, 5), (Adam(), 0.1, 400)])
def test_a_bowl_is_climbed_to_its_top(optimiser: LBFGS | Adam, rate: float, steps: int) -> None:
    centre = start(1, 1)
    ascent = Ascent(steps=steps, rate=rate, optimiser=optimiser)
    end = ascent.climb(bowl(centre), pixels(start(1, 2)), [0])
    np.testing.assert_allclose(end.images, centre.numpy(), atol=1e-2)
    assert not end.flat.any()
    assert not end.stopped.any()


def test_a_penalty_moves_the_top_to_where_both_balance() -> None:
    """-(x - c)² - w x² / n is highest at c / (1 + w / n)."""
    centre, weight, numbers = start(1, 3), 7.0, np.prod(SHAPE)
    ascent = Ascent(steps=8, rate=1.0, optimiser=LBFGS(), penalties=[L2(weight)])
    end = ascent.climb(bowl(centre), pixels(start(1, 4)), [0])
    np.testing.assert_allclose(end.images, centre.numpy() / (1 + weight / numbers), atol=1e-4)


def test_normalised_steps_move_every_row_by_the_rate() -> None:
    """A slope of any steepness: the mean step is the rate; one number's step is its share of the gradient."""
    slope = start(1, 5)
    steepness = torch.tensor([1.0, 1e-3, 1e4]).reshape(3, 1, 1, 1)
    begun = start(3, 6)
    ascent = Ascent(steps=4, rate=0.25, optimiser=NormalisedGradient())
    end = ascent.climb(lambda images: (images * slope * steepness).flatten(1).sum(dim=1), pixels(begun), [0, 1, 2])
    moved = end.images - begun.numpy()
    expected = 4 * 0.25 * slope.numpy() / np.abs(slope.numpy()).mean()
    np.testing.assert_allclose(moved, np.repeat(expected, 3, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_rows_know_nothing_of_each_other(batch: int) -> None:
    centres, begun = start(5, 7), start(5, 8)

    def climb(ascent: Ascent, rows: range) -> Ascended:
        part = slice(rows.start, rows.stop)
        return ascent.climb(bowl(centres[part]), pixels(begun[part]), list(rows))

    ascent = Ascent(steps=6, rate=0.1)
    whole = ascent.climb_rows(5, 5, climb)
    parts = ascent.climb_rows(5, batch, climb)
    np.testing.assert_allclose(parts.images, whole.images, rtol=1e-6)
    np.testing.assert_allclose(parts.history, whole.history, rtol=1e-6)
    assert ascent.climb_rows(0, 2, climb).images.shape == (0, *SHAPE)


def test_bounds_hold_after_every_step() -> None:
    end = Ascent(steps=3, rate=5.0).climb(bowl(start(1, 1) + 50), pixels(start(1, 2), reach=1.5), [0])
    assert end.images.max() <= 1.5
    assert end.images.min() >= -1.5


def test_finished_rows_keep_their_picture_and_the_others_go_on() -> None:
    centres = torch.stack([torch.full(SHAPE, 1.0), torch.full(SHAPE, 100.0)])
    seen: list[int] = []

    def near(moment: Moment) -> Tensor:
        seen.append(moment.step)
        return moment.scores > -1.0

    ascent = Ascent(steps=30, rate=0.1, until=near)
    end = ascent.climb(bowl(centres), pixels(torch.zeros(2, *SHAPE)), [0, 1])
    assert seen == list(range(30))
    assert float(((end.images[0] - 1) ** 2).sum()) < 1.0
    done = int((end.history[0] > -1.0).argmax())
    alone = Ascent(steps=done, rate=0.1).climb(bowl(centres[:1]), pixels(torch.zeros(1, *SHAPE)), [0])
    np.testing.assert_allclose(end.images[0], alone.images[0], rtol=1e-5)


def test_the_best_picture_can_be_kept() -> None:
    """With steps that are too long the last picture is worse than one before."""
    ascent = Ascent(steps=25, rate=0.9, optimiser=NormalisedGradient(), keep="best")
    centre = start(1, 11)
    end = ascent.climb(bowl(centre), pixels(start(1, 12)), [0])
    best = float(bowl(centre)(torch.from_numpy(end.images))[0])
    assert best == pytest.approx(float(end.history.max()), rel=1e-5)


def test_ctrl_c_keeps_what_there_is() -> None:
    def stop(moment: Moment) -> None:
        if moment.step == 3:
            raise KeyboardInterrupt

    begun = start(2, 13)
    end = Ascent(steps=50, rate=0.1, watch=stop).climb(bowl(start(1, 14)), pixels(begun), [0, 1])
    assert end.stopped.tolist() == [True, True]
    assert end.history.shape == (2, 4)
    assert (end.images != begun.numpy()).any()


def test_no_gradient_is_told() -> None:
    level = lambda images: images.flatten(1).sum(dim=1) * 0  # noqa: E731
    end = Ascent(steps=2, rate=0.1).climb(level, pixels(start(2, 1)), [0, 1])
    assert end.flat.tolist() == [True, True]


@pytest.mark.parametrize(("height", "width", "window"), [(5, 4, (2, 3)), (7, 9, (4, 4)), (3, 3, (5, 5))])
def test_windows_of_a_torus_see_every_pixel(height: int, width: int, window: tuple[int, int]) -> None:
    tiling = Torus(*window, offset=2, seed=3)
    for _ in range(4):
        counts = torch.zeros(1, 1, height, width, requires_grad=True)
        for piece in tiling.draw(height, width):
            shown = piece(counts)
            assert shown.shape == (1, 1, *window)
            shown.sum().backward()
        assert counts.grad is not None
        assert counts.grad.min() >= 1
