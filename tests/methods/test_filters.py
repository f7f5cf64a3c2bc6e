"""Filters are the weights themselves: read from the problems, in the order in which people see colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from problems import PROBLEMS, convolutional, linear, make_model, node
from sightline.errors import UnknownName, UsageError
from sightline.methods.forward.filters import FilterGrid, Filters
from sightline.model import Model, load
from sightline.preprocess import Preprocess

Open = Callable[..., Model]


def drawn(model: Model, **parameters: object) -> FilterGrid:
    result = model.plan(Filters(**parameters), threads=2).run()  # type: ignore[arg-type]
    assert isinstance(result, FilterGrid)
    return result


@pytest.mark.parametrize("name", ["convolutional", "nhwc", "pooled_head"])
def test_the_first_kernels_in_colour(open_problem: Open, name: str) -> None:
    problem = PROBLEMS[name]
    grid, kernel = drawn(open_problem(problem)), problem.first_kernel
    assert kernel is not None
    assert grid.rgb
    assert grid.note == ""
    assert grid.values.shape == (len(kernel), *kernel.shape[2:], 3)
    for out in range(len(kernel)):
        for channel in range(3):
            np.testing.assert_array_equal(grid.values[out, :, :, channel], kernel[out, channel])
    np.testing.assert_allclose(grid.columns()["norm"], [np.linalg.norm(k) for k in kernel], rtol=1e-6)
    assert grid.columns()["input_channel"] == [None] * len(kernel)


def test_a_network_that_reads_bgr_is_shown_in_rgb(open_problem: Open) -> None:
    problem = convolutional()
    grid = drawn(open_problem(problem, preprocess=Preprocess(resize=None, crop=None, channels="BGR")))
    assert problem.first_kernel is not None
    np.testing.assert_array_equal(grid.values[..., 0], problem.first_kernel[:, 2])
    np.testing.assert_array_equal(grid.values[..., 2], problem.first_kernel[:, 0])


def test_a_network_that_reads_luminance_has_no_colours(open_problem: Open) -> None:
    problem = PROBLEMS["two_outputs"]
    grid = drawn(open_problem(problem))
    assert not grid.rgb
    assert "luminance" in grid.note
    assert problem.first_kernel is not None
    np.testing.assert_array_equal(grid.values, problem.first_kernel[:, 0])


@pytest.mark.parametrize("layer", ["second", "conv2", "relu2"])
def test_a_deeper_layer_by_any_of_its_names(open_problem: Open, layer: str) -> None:
    """One grey slice per filter, the input channel with the largest norm, and a note that says so."""
    grid = drawn(open_problem(convolutional()), layer=layer)
    second = np.random.default_rng(5)
    second.normal(size=(4, 3, 3, 2))
    kernel = (second.normal(size=(5, 4, 2, 2)) / 2).astype(np.float32)
    assert grid.layer == "conv2"
    assert "4 channels of an inner layer" in grid.note
    for out in range(5):
        norms = [np.linalg.norm(kernel[out, channel].astype(np.float64)) for channel in range(4)]
        strongest = int(np.argmax(norms))
        assert grid.indices[out] == (out, strongest)
        np.testing.assert_array_equal(grid.values[out], kernel[out, strongest])


def test_only_so_many(open_problem: Open) -> None:
    problem = convolutional()
    grid = drawn(open_problem(problem), count=2)
    assert problem.first_kernel is not None
    np.testing.assert_array_equal(grid.values, problem.first_kernel[:2].transpose(0, 2, 3, 1).astype(np.float32))


def quantised(tmp_path: Path) -> tuple[Model, np.ndarray]:
    """Image and weights through QuantizeLinear and DequantizeLinear, one scale per filter."""
    rng = np.random.default_rng(12)
    codes = rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    scales = rng.uniform(0.01, 0.1, 4).astype(np.float32)
    zeros = rng.integers(-5, 6, 4).astype(np.int8)
    arrays = {
        "codes": codes, "scales": scales, "zeros": zeros, "s": np.array(0.05), "z": np.array(0, np.int8)
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "image s z", "q"),
        node("DequantizeLinear", "q s z", "pixels"),
        node("DequantizeLinear", "codes scales zeros", "w", axis=0),
        node("Conv", "pixels w", "conv", "first"),
        node("Relu", "conv", "relu"),
        node("GlobalAveragePool", "relu", "logits"),
    ]
    import onnx

    path = tmp_path / "quantised.onnx"
    proto = make_model(nodes, arrays, shape=["N", 3, 6, 6], outputs={"logits": ["N", 4, 1, 1]})
    onnx.save(proto, path)
    real = (codes.astype(np.float64) - zeros[:, None, None, None]) * scales[:, None, None, None].astype(np.float64)
    return load(path), real


def test_quantised_weights_are_shown_as_numbers_and_in_colour(tmp_path: Path) -> None:
    model, real = quantised(tmp_path)
    grid = drawn(model)
    assert grid.rgb
    np.testing.assert_allclose(grid.values, real.transpose(0, 2, 3, 1), rtol=1e-5)


def test_what_has_no_filters_is_said(open_problem: Open) -> None:
    with pytest.raises(UsageError, match="The network has no convolution"):
        drawn(open_problem(linear()))
    model = open_problem(convolutional())
    with pytest.raises(UsageError, match=r"Layer 'fc' is no convolution. The first ones are: conv1, conv2"):
        drawn(model, layer="fc")
    with pytest.raises(UnknownName, match=r"No layer is named 'secnd'. Did you mean 'second'"):
        drawn(model, layer="secnd")
    with pytest.raises(UsageError, match="count=0 must be at least 1"):
        drawn(model, count=0)
