"""Which layers are chosen where the caller names none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from problems import convolutional, linear, make_model, node
from sightline.ascent.depth import content_layer, style_layers, trunk
from sightline.errors import FixedSize, UsageError
from sightline.methods.gradient.deep_dream import DeepDream
from sightline.methods.gradient.inversion import Inversion
from sightline.model import Model, load
from sightline.preprocess import Preprocess
from sightline.types import Batch

Open = Callable[..., Model]


def test_nonlinearities_are_what_is_looked_at(open_problem: Open) -> None:
    model = open_problem(convolutional())
    assert trunk(model, 9) == ("relu1", "relu2")
    assert content_layer(model) in style_layers(model)


def test_a_network_without_maps_is_told_so(open_problem: Open) -> None:
    problem = linear()
    model = open_problem(problem, preprocess=Preprocess(resize=None, crop=problem.shape[1:]))
    for choose in (lambda: trunk(model, 4), lambda: style_layers(model), lambda: content_layer(model)):
        with pytest.raises(UsageError, match=r"No layer of .* has maps"):
            choose()
    for method in (DeepDream(steps=1), Inversion(steps=1)):
        with pytest.raises(UsageError, match=r"No layer of .* has maps"):
            model.explain(Batch.of(problem.images(seed=1, count=1)), method, threads=2)


def test_convolutions_are_looked_at_where_nothing_follows_them(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "image k", "first"),
        node("Conv", "first l", "second"),
        node("GlobalAveragePool", "second", "pooled"),
        node("Flatten", "pooled", "logits"),
    ]
    arrays = {"k": np.ones((4, 3, 3, 3)), "l": np.ones((2, 4, 3, 3))}
    onnx.save(make_model(nodes, arrays, shape=["N", 3, 9, 9], outputs={"logits": ["N", 2]}), tmp_path / "linear.onnx")
    with load(tmp_path / "linear.onnx", preprocess=Preprocess(resize=None, crop=(9, 9))) as model:
        assert trunk(model, 4) == ("first", "second")


@pytest.mark.parametrize("side", [6, 8])
def test_a_size_that_the_graph_fixes_is_told_and_not_folded_into_the_batch(tmp_path: Path, side: int) -> None:
    """Channels are shuffled at 4 x 4; 8 x 8 pixels would fit as four rows."""
    nodes = [
        node("Conv", "image k", "mixed", pads=[1, 1, 1, 1]),
        node("Reshape", "mixed apart", "groups"),
        node("Transpose", "groups", "swapped", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "swapped joined", "shuffled"),
        node("Relu", "shuffled", "open"),
        node("GlobalAveragePool", "open", "pooled"),
        node("Flatten", "pooled", "logits"),
    ]
    arrays = {
        "k": np.ones((4, 3, 3, 3)),
        "apart": np.array([-1, 2, 2, 4, 4], np.int64),
        "joined": np.array([-1, 4, 4, 4], np.int64),
    }
    onnx.save(
        make_model(nodes, arrays, shape=["N", 3, 4, 4], outputs={"logits": ["N", 4]}), tmp_path / "shuffle.onnx"
    )
    with load(tmp_path / "shuffle.onnx", preprocess=Preprocess(resize=None, crop=(4, 4))) as model:
        plan = model.plan(DeepDream(steps=1), threads=2)
        with model.oracle(plan).tape() as tape:  # type: ignore[attr-defined]
            images = np.ones((1, 3, side, side), np.float32)
            assert tape(tape.tensor(images[:, :, :4, :4]), layers=("open",)).tap("open").shape == (1, 4, 4, 4)
            assert tape(tape.tensor(images), layers=("mixed",)).tap("mixed").shape == (1, 4, side, side)
            with pytest.raises(FixedSize, match="the graph fixes its input's size"):
                tape(tape.tensor(images), layers=("open",))
