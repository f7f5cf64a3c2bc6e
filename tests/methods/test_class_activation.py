"""Class activation maps against weights derived from a problem's matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from problems import PROBLEMS, Problem, convolutional, linear, make_model, node
from sightline.errors import UnknownName, UsageError
from sightline.methods.forward._class_activation import LayerHeatmaps, stretched
from sightline.methods.forward.ablation_cam import AblationCam
from sightline.methods.forward.eigen_cam import EigenCam
from sightline.methods.forward.score_cam import ScoreCam
from sightline.methods.gradient.grad_cam import GradCam
from sightline.methods.gradient.grad_cam_pp import GradCamPp
from sightline.methods.gradient.guided_grad_cam import GuidedGradCam
from sightline.model import Model
from sightline.report import heatmaps
from sightline.target import Target, logit, unit
from sightline.types import Batch

Open = Callable[..., Model]
METHODS = [GradCam, GradCamPp, EigenCam, ScoreCam, AblationCam]
LAYER, STEP = "relu1", 2  # what the problems call the first ReLU's output, and its place among the values


def ran(model: Model, method: Any, images: np.ndarray, target: Target) -> LayerHeatmaps:
    found = model.plan(method, threads=2).run(Batch.of(images), target)
    assert isinstance(found, LayerHeatmaps)
    return found


def maps_of(problem: Problem, images: np.ndarray, model: Model) -> np.ndarray:
    """(B, C, h, w) of the layer, from the matrices."""
    return problem.values(images)[STEP].reshape(len(images), *model.layers.find(LAYER).shape[1:])


def tail(problem: Problem, maps: np.ndarray) -> np.ndarray:
    """(B, K) logits of the layer's maps, from the matrices."""
    values = maps.reshape(len(maps), -1).astype(np.float64)
    for step in problem.steps[STEP:]:
        values = step.forward(values)
    return values


def tail_gradients(problem: Problem, maps: np.ndarray, index: int) -> np.ndarray:
    """(B, C, h, w) d logit / d maps."""
    values = [maps.reshape(len(maps), -1).astype(np.float64)]
    for step in problem.steps[STEP:]:
        values.append(step.forward(values[-1]))
    gradient = np.zeros_like(values[-1])
    gradient[:, index] = 1
    for step, x in zip(reversed(problem.steps[STEP:]), reversed(values[:-1]), strict=True):
        gradient = step.backward(x, gradient, None)
    return gradient.reshape(maps.shape)


def drawn(maps: np.ndarray, weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Weighted sum, ReLU, OpenCV's stretching."""
    total = np.maximum((maps * weights[:, :, None, None]).sum(axis=1), 0)
    return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR) for one in total])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["convolutional", "nhwc", "batch_of_four"])
def test_grad_cam_weighs_by_mean_gradients(open_problem: Open, name: str, seed: int) -> None:
    problem = PROBLEMS[name]
    model, images = open_problem(problem), problem.images(seed, 3)
    maps = maps_of(problem, images, model)
    weights = tail_gradients(problem, maps, 1).mean(axis=(2, 3))
    found = ran(model, GradCam(layer=LAYER), images, logit(1))
    np.testing.assert_allclose(found.values, drawn(maps, weights, images.shape[2:]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.scores, problem.logits(images)[:, 1], rtol=1e-4, atol=1e-4)
    assert found.layer == LAYER


@pytest.mark.parametrize("seed", range(3))
def test_grad_cam_pp_is_its_published_formula(open_problem: Open, seed: int) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(seed, 2)
    maps = maps_of(problem, images, model)
    gradients = tail_gradients(problem, maps, 0)
    weights = np.zeros(maps.shape[:2])
    for image, channel, row, column in np.ndindex(*maps.shape):
        g = gradients[image, channel, row, column]
        below = 2 * g**2 + maps[image, channel].sum() * g**3
        if below != 0:
            weights[image, channel] += g**2 / below * max(g, 0)
    found = ran(model, GradCamPp(layer=LAYER), images, logit(0))
    np.testing.assert_allclose(found.values, drawn(maps, weights, images.shape[2:]), rtol=1e-3, atol=1e-4)


def test_guided_grad_cam_is_the_product(open_problem: Open) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(5, 2)
    coarse = ran(model, GradCam(layer=LAYER), images, logit(2)).values
    chosen = np.eye(problem.classes)[[2, 2]]
    fine = problem.backward(images, chosen, "guided_backprop")
    found = model.plan(GuidedGradCam(layer=LAYER, reduce="sum"), threads=2).run(Batch.of(images), logit(2))
    np.testing.assert_allclose(found.values, (fine * coarse[:, None]).sum(axis=1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["convolutional", "nhwc", "batch_of_four"])
def test_ablation_cam_weighs_by_what_is_lost(open_problem: Open, name: str, seed: int) -> None:
    problem = PROBLEMS[name]
    model, images = open_problem(problem), problem.images(seed, 3)
    maps = maps_of(problem, images, model)
    weights = np.zeros(maps.shape[:2])
    for channel in range(maps.shape[1]):
        without = maps.copy()
        without[:, channel] = 0
        weights[:, channel] = (tail(problem, maps) - tail(problem, without))[:, 1]
    found = ran(model, AblationCam(layer=LAYER), images, logit(1))
    np.testing.assert_allclose(found.values, drawn(maps, weights, images.shape[2:]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_score_cam_weighs_by_the_masked_image(open_problem: Open, seed: int) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(seed, 2)
    maps, size = maps_of(problem, images, model), images.shape[2:]
    weights = np.zeros(maps.shape[:2])
    for row, channel in np.ndindex(*maps.shape[:2]):
        mask = cv2.resize(maps[row, channel], size[::-1], interpolation=cv2.INTER_LINEAR)
        mask = (mask - mask.min()) / (np.ptp(mask) or 1)
        weights[row, channel] = problem.logits((mask * images[row])[None].astype(np.float32))[0, 1]
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    found = ran(model, ScoreCam(layer=LAYER), images, logit(1))
    np.testing.assert_allclose(found.values, drawn(maps, weights, size), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_eigen_cam_is_the_first_component(open_problem: Open, seed: int) -> None:
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(seed, 2)
    maps = maps_of(problem, images, model)
    found = ran(model, EigenCam(layer=LAYER), images, logit(1))
    for row, one in enumerate(maps):
        flat = one.reshape(len(one), -1).T  # (N, C)
        centred = flat - flat.mean(axis=0)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        projection = centred @ vectors[:, -1]
        projection *= np.sign(projection @ centred.sum(axis=1))
        expected = drawn(projection.reshape(1, 1, *one.shape[1:]), np.ones((1, 1)), images.shape[2:])[0]
        np.testing.assert_allclose(found.values[row], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_drawn_is_said(open_problem: Open, method: Any) -> None:
    model, images = open_problem(linear()), linear().images(0, 1)
    with pytest.raises(UsageError, match="maps"):
        ran(model, method(), images, logit(0))
    problem = PROBLEMS["convolutional"]
    model, images = open_problem(problem), problem.images(0, 1)
    with pytest.raises(UnknownName, match=LAYER):
        ran(model, method(layer="relu11"), images, logit(0))
    with pytest.raises(UsageError, match="does not exist"):
        ran(model, method(), images, logit(problem.classes))


@pytest.mark.parametrize("method", [GradCam, GradCamPp])
def test_a_layer_that_the_target_does_not_depend_on_is_refused(open_problem: Open, method: Any) -> None:
    problem = convolutional("before", shape=(3, 9, 8), pool=True)
    model, images = open_problem(problem), problem.images(0, 1)
    with pytest.raises(UsageError, match="does not depend"):
        ran(model, method(layer="pooled"), images, unit(LAYER, channel=0))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("source", "size"), [((3, 5), (7, 9)), ((1, 2), (4, 4)), ((6, 6), (6, 6)), ((5, 4), (3, 3))])
def test_stretching_is_torchs(source: tuple[int, int], size: tuple[int, int], align_corners: bool) -> None:
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).standard_normal((2, 3, *source), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps), size, mode="bilinear", align_corners=align_corners
    )
    np.testing.assert_allclose(stretched(maps, size, align_corners=align_corners), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [GradCam(), AblationCam()], ids=["grad_cam", "ablation_cam"])
def test_a_map_that_is_nowhere_positive_says_so_and_how_to_see_it(open_problem: Open, method: Any) -> None:
    """Two pixels' sum decides against the class: every weight is negative, so what is positive is nothing."""
    nodes = [node("Conv", "image k", "conv"), node("Relu", "conv", "relu1"),
             node("GlobalAveragePool", "relu1", "mean"), node("Flatten", "mean", "flat"),
             node("Gemm", "flat w", "logits", transB=1)]  # fmt: skip
    arrays = {"k": np.ones((2, 3, 1, 1)), "w": np.array([[-1.0, -2.0], [1.0, 1.0]])}
    proto = make_model(nodes, arrays, shape=["N", 3, 4, 5], outputs={"logits": ["N", 2]})
    model = open_problem(Problem("against", proto, (3, 4, 5), ()))
    images = np.random.default_rng(1).uniform(1, 2, (1, 3, 4, 5)).astype(np.float32)
    (said,) = ran(model, method, images, logit(0)).remarks()
    assert "the weighted sum of the maps of layer 'relu1' is nowhere positive. relu=False (--no-relu)" in said
    assert "no pixel moves the score" not in said
    shown = ran(model, replace(method, relu=False), images, logit(0))
    assert list(shown.remarks()) == []
    assert (shown.values < 0).all()
    (page,) = heatmaps.panels(ran(model, method, images, logit(0)), 0)
    assert "nowhere positive" in page.caption
    (dark,) = ran(model, replace(method, relu=False), np.zeros_like(images), logit(0)).remarks()
    assert "its channels are shut or none has a weight" in dark
