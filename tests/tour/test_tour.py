"""What chapters of the tour measure, against numbers derived here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sightline.tour.chapters.filters import smoothness
from sightline.tour.chapters.saliency import total_variation
from sightline.tour.visit import Visit


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


def test_likeness_by_scores_and_by_labels() -> None:
    scores = np.random.default_rng(4).normal(size=(7, 5)).astype(np.float32)
    scores[3] = scores[0]
    artefact: Any = SimpleNamespace(logits=scores, inputs=range(7))
    visit = Visit(artefact, None, (), None)
    rows, others = np.arange(7)[:, None], np.array([[0, 1, 2]] * 7)
    centred = scores - scores.mean(axis=0)
    expected = np.array(
        [[one @ other / np.linalg.norm(one) / np.linalg.norm(other) for other in centred[:3]] for one in centred]
    )
    np.testing.assert_allclose(visit.likeness(rows, others), expected, atol=1e-6)
    pairs = [np.mean([(centred[a] / np.linalg.norm(centred[a])) @ (centred[b] / np.linalg.norm(centred[b]))
                      for b in range(7) if b != a]) for a in range(7)]  # fmt: skip
    assert visit.chance == pytest.approx(np.mean(pairs), abs=1e-6)
    told = Visit(artefact, np.array([0, 0, 1, 1, 1, 2, 2]), (), None)
    assert told.likeness(rows, others)[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert told.chance == pytest.approx((1 / 6 * 2 + 2 / 6 * 3 + 1 / 6 * 2) / 7)
    assert told.alike(0.25) == "25% bear the same label"
