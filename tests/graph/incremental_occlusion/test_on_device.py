"""Sweeps that make their pictures, tables and remainders in the graph, against those that are given them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sightline
from graph.incremental_occlusion.test_exactness import random_graph, random_windows, sweep
from sightline.routes.base import Settings
from sightline.routes.device_sweep import DeviceIncrementalSweep
from sightline.routes.ort import OrtOracle
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
    images = random.standard_normal((2, 3, height, width), dtype=np.float32)
    windows = random_windows(random, height, width)
    if seed % 2:
        windows[:, 2:] = np.minimum(windows[:, 2:], 4)
    fill = random.standard_normal((2, 3, height, width), dtype=np.float32)
    for target in (logit((2, 4)) - 0.5 * probability(1), unit(model.layers.resolve(inner), channel=0)):
        for way in ("incremental", "dense"):
            settings = Settings(threads=1, batch=4, sweep=way)
            plain, bound = OrtOracle(model, settings), OrtOracle(model, settings)
            bound.__dict__["bound_to"] = "cpu"
            found, expected = (sweep(oracle, images, windows, fill, target) for oracle in (bound, plain))
            scale = np.abs(expected).max() + 1e-6
            assert np.abs(found - expected).max() <= (2e-3 if seed % 6 == 0 else 1e-5) * scale, (way, target)
            opened = bound._sweeps.opened(windows, target, 0.0, 9)
            assert (opened is not None and isinstance(opened.sweep, DeviceIncrementalSweep)) == (way == "incremental")
