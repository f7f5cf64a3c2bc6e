"""Instance normalisation pooled over a batch and frozen, against NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from problems import make_model, node
from sightline.graph.fold_norm import FoldNorm
from sightline.graph.freeze_norm import MEAN, VARIANCE, FreezeNorm, PoolNorm, normalisations
from sightline.graph.load import load_graph

EPSILON = 1e-3


def network(folder: Path, seed: int) -> ir.Model:
    """Conv, instance norm, ReLU, Conv, instance norm; any size."""
    rng = np.random.default_rng(seed)
    arrays = {
        "k1": rng.normal(size=(4, 3, 3, 3)), "b1": rng.normal(size=4),
        "g1": rng.normal(size=4), "s1": rng.normal(size=4),
        "k2": rng.normal(size=(2, 4, 1, 1)), "b2": rng.normal(size=2),
        "g2": rng.normal(size=2), "s2": rng.normal(size=2),
    }  # fmt: skip
    nodes = [
        node("Conv", "image k1 b1", "c1", pads=[1, 1, 1, 1]),
        node("InstanceNormalization", "c1 g1 s1", "n1", epsilon=EPSILON),
        node("Relu", "n1", "r1"),
        node("Conv", "r1 k2 b2", "c2"),
        node("InstanceNormalization", "c2 g2 s2", "out", epsilon=EPSILON),
    ]
    proto = make_model(nodes, arrays, shape=["N", 3, "H", "W"], outputs={"out": ["N", 2, "H", "W"]})
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_graph(path).model


def run(graph: ir.Model, images: np.ndarray, names: list[str]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.serde.serialize_model(graph).SerializeToString())
    found: Any = session.run(names, {"image": images})
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_statistics_of_a_batch_are_those_of_its_pictures_laid_side_by_side(tmp_path: Path, seed: int) -> None:
    graph = network(tmp_path, seed)
    images = np.random.default_rng(seed).normal(size=(3, 3, 6, 5)).astype(np.float32)
    assert normalisations(graph) == ("n1", "out")
    (before,) = run(FoldNorm()(graph), images, ["out"])
    taps = PoolNorm()(graph)
    out, mean, variance, second = run(taps, images, ["out", f"n1{MEAN}", f"n1{VARIANCE}", f"out{MEAN}"])
    weights = {str(v.name): v.const_value.numpy() for v in graph.graph.initializers.values() if v.const_value}
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    inner = np.einsum("bchwij,dcij->bdhw", views, weights["k1"]) + weights["b1"][:, None, None]
    np.testing.assert_allclose(mean, inner.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, inner.var(axis=(0, 2, 3)), rtol=1e-4)
    assert second.shape == (2,)
    assert np.abs(out.mean(axis=(0, 2, 3)) - weights["s2"]).max() < 1e-4
    assert not np.allclose(out, before, atol=1e-2)  # each picture by itself is another thing


@pytest.mark.parametrize("seed", [3, 4])
def test_frozen_and_folded_it_repeats_what_the_statistics_came_from(tmp_path: Path, seed: int) -> None:
    graph = network(tmp_path, seed)
    image = np.random.default_rng(seed).normal(size=(1, 3, 8, 9)).astype(np.float32)
    wanted = [f"{name}{suffix}" for name in normalisations(graph) for suffix in (MEAN, VARIANCE)]
    values = run(PoolNorm()(graph), image, wanted)
    statistics = {"n1": (values[0], values[1]), "out": (values[2], values[3])}
    frozen = FoldNorm()(FreezeNorm(statistics)(graph))
    assert not {"InstanceNormalization", "BatchNormalization"} & {one.op_type for one in frozen.graph}
    (whole,), (ours,) = run(graph, image, ["out"]), run(frozen, image, ["out"])
    np.testing.assert_allclose(ours, whole, rtol=1e-3, atol=1e-4)
    (part,) = run(frozen, image[:, :, :, :6], ["out"])
    np.testing.assert_allclose(part[..., :5], whole[..., :5], rtol=1e-3, atol=1e-4)
