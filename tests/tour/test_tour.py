"""What chapters of the tour measure, against numbers derived here."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.tour.chapters.filters import smoothness
from sightline.tour.chapters.saliency import total_variation


def test_smoothness_of_kernels() -> None:
    assert smoothness(np.ones((2, 3, 4, 5))) == pytest.approx(1)
    chequers = np.indices((6, 6)).sum(axis=0) % 2 * 2.0 - 1
    assert smoothness(np.broadcast_to(chequers, (3, 2, 6, 6))) == pytest.approx(-1)
    noise = np.random.default_rng(2).normal(size=(64, 64, 3, 3))
    assert abs(smoothness(noise)) < 0.02
    kernel = np.random.default_rng(3).normal(size=(1, 1, 3, 3))
    beside = (kernel[0, 0, :, 1:] * kernel[0, 0, :, :-1]).sum() / np.sqrt(
        (kernel[0, 0, :, 1:] ** 2).sum() * (kernel[0, 0, :, :-1] ** 2).sum()
    )
    below = (kernel[0, 0, 1:] * kernel[0, 0, :-1]).sum() / np.sqrt(
        (kernel[0, 0, 1:] ** 2).sum() * (kernel[0, 0, :-1] ** 2).sum()
    )
    assert smoothness(kernel) == pytest.approx((beside + below) / 2)


def test_total_variation_by_hand() -> None:
    map_ = np.float32([[0, 1], [2, 4]])
    differences = [1, 2, 2, 3]  # beside, beside, below, below
    assert total_variation(map_) == pytest.approx(np.mean(differences) / (7 / 4))
    assert total_variation(np.zeros((3, 3), np.float32)) == 0
    assert total_variation(np.full((3, 4), -2, np.float32)) == 0
