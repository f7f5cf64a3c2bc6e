"""Activation maps against the closed-form values of an inner layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import PROBLEMS, convolutional, linear, make_model, node
from sightline.errors import UnknownName, UsageError
from sightline.methods.forward.activation_map import ActivationMap, ActivationMaps
from sightline.model import Model, load
from sightline.types import Batch

Open = Callable[..., Model]


@pytest.mark.parametrize("by", ["max", "mean"])
@pytest.mark.parametrize(("name", "step"), [("convolutional", 2), ("nhwc", 2), ("batch_of_four", 2), ("max_pool", 3)])
def test_strongest_channels_first(open_problem: Open, name: str, step: int, by: str) -> None:
    problem = PROBLEMS[name]
    images, model = problem.images(seed=41, count=6), open_problem(problem)
    layer = "pooled" if step == 3 else "relu1"
    shape = model.layers.find(layer).shape[1:]
    expected = problem.values(images)[step].reshape(6, *shape)  # (B, C, h, w)
    found = model.explain(Batch.of(images), ActivationMap(layer=layer, channels=3, by=by), threads=2)  # type: ignore[arg-type]
    assert isinstance(found, ActivationMaps)
    for row in range(6):
        strength = [getattr(np, by)(expected[row, channel]) for channel in range(shape[0])]
        order = sorted(range(shape[0]), key=lambda channel: -strength[channel])[:3]
        assert found.channels[row].tolist() == order
        np.testing.assert_allclose(found.values[row], expected[row, order], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.strength[row], [strength[k] for k in order], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.mean[row], sum(expected[row]) / shape[0], rtol=1e-4, atol=1e-5)
    assert found.columns()["channels"] == found.channels.tolist()


def test_ties_go_to_the_lower_channel(open_problem: Open, tmp_path) -> None:
    """Channels 1 and 3 repeat channel 0; channel 2 is weaker everywhere."""
    import onnx

    kernel = np.array([1.0, 1.0, 0.5, 1.0]).reshape(4, 1, 1, 1)
    nodes = [node("Conv", "image k", "conv"), node("Relu", "conv", "relu"), node("GlobalMaxPool", "relu", "logits")]
    path = tmp_path / "ties.onnx"
    onnx.save(make_model(nodes, {"k": kernel}, shape=["N", 1, 3, 5], outputs={"logits": ["N", 4, 1, 1]}), path)
    images = 1 + np.abs(np.random.default_rng(3).normal(size=(2, 1, 3, 5)))
    found = load(path).explain(Batch.of(images), ActivationMap(layer="relu"), threads=2)
    assert found.channels.tolist() == [[0, 1, 3, 2]] * 2  # type: ignore[attr-defined]


def test_without_a_layer_the_last_maps_are_taken(open_problem: Open) -> None:
    problem = convolutional()
    found = open_problem(problem).explain(Batch.of(problem.images(1)), ActivationMap(), threads=2)
    assert found.layer == "relu2"  # type: ignore[attr-defined]


def test_what_cannot_be_shown_is_said(open_problem: Open) -> None:
    problem = convolutional()
    model, images = open_problem(problem), Batch.of(problem.images(1))
    with pytest.raises(UnknownName, match=r"No layer is named 'rellu1'. Did you mean 'relu1'"):
        model.explain(images, ActivationMap(layer="rellu1"), threads=2)
    with pytest.raises(UsageError, match=r"Layer 'fc' puts out \(4,\) per image; maps \(C, h, w\) are needed"):
        model.explain(images, ActivationMap(layer="fc"), threads=2)
    with pytest.raises(UsageError, match="channels=0 must be at least 1"):
        model.explain(images, ActivationMap(layer="relu1", channels=0), threads=2)
    with pytest.raises(UsageError, match="has no layer with maps"):
        open_problem(linear()).explain(Batch.of(linear().images(1)), ActivationMap(), threads=2)
