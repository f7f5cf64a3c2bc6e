"""Colours carried over, by their moments."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.styles.colours import LUMA, luminance, luminance_matched, matched, with_colours_of


def picture(seed: int, spread: float = 12.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(3, 3))
    colours = rng.normal(size=(31, 37, 3)) @ mixing.T * spread / np.abs(mixing).max()
    return (colours.clip(-100, 100) + rng.uniform(110, 150, 3)).astype(np.float32)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mean_and_covariance_become_those_of_the_reference(seed: int) -> None:
    ours, reference = picture(seed), picture(seed + 10)
    found = matched(ours, reference).reshape(-1, 3)
    np.testing.assert_allclose(found.mean(axis=0), reference.reshape(-1, 3).mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(np.cov(found.T), np.cov(reference.reshape(-1, 3).T), rtol=0.02, atol=0.5)


def test_matching_with_itself_changes_nothing_and_one_colour_becomes_the_mean() -> None:
    ours = picture(4)
    np.testing.assert_allclose(matched(ours, ours), ours, atol=0.05)
    flat = np.full((5, 6, 3), 40, np.float32)
    np.testing.assert_allclose(matched(flat, ours)[0, 0], ours.reshape(-1, 3).mean(axis=0), rtol=1e-3)
    assert np.isfinite(luminance_matched(flat, ours)).all()


def test_luminance_comes_from_the_painting_and_the_rest_from_the_photograph() -> None:
    painting, photograph = picture(5), picture(6)
    found = with_colours_of(painting, photograph)
    inside = ((found > 0) & (found < 255)).all(axis=-1)
    assert inside.mean() > 0.9
    np.testing.assert_allclose((found @ LUMA)[inside], (painting @ LUMA)[inside], atol=1e-2)
    for one, other in ((0, 1), (1, 2)):
        change = [part[..., one] - part[..., other] for part in (found, photograph)]
        np.testing.assert_allclose(change[0][inside], change[1][inside], atol=1e-2)
    grey = luminance_matched(painting, photograph)
    assert grey.mean() == pytest.approx(luminance(photograph).mean(), rel=1e-3)
    assert grey.std() == pytest.approx(luminance(photograph).std(), rel=1e-2)
