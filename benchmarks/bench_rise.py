"""RISE against a straightforward implementation in torch, images per second and memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from networks import SIDE, Network

from sightline.methods.forward.rise import Rise
from sightline.target import probability

PER_RUN = (16, 64)  # masked images that torch gets at once; its best is the peer


def test_rise(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    if not network.title.startswith("SqueezeNet"):
        pytest.skip("one network is enough: a mask costs what a forward pass does")
    masks = pytestconfig.option.masks
    images = network.images(1)
    (index,) = network.highest(images)
    plan = network.model.plan(Rise(masks=masks), threads=pytestconfig.option.threads)
    ours = partial(plan.run, images, probability(index))
    image = torch.from_numpy(images.tensor[0])
    peers = {f"torch, {size} per run": partial(plain, network.module, image, index, masks, size) for size in PER_RUN}
    found = ours()
    expected = peers[f"torch, {PER_RUN[0]} per run"]().numpy()
    apart = np.abs(found.values[0] - expected) / np.maximum(found.standard_errors[0], 1e-12)
    # Two estimates differ by sqrt(2) standard errors, and by much the same all over the map: three times that.
    assert np.median(apart) < 3 * np.sqrt(2)
    race(
        ours,
        peers,
        case=f"{network.title}, {SIDE}x{SIDE}, {masks:,} masks",
        metric="throughput",
        unit="masks/s",
        work=masks,
    )


def plain(module: torch.nn.Module, image: torch.Tensor, index: int, masks: int, size: int) -> torch.Tensor:
    """The paper's recipe, masks made in batches: (H, W)."""
    generator = torch.Generator().manual_seed(0)
    cells, keep = 7, 0.5
    cell = -(-SIDE // cells)
    total = torch.zeros(SIDE, SIDE)
    with torch.inference_mode():
        for start in range(0, masks, size):
            count = min(size, masks - start)
            grids = (torch.rand(count, 1, cells, cells, generator=generator) < keep).float()
            wide = torch.nn.functional.interpolate(grids, (cells + 1) * cell, mode="bilinear", align_corners=False)
            shifts = torch.randint(0, cell, (count, 2), generator=generator)
            made = torch.stack([one[:, y : y + SIDE, x : x + SIDE] for one, (y, x) in zip(wide, shifts, strict=True)])
            scores = module(made * image).softmax(1)[:, index]
            total += torch.einsum("n,nhw->hw", scores, made[:, 0])
    return total / (masks * keep)
