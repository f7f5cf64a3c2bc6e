"""Occlusion by brute force: every mask written out, every masked image scored by the closed form."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from problems import PROBLEMS, Problem, convolutional, linear, make_model, node
from sightline import load
from sightline.errors import UsageError
from sightline.methods.forward._windows import mean_map, window_grid
from sightline.methods.forward.occlusion import Occlusion
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.target import Target, logit, probability, top
from sightline.types import Batch, Heatmaps

Open = Callable[..., Model]


def places(side: int, window: int, stride: int) -> list[tuple[int, int]]:
    """First pixel and the one behind the last of every window along one side."""
    found, start = [], 0
    while True:
        found.append((start, min(start + window, side)))
        if start + window >= side:
            return found
        start += stride


def masks(height: int, width: int, window: int, stride: int) -> np.ndarray:
    """(M, H, W) booleans, True where a window hides the pixel."""
    made = []
    for top_, bottom in places(height, window, stride):
        for left, right in places(width, window, stride):
            mask = np.zeros((height, width), bool)
            mask[top_:bottom, left:right] = True
            made.append(mask)
    return np.array(made)


def brute_force(
    problem: Problem, images: np.ndarray, score: Callable[[np.ndarray], np.ndarray], method: Occlusion
) -> np.ndarray:
    """(B, H, W): for each pixel the mean fall of the score over the windows that hide it."""
    hidden = masks(*problem.shape[1:], method.window, method.stride)
    untouched = score(images)
    total, cover = np.zeros((len(images), *problem.shape[1:])), hidden.sum(axis=0)
    for mask in hidden:
        masked = np.where(mask, np.float32(method.fill), images)
        total += (untouched - score(masked))[:, None, None] * mask
    return total / cover


@pytest.mark.parametrize(
    ("name", "window", "stride", "fill"),
    [
        ("linear", 3, 1, 0.0),
        ("linear", 2, 2, -1.5),  # windows cut at the border: 5 and 7 are odd
        ("softmax", 4, 3, 0.0),
        ("sigmoid", 1, 1, 0.5),
        ("grey", 5, 2, 0.0),
        ("convolutional", 3, 2, 0.25),
        ("max_pool", 4, 1, 0.0),
        ("nhwc", 3, 2, 0.0),
        ("batch_of_one", 3, 3, 0.0),
        ("batch_of_four", 5, 4, 1.0),
        ("pooled_head", 3, 2, 0.0),
        ("known_pattern", 99, 99, 0.0),  # one window, larger than the image
    ],
)
def test_maps_are_those_of_explicit_masks(
    open_problem: Open, name: str, window: int, stride: int, fill: float
) -> None:
    problem, method = PROBLEMS[name], Occlusion(window=window, stride=stride, fill=fill)
    images = problem.images(seed=window * 10 + stride, count=3)
    classes = problem.logits(images).argmax(axis=1)
    cases: list[tuple[Target, Callable[[np.ndarray], np.ndarray]]] = [
        (top(1), lambda x: problem.logits(x)[range(3), classes]),
        (probability(1), lambda x: problem.probabilities(x)[:, 1]),
        (logit(0) - 2 * logit(1), lambda x: problem.logits(x)[:, 0] - 2 * problem.logits(x)[:, 1]),
    ]
    for target, score in cases:
        maps = open_problem(problem).explain(Batch.of(images), method, target, threads=2)
        assert isinstance(maps, Heatmaps)
        expected = brute_force(problem, images, score, method)
        np.testing.assert_allclose(maps.values, expected, rtol=1e-4, atol=1e-5, err_msg=repr(target))
        np.testing.assert_allclose(maps.scores, score(images), rtol=1e-5, atol=1e-6)
    assert maps.classes == (None,) * 3


def test_a_linear_score_falls_by_weight_times_pixel(open_problem: Open) -> None:
    problem = linear()
    images = problem.images(seed=8)
    maps = open_problem(problem).explain(Batch.of(images), Occlusion(window=1, stride=1), logit(2), threads=2)
    weights = problem.steps[0].matrix[2].reshape(problem.shape)  # type: ignore[union-attr]
    np.testing.assert_allclose(maps.values, (weights * images).sum(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_windows_hide_every_pixel_and_stay_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width, window = (int(n) for n in rng.integers(1, 40, 3))
    stride = int(rng.integers(1, window + 1))
    grid = window_grid((height, width), (window, window), stride)
    expected = [
        [top_, left, bottom - top_, right - left]
        for top_, bottom in places(height, window, stride)
        for left, right in places(width, window, stride)
    ]
    assert grid.tolist() == expected
    hidden = masks(height, width, window, stride)
    amounts = rng.standard_normal(len(grid))
    expected_map = (amounts[:, None, None] * hidden).sum(axis=0) / hidden.sum(axis=0)
    np.testing.assert_allclose(mean_map(grid, amounts, (height, width)), expected_map, rtol=1e-4, atol=1e-5)
    assert hidden.sum(axis=0).min() >= 1
    assert Occlusion(window=window, stride=stride).forward_passes(height, width) == len(expected) + 1


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (Occlusion(window=0), r"window=0 and stride=8 must be at least 1 pixel"),
        (Occlusion(stride=0), r"window=32 and stride=0 must be at least 1 pixel"),
        (Occlusion(window=3, stride=4), r"stride=4 is larger than window=3: .* stride of at most the window"),
    ],
)
def test_parameters_out_of_range_are_refused_when_planned(
    open_problem: Open, method: Occlusion, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_problem(linear()).plan(method)


def filled(problem: Problem, images: np.ndarray, windows: list[tuple[int, int, int, int]], fill: np.ndarray):
    """(B, H, W) for a linear problem: the mean over the windows that hide a pixel; 0 where none does."""
    score = problem.logits
    total = np.zeros((len(images), *problem.shape[1:]))
    cover = np.zeros(problem.shape[1:])
    for top_, left, height, width in windows:
        place = np.s_[..., top_ : top_ + height, left : left + width]
        masked = images.copy()
        masked[place] = np.broadcast_to(fill, images.shape)[place]
        total[place] += (score(images) - score(masked))[:, 1, None, None]
        cover[place] += 1
    return np.divide(total, cover, out=np.zeros_like(total), where=cover > 0)


@pytest.mark.parametrize("fill", ["0.5,-1,2", "mean", "blur", "noise", -0.25], ids=str)
def test_fills_of_every_kind(open_problem: Open, fill: float | str) -> None:
    problem = linear()
    images = problem.images(seed=11)
    model = open_problem(problem)
    draws = np.random.default_rng(4).standard_normal((1, *problem.shape), dtype=np.float32)
    mean, deviation = images.mean(axis=(2, 3), keepdims=True), images.std(axis=(2, 3), keepdims=True)
    expected = {
        "0.5,-1,2": np.array([0.5, -1, 2]).reshape(1, 3, 1, 1),
        "mean": mean,
        "blur": gaussian_filter(images, (0, 0, 10, 10), mode="nearest"),
        "noise": mean + deviation * draws,
        -0.25: np.full((1, 1, 1, 1), -0.25),
    }[fill]
    windows = ((0, 0, 2, 3), (1, 1, 3, 2), (4, 2, 1, 1))
    maps = model.explain(Batch.of(images), Occlusion(windows=windows, fill=fill, seed=4), logit(1), threads=2)
    np.testing.assert_allclose(maps.values, filled(problem, images, list(windows), expected), rtol=1e-3, atol=1e-4)


def integers(tmp_path: Path, preprocess: Preprocess) -> Model:
    """A network that reads bytes: the first class is their mean of each channel, weighted."""
    proto = make_model(
        [node("Cast", "image", "pixels", to=1), node("Conv", "pixels k", "maps"),
         node("GlobalAveragePool", "maps", "mean"), node("Flatten", "mean", "logits")],
        {"k": np.arange(1.0, 7).reshape(2, 3, 1, 1)}, shape=["N", 3, 40, 40], outputs={"logits": ["N", 2]},
    )  # fmt: skip
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    path = tmp_path / "bytes.onnx"
    path.write_bytes(proto.SerializeToString())
    return load(path, preprocess=preprocess)


def test_noise_is_as_bright_and_as_rough_as_the_image(tmp_path: Path) -> None:
    """A mean cannot tell noise of the image's own mean from the image; one of mean 0 hides all of it."""
    raw = Preprocess(resize=None, crop=(40, 40), scale=1.0)
    images = raw.normalise(np.random.default_rng(1).integers(90, 160, (2, 40, 40, 3), dtype=np.uint8))
    with integers(tmp_path, raw) as model:
        whole = Occlusion(windows=((0, 0, 40, 40),), fill="noise")
        found = model.explain(Batch.of(images), whole, logit(1), threads=2)
    scores = images.mean(axis=(2, 3)) @ [4, 5, 6]
    assert (np.abs(found.values[:, 0, 0]) < 0.02 * scores).all()


@pytest.mark.parametrize("fill", [300, -3, "0.5", "0,128,256"])
def test_a_fill_that_a_network_of_bytes_cannot_read_is_refused(tmp_path: Path, fill: float | str) -> None:
    raw = Preprocess(resize=None, crop=(40, 40), scale=1.0)
    images = Batch.of(np.full((1, 3, 40, 40), 7, np.float32))
    with integers(tmp_path, raw) as model:
        with pytest.raises(UsageError, match="reads pixels as whole numbers from 0 to 255"):
            model.explain(images, Occlusion(fill=fill), logit(0), threads=2)
        model.explain(images, Occlusion(fill="0,128,255"), logit(0), threads=2)


@pytest.mark.parametrize(("fill", "sentence"), [
    ("nowhere.png", r"'nowhere.png' is no file and no filling. Accepted: a number, one"),
    ("1,2", r"has 2 numbers; the model has 3 channels"),
    ("nan", r"is not finite"),
])  # fmt: skip
def test_a_fill_that_does_not_exist(open_problem: Open, fill: str, sentence: str) -> None:
    problem = linear()
    with pytest.raises(UsageError, match=sentence):
        open_problem(problem).explain(Batch.of(problem.images(seed=1)), Occlusion(fill=fill), logit(0), threads=2)


def test_windows_that_are_not_square_and_larger_than_the_image(open_problem: Open) -> None:
    problem = linear()
    _, height, width = problem.shape
    images = problem.images(seed=3)
    model = open_problem(problem)
    maps = model.explain(Batch.of(images), Occlusion(window=2, width=99, stride=1), logit(1), threads=2)
    windows = [(top_, 0, 2, width) for top_ in range(height - 1)]
    np.testing.assert_allclose(
        maps.values, filled(problem, images, windows, np.zeros((1, 1, 1, 1))), rtol=1e-3, atol=1e-4
    )


def test_a_window_outside_the_image_is_refused(open_problem: Open) -> None:
    with pytest.raises(UsageError, match=r"Window \(0, 6, 2, 2\) does not lie inside the image"):
        open_problem(linear()).plan(Occlusion(windows=((0, 0, 1, 1), (0, 6, 2, 2))))


def test_refinement_sweeps_the_important_windows_exactly(open_problem: Open) -> None:
    problem = convolutional("refined", shape=(3, 24, 20))
    images = problem.images(seed=5)
    model = open_problem(problem)
    exact = model.explain(Batch.of(images), Occlusion(window=4, stride=2), logit(1), threads=2)
    maps = {
        share: model.explain(Batch.of(images), Occlusion(window=4, stride=2, refine=share), logit(1), threads=2)
        for share in (0.1, 0.5, 1.0)
    }
    np.testing.assert_allclose(maps[1.0].values, exact.values, rtol=1e-5, atol=1e-6)
    wrong = [np.abs(maps[share].values - exact.values).mean() for share in (0.1, 0.5, 1.0)]
    assert wrong[0] > wrong[1] > wrong[2]
    assert all(one.approximate for one in maps.values())
    first, *rest = maps[0.5].columns()["fidelity_spearman"]
    ranks = [rankdata(one.values[0]) for one in (maps[0.5], exact)]
    assert first == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert rest == [None] * (len(images) - 1)
    assert "fidelity_spearman" not in exact.columns()


def test_no_mask_is_ever_made(open_problem: Open) -> None:
    """With 16 times the windows, memory grows by their table (some 100 bytes each), not by masks (4,096 pixels)."""
    problem = linear(shape=(3, 64, 64))
    model, images = open_problem(problem), Batch.of(problem.images(seed=1, count=1))

    def peak(stride: int) -> tuple[int, int]:
        method = Occlusion(window=16, stride=stride)
        model.explain(images, method, logit(0), threads=2, batch=8)  # sessions and caches are not the sweep's
        tracemalloc.start()
        model.explain(images, method, logit(0), threads=2, batch=8)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest, method.forward_passes(64, 64)

    (few_bytes, few), (many_bytes, many) = peak(4), peak(1)
    assert many > 10 * few
    assert many_bytes - few_bytes < 200 * (many - few)
