"""Dense occlusion against Captum's, windows per second."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from networks import SIDE, Network

from sightline.methods.forward.occlusion import Occlusion
from sightline.target import logit

PER_RUN = (16, 64)  # Captum's perturbations_per_eval; its best is the peer


def test_occlusion(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    window, stride = pytestconfig.option.window, pytestconfig.option.stride
    images = network.images(1)
    (index,) = network.highest(images)
    method = Occlusion(window=window, stride=stride)
    plan = network.model.plan(method, threads=pytestconfig.option.threads)
    peer = CaptumOcclusion(network.module)

    def captum(per_run: int) -> torch.Tensor:
        return peer.attribute(
            torch.from_numpy(images.tensor),
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            target=index,
            perturbations_per_eval=per_run,
        )

    ours = partial(plan.run, images, logit(index))
    peers = {f"captum, {per_run} per run": partial(captum, per_run) for per_run in PER_RUN}
    found = ours().values  # (1, H, W)
    for run in peers.values():
        expected = run().numpy()[:, 0]  # (1, H, W): the same in every channel
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    windows = method.forward_passes(SIDE, SIDE) - 1
    race(
        ours,
        peers,
        case=f"{network.title}, {SIDE}x{SIDE}, window {window}, stride {stride}",
        metric="throughput",
        unit="windows/s",
        work=windows,
    )
