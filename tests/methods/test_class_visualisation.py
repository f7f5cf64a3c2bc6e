"""Pictures for classes of networks whose best picture is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sightline
from problems import Problem, convolutional, linear
from sightline.ascent.class_pictures import ClassPictures
from sightline.errors import UsageError
from sightline.methods.gradient.class_visualisation import ClassVisualisation
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.target import logit, unit

Open = Callable[..., Model]
PIXELS = {"jitter": 0, "rotation": 0.0, "zoom": 0.0, "space": "pixels"}


def colours(size: tuple[int, int], channels: int = 3) -> Preprocess:
    order = {3: "RGB", 1: "L"}[channels]
    return Preprocess(resize=None, crop=size, mean=(0.5,) * channels, std=(0.1,) * channels, channels=order)  # type: ignore[arg-type]


def slopes(problem: Problem) -> np.ndarray:
    """(K, C, H, W) of a linear problem's logits, by switching on one pixel after the other."""
    zero = np.zeros((1, *problem.shape), np.float32)
    ones = np.eye(zero.size, dtype=np.float32).reshape(-1, *problem.shape)
    return (problem.logits(ones) - problem.logits(zero)).T.reshape(-1, *problem.shape)


def pictures(model: Model, method: ClassVisualisation, target: sightline.Target) -> ClassPictures:
    found = model.plan(method, threads=2).run(target=target)
    assert isinstance(found, ClassPictures)
    return found


def test_a_linear_score_is_highest_where_its_weights_point(open_problem: Open) -> None:
    """Without penalties every pixel ends at the bound on its weight's side: 255 or 0."""
    problem = linear()
    channels, height, width = problem.shape
    model = open_problem(problem, preprocess=colours((height, width), channels))
    found = pictures(model, ClassVisualisation(steps=200, rate=0.5, seeds=2, **PIXELS), logit(1))
    weights = slopes(problem)[1]
    bright = np.moveaxis(np.where(weights > 0, 255, 0), 0, -1)
    np.testing.assert_allclose(found.values, np.broadcast_to(bright, found.values.shape), atol=1e-3)
    assert found.seeds.tolist() == [0, 1]
    assert found.classes == (1, 1)
    best = np.where(weights > 0, 5.0, -5.0).astype(np.float32)[None]  # what 255 and 0 are to the network
    np.testing.assert_allclose(found.scores, problem.logits(best)[:, 1].repeat(2), rtol=1e-4)


def test_a_square_penalty_balances_the_slope(open_problem: Open) -> None:
    """w x - p mean(x²) is highest at w n / (2 p)."""
    problem = linear()
    channels, height, width = problem.shape
    model = open_problem(problem, preprocess=colours((height, width), channels))
    weights = slopes(problem)[1]
    penalty = np.abs(weights).max() * weights.size / (2 * 4.0)  # so that the largest pixel ends at 4 of 5
    method = ClassVisualisation(steps=600, rate=0.05, seeds=1, l2=float(penalty), start="zeros", **PIXELS)
    found = pictures(model, method, logit(1)).values[0] / 25.5 - 5
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), weights * weights.size / (2 * penalty), atol=0.05)


def test_classes_side_by_side_and_each_its_own_class(open_problem: Open) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=colours(problem.shape[1:]))
    both = pictures(model, ClassVisualisation(steps=6, seeds=2), logit((0, 2)))
    assert both.classes == (0, 0, 2, 2)
    alone = pictures(model, ClassVisualisation(steps=6, seeds=2), logit(2))
    np.testing.assert_allclose(both.values[2:], alone.values, atol=0.05)
    second = pictures(model, ClassVisualisation(steps=6, seeds=1, seed=1), logit(2))
    np.testing.assert_allclose(second.values[0], alone.values[1], atol=0.05)


def test_units_have_pictures_too(open_problem: Open) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=colours(problem.shape[1:]))
    found = pictures(model, ClassVisualisation(steps=40, seeds=1), unit("conv1", 1))
    before = problem.values(np.zeros((1, *problem.shape), np.float32))[1]
    channels = model.layers.find("conv1").shape[1]
    assert found.classes == (None,)
    assert np.isnan(found.probabilities).all()
    assert found.scores[0] > before.reshape(channels, -1)[1].mean()


def test_files_and_their_names(open_problem: Open) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=colours(problem.shape[1:]))
    found = pictures(model, ClassVisualisation(steps=2, seeds=2), logit(3))
    names = [name for name, _ in found.files({})]
    assert names == ["pictures/class_0003_seed_0.png", "pictures/class_0003_seed_1.png"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 0}, "steps=0"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"start": "nothing.png"}, "is no file"),
        ({"small_pixels": 100.0}, "percentages"),
    ],
)
def test_parameters_out_of_range(open_problem: Open, fields: dict[str, object], said: str) -> None:
    problem = convolutional()
    model = open_problem(problem, preprocess=colours(problem.shape[1:]))
    with pytest.raises(UsageError, match=said):
        pictures(model, ClassVisualisation(**fields), logit(1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="class"):
        pictures(model, ClassVisualisation(steps=1), logit(99))


def test_a_real_class_is_reached(squeezenet_path: Path, imagenet_labels: Path) -> None:
    with sightline.load(squeezenet_path, preset="imagenet", labels=imagenet_labels) as model:
        found = pictures(model, ClassVisualisation(steps=20, seeds=1, rate=0.1), logit(340))
    assert found.probabilities[0] > 0.5
    assert found.history[0, -1] > found.history[0, 0]
