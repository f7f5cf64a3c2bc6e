"""Curves whose every point is arithmetic: a linear score falls at the corner of the cube."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from sightline.adversarial.robustness import Robustness, wilson
from sightline.errors import UsageError
from sightline.methods.forward.black_box_curve import BlackBoxCurve
from sightline.methods.gradient.robustness_curve import RobustnessCurve
from sightline.model import Model
from sightline.registry import Method
from sightline.report.panel import panels
from sightline.target import logit, top
from sightline.types import joined
from straight import Straight

Open = Callable[..., Model]
SIZES = (1.0, 3.0, 4.5, 9.0)


def curve(model: Model, straight: Straight, pictures: np.ndarray, method: Method, **options: int) -> Robustness:
    target = logit(1) - logit(3)
    found = model.plan(method, threads=2, **options).run(straight.batch(pictures), target)
    assert isinstance(found, Robustness)
    return found


def withstands(straight: Straight, pictures: np.ndarray) -> np.ndarray:
    """(B, E): whether even the corner leaves the score negative."""
    way = straight.slopes[1] - straight.slopes[3]
    score = straight.logits(pictures) @ np.eye(len(straight.slopes))[[1, 3]].T @ [1, -1]
    return score[:, None] + np.floor([0.0, *SIZES])[None] * np.abs(way).sum() <= 0


@pytest.mark.parametrize("attack", ["fgsm", "pgd(steps=6)"])
def test_the_curve_of_a_linear_score(open_problem: Open, attack: str) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=3, count=16)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = curve(model, straight, pictures, RobustnessCurve(attack=attack, epsilons=SIZES))
    expected = withstands(straight, pictures)
    np.testing.assert_array_equal(found.values, expected)
    assert 0 < expected[:, -1].mean() < expected[:, 0].mean() < 1, "the problem says something"
    np.testing.assert_allclose(found.shares, expected.mean(axis=0), rtol=1e-6)
    sizes = np.array([*found.epsilons, np.inf])
    least = [None if row.all() else float(sizes[row.argmin()]) for row in expected]
    assert found.columns()["fooled_at"] == least


def test_trial_and_error_never_beats_the_corner(open_problem: Open) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=4, count=12)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = curve(model, straight, pictures, BlackBoxCurve(attack="square_attack(queries=80)", epsilons=SIZES))
    assert (found.values >= withstands(straight, pictures)).all()
    assert (np.diff(found.values.astype(int), axis=1) <= 0).all()
    assert found.shares[0] > found.shares[-1]
    halves = [curve(model, straight, part, BlackBoxCurve(attack="square_attack(queries=80)", epsilons=SIZES))
              for part in (pictures[:5], pictures[5:])]  # fmt: skip
    np.testing.assert_array_equal(joined(halves).values, found.values)


@pytest.mark.parametrize(("count", "total"), [(0, 7), (3, 10), (99, 100), (100, 100)])
def test_the_interval_is_wilsons(count: int, total: int) -> None:
    expected = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(count, total), (expected.low, expected.high), atol=1e-6)


def test_a_chart_for_all_images_and_none_for_one(open_problem: Open) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=5, count=16)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = curve(model, straight, pictures, RobustnessCurve(attack="fgsm", epsilons=SIZES))
    assert panels(found, 0) == []
    (panel,) = panels(found, None)
    assert panel.pixels is not None
    assert panel.pixels.shape == (400, 640, 3)
    assert "16 images" in panel.caption
    assert f"4.5: {found.shares[3]:.3f}" in panel.caption
    # The point of size e is the line's colour at its height: between the chart's lowest and highest point.
    line = (np.abs(panel.pixels.astype(int) - (31, 111, 235)).sum(axis=2) < 30).nonzero()
    assert len(line[0]) > 500


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (RobustnessCurve(attack="fool"), "no epsilon"),
        (RobustnessCurve(epsilons=()), "one or more"),
        (RobustnessCurve(epsilons=(2.0, 1.0)), "larger than the one before"),
        (RobustnessCurve(epsilons=(0.0, 1.0)), "epsilon=0.0"),
        (BlackBoxCurve(attack="pgd"), "needs more than Forward"),
    ],
)
def test_what_makes_no_curve(open_problem: Open, method: Method, said: str) -> None:
    straight = Straight.of()
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    with pytest.raises(UsageError, match=said):
        model.plan(method, threads=2).run(straight.batch(straight.pictures(1)), top(1))
