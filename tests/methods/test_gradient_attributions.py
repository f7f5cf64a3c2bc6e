"""Input times gradient, integrated gradients, SmoothGrad: against matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from problems import PROBLEMS, linear
from sightline.errors import UsageError
from sightline.methods.gradient._attribution import CompleteHeatmaps
from sightline.methods.gradient.input_x_gradient import InputXGradient
from sightline.methods.gradient.integrated_gradients import IntegratedGradients
from sightline.methods.gradient.lrp import Lrp
from sightline.methods.gradient.saliency import Saliency
from sightline.methods.gradient.smooth_grad import SmoothGrad
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.target import logit, top
from sightline.types import Batch, Heatmaps

Open = Callable[..., Model]


def ran(model: Model, method: Any, images: np.ndarray, target: Any) -> Any:
    return model.plan(method, threads=2).run(Batch.of(images), target)


def gradient(problem: Any, images: np.ndarray, index: int) -> np.ndarray:
    """(B, C, H, W) d logit / d pixel, from the matrices."""
    return problem.backward(images, np.eye(problem.classes)[[index] * len(images)])


@pytest.mark.parametrize("name", ["linear", "convolutional", "nhwc", "batch_of_four"])
def test_input_times_gradient(open_problem: Open, name: str) -> None:
    problem = PROBLEMS[name]
    images = problem.images(1, 3)
    found = ran(open_problem(problem), InputXGradient(reduce="sum"), images, logit(1))
    expected = (images * gradient(problem, images, 1)).sum(axis=1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-4)
    assert found.signed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("baseline", ["0", "0.3", "mean", "noise"])
def test_a_linear_score_is_shared_out_exactly_in_one_step(open_problem: Open, seed: int, baseline: str) -> None:
    problem = linear()
    model, images = open_problem(problem), problem.images(seed, 3)
    found = ran(model, IntegratedGradients(steps=1, baseline=baseline), images, logit(0))
    assert isinstance(found, CompleteHeatmaps)
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), found.totals, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.gaps, 0, atol=1e-4 * float(np.abs(found.totals).max()) + 1e-5)
    if baseline == "0":
        np.testing.assert_allclose(
            found.values, (images * gradient(problem, images, 0)).sum(axis=1), rtol=1e-3, atol=1e-4
        )
        origin = problem.logits(np.zeros_like(images))[:, 0]
        np.testing.assert_allclose(found.totals, problem.logits(images)[:, 0] - origin, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_midpoints_are_the_mean_of_gradients_on_the_line(open_problem: Open, seed: int) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(seed, 2)
    places = (np.arange(7) + 0.5) / 7
    mean = np.mean([gradient(problem, (place * images).astype(np.float32), 1) for place in places], axis=0)
    found = ran(model, IntegratedGradients(steps=7, quadrature="midpoint"), images, logit(1))
    np.testing.assert_allclose(found.values, (images * mean).sum(axis=1), rtol=1e-3, atol=1e-4)


def test_steps_are_doubled_until_the_gap_is_small(open_problem: Open) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(7, 6)
    rough = ran(model, IntegratedGradients(steps=2), images, logit(1))
    fine = ran(model, IntegratedGradients(steps=2, until=1e-3), images, logit(1))
    assert np.abs(rough.gaps / rough.totals).max() > 1e-3
    assert np.abs(fine.gaps / fine.totals).max() <= 1e-3
    assert fine.columns()["gap"] == pytest.approx(fine.gaps.tolist())


def test_at_a_layer_the_line_is_drawn_there(open_problem: Open) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(3, 2)
    layer = model.layers.find("relu1").shape[1:]
    maps = problem.values(images)[2].reshape(2, *layer)
    origin = problem.values(np.zeros_like(images))[2].reshape(2, *layer)
    values = [maps.reshape(2, -1)]
    for step in problem.steps[2:]:
        values.append(step.forward(values[-1]))
    slope = np.eye(problem.classes)[[1, 1]]
    for step, x in zip(reversed(problem.steps[2:]), reversed(values[:-1]), strict=True):
        slope = step.backward(x, slope, None)
    found = ran(model, InputXGradient(at="relu1", reduce="sum"), images, logit(1))
    expected = (maps * slope.reshape(maps.shape)).sum(axis=1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-3, atol=1e-4)
    whole = ran(model, IntegratedGradients(at="relu1", steps=64), images, logit(1))
    assert whole.values.shape == expected.shape
    sums = [problem.logits(batch)[:, 1] for batch in (images, np.zeros_like(images))]
    np.testing.assert_allclose(whole.totals, sums[0] - sums[1], rtol=1e-3, atol=1e-4)
    assert origin.shape == maps.shape


@pytest.mark.parametrize("statistic", ["mean", "square", "variance"])
def test_smooth_grad_without_noise_is_its_base(open_problem: Open, statistic: Any) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(2, 3)
    plain = ran(model, Saliency(reduce="sum"), images, logit(1)).values
    found = ran(model, SmoothGrad(base="saliency(reduce='sum')", noise=0.0, samples=3, statistic=statistic), images,
                logit(1))  # fmt: skip
    if statistic == "mean":
        np.testing.assert_allclose(found.values, plain, rtol=1e-4, atol=1e-5)
    elif statistic == "square":
        squares = (gradient(problem, images, 1) ** 2).sum(axis=1)
        np.testing.assert_allclose(found.values, squares, rtol=1e-3, atol=1e-4)
    else:
        np.testing.assert_allclose(found.values, 0, atol=1e-5)


def test_smooth_grad_of_a_linear_network_has_no_variance_and_ignores_the_batch(open_problem: Open) -> None:
    problem = linear()
    model, images = open_problem(problem), problem.images(4, 3)
    varied = ran(model, SmoothGrad(samples=6, statistic="variance"), images, logit(0))
    np.testing.assert_allclose(varied.values, 0, atol=1e-6)
    convolutional = PROBLEMS["convolutional"]
    model, images = open_problem(convolutional), convolutional.images(4, 3)
    together = ran(model, SmoothGrad(samples=6), images, top(1))
    alone = [ran(model, SmoothGrad(samples=6), images[row : row + 1], top(1)).values[0] for row in range(3)]
    np.testing.assert_allclose(together.values, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (IntegratedGradients(steps=0), "steps=0"),
        (IntegratedGradients(until=-1.0), "until"),
        (IntegratedGradients(baseline="nowhere.png"), "baseline='nowhere.png'"),
        (IntegratedGradients(baseline="0.1,0.2"), "baseline"),
        (SmoothGrad(samples=0), "samples=0"),
        (SmoothGrad(base="occlusion"), "cannot be steadied"),
        (SmoothGrad(base="smooth_grad"), "cannot be steadied"),
        (SmoothGrad(base="saliency(colour=3)"), "colour"),
        (SmoothGrad(base="saliency; import os"), "names no method"),
        (SmoothGrad(statistic="median"), "median"),  # type: ignore[arg-type]
        (Saliency(reduce="none"), "none"),  # type: ignore[arg-type]
        (Lrp(epsilon=0.0), "epsilon"),
        (Lrp(composite="deep"), "deep"),  # type: ignore[arg-type]
        (InputXGradient(at="logits"), "no rows and columns"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(open_problem: Open, method: Any, words: str) -> None:
    problem = PROBLEMS["convolutional"]
    with pytest.raises(UsageError, match=words):
        ran(open_problem(problem), method, problem.images(0, 1), logit(0))


def test_a_baseline_may_be_the_mean_of_a_folder(open_problem: Open, tmp_path: Path) -> None:
    problem = linear()
    size = problem.shape[1:]
    pixels = Preprocess(resize=None, crop=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    for name, value in {"a.png": 51, "b.png": 153}.items():
        Image.new("RGB", size[::-1], (value,) * 3).save(tmp_path / name)
    model, images = open_problem(problem, preprocess=pixels), problem.images(1, 2)
    given = ran(model, IntegratedGradients(steps=1, baseline=str(tmp_path)), images, logit(0))
    mean = ran(model, IntegratedGradients(steps=1, baseline="0.4"), images, logit(0))  # (51 + 153) / 2 / 255
    np.testing.assert_allclose(given.values, mean.values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [Saliency(), InputXGradient(), IntegratedGradients(steps=4), SmoothGrad(samples=2)],
    ids=lambda one: type(one).__name__,
)
def test_a_blank_map_is_said(open_problem: Open, method: Any) -> None:
    problem = PROBLEMS["convolutional"]
    images = np.zeros((1, *problem.shape), np.float32)  # one colour everywhere
    found = ran(open_problem(problem), method, images, logit(0))
    assert isinstance(found, Heatmaps)
    assert found.blank == (not found.values.any(),)
