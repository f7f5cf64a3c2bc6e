"""Sweeps that make their pictures, tables and remainders in the graph, against those that are given them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import sightline
from graph.incremental_occlusion.test_exactness import random_graph, random_windows, sweep
from sightline.graph.incremental_occlusion import compile_sweep
from sightline.graph.incremental_occlusion.on_device import on_device
from sightline.routes.base import Settings
from sightline.routes.device_sweep import DeviceIncrementalSweep
from sightline.routes.ort import OrtOracle
from sightline.routes.window_sweep import sweep_plan, sweepable
from sightline.target import logit, probability, unit
from sightline_exporters.variants import to_half


@pytest.mark.parametrize("seed", range(100, 124))
def test_random_graphs(seed: int, tmp_path: Path) -> None:
    path, inner = random_graph(seed, tmp_path)
    if seed % 6 == 0:
        path = to_half(path, tmp_path / "half.onnx")
    model = sightline.load(path)
    height, width = model.input_size
    random = np.random.default_rng(seed)
    count = 5 if seed % 3 else 2
    images = random.standard_normal((count, 3, height, width), dtype=np.float32)
    windows = random_windows(random, height, width)
    if seed % 2:
        windows[:, 2:] = np.minimum(windows[:, 2:], 4)
    fill = random.standard_normal((count, 3, height, width), dtype=np.float32)
    classes = tuple(int(one) for one in random.integers(0, 5, count))
    batch = 3 * len(windows) - 1 if seed % 3 else 4  # of three images a run, or of one or two
    for target in (logit(classes) - 0.5 * probability(1), unit(model.layers.resolve(inner), channel=0)):
        for way in ("incremental", "dense"):
            settings = Settings(threads=1, batch=batch, sweep=way)
            plain, bound = OrtOracle(model, settings), OrtOracle(model, settings)
            bound.__dict__["bound_to"] = "cpu"
            found, expected = (sweep(oracle, images, windows, fill, target) for oracle in (bound, plain))
            scale = np.abs(expected).max() + 1e-6
            assert np.abs(found - expected).max() <= (2e-3 if seed % 6 == 0 else 1e-5) * scale, (way, target)
            opened = bound._sweeps.opened(windows, target, 0.0, 9, count)
            assert (opened is not None and isinstance(opened.sweep, DeviceIncrementalSweep)) == (way == "incremental")
            if opened is not None and seed % 3:
                assert opened.sweep.together == 3


@pytest.mark.parametrize("seed", range(100, 112))
def test_runs_of_windows_join_and_pool_only_what_the_network_does(seed: int, tmp_path: Path) -> None:
    path, inner = random_graph(seed, tmp_path)
    model = sightline.load(path)
    windows = random_windows(np.random.default_rng(seed), *model.input_size)
    names = (model.logits_name, model.layers.resolve(inner))
    plan = sweep_plan(model, windows, names)
    compiled = compile_sweep(sweepable(model, names), model.layers.shapes, plan, names)
    made = on_device(compiled, windows, model.layers.shapes, model.input.name, 3)

    def kinds(graph: ir.Model) -> Counter[str]:
        return Counter(node.op_type for node in graph.graph if node.op_type in ("Concat", "MaxPool"))

    assert kinds(made.graph) <= kinds(model.graph)
    assert kinds(compiled.graph)["Concat"] == kinds(made.graph)["Concat"] + len(compiled.sources)
    assert made.takes_fill == bool(compiled.pictures)


def test_more_images_than_before_share_runs(tmp_path: Path) -> None:
    path, _ = random_graph(101, tmp_path)
    model = sightline.load(path)
    height, width = model.input_size
    random = np.random.default_rng(0)
    images = random.standard_normal((6, 3, height, width), dtype=np.float32)
    windows = random_windows(random, height, width)
    oracle = OrtOracle(model, Settings(threads=1, batch=4 * len(windows), sweep="incremental"))
    oracle.__dict__["bound_to"] = "cpu"
    together = list[int]()
    for count in (1, 6, 2):
        found = sweep(oracle, images[:count], windows, np.zeros_like(images[:count]), logit(1))
        alone = [sweep(oracle, one[None], windows, np.zeros_like(one[None]), logit(1)) for one in images[:count]]
        np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-5, atol=1e-6)
        opened = oracle._sweeps.opened(windows, logit(1), 0.0, 9, 1)
        assert opened is not None
        together.append(opened.sweep.together)
    assert together == [1, 4, 4]
