"""Class probabilities against torch's eager mode, images per second."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from networks import SIDE, Network

from sightline.methods.forward.predict import Predict
from sightline.types import Batch

IMAGES = 64
PER_RUN = (1, 16, 64)  # images that torch gets at once; its best is the peer


def test_predict(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    images = network.images(IMAGES)
    plan = network.model.plan(Predict(), threads=pytestconfig.option.threads)
    ours = partial(plan.run, images)
    peers = {f"torch eager, {size} per run": partial(eager, network.module, images, size) for size in PER_RUN}
    found = ours().values  # (B, K)
    for run in peers.values():
        assert np.abs(found - run()).max() <= 1e-4
    race(
        ours,
        peers,
        case=f"{network.title}, {SIDE}x{SIDE}",
        metric="throughput",
        unit="images/s",
        work=IMAGES,
    )


def eager(module: torch.nn.Module, images: Batch, size: int) -> Any:
    """(B, K)."""
    with torch.inference_mode():
        parts = torch.from_numpy(images.tensor).split(size)
        return torch.cat([module(part).softmax(1) for part in parts]).numpy()
