"""Saliency and guided backpropagation against Captum's, images per second."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from networks import SIDE, Network

from sightline.methods.gradient.guided_backprop import GuidedBackprop
from sightline.methods.gradient.saliency import Saliency
from sightline.target import logit
from sightline.types import Batch

IMAGES = 16
PER_RUN = (4, 16)  # images that Captum gets at once; its best is the peer


def test_saliency(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    peer = captum.attr.Saliency(network.module)
    measure(network, race, pytestconfig, Saliency(), peer.attribute, "saliency")


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
def test_guided_backprop(network: Network, race: Any, pytestconfig: pytest.Config) -> None:
    module = network.hookable()
    if not any(isinstance(part, torch.nn.ReLU) for part in module.modules()):
        pytest.skip(f"{network.title} has no ReLU that Captum knows (ReLU6 is none)")
    peer = captum.attr.GuidedBackprop(module)
    measure(network, race, pytestconfig, GuidedBackprop(), peer.attribute, "guided backprop")


def measure(
    network: Network, race: Any, config: pytest.Config, method: Any, attribute: Callable[..., Any], name: str
) -> None:
    images = network.images(IMAGES)
    indices = network.highest(images)
    plan = network.model.plan(method, threads=config.option.threads)
    ours = partial(plan.run, images, logit(indices))
    peers = {f"captum, {size} per run": partial(peer_maps, attribute, images, indices, size) for size in PER_RUN}
    found = ours().values  # (B, H, W)
    for run in peers.values():
        # not their differences: where a ReLU's input is 0 up to rounding, the two choose different sides
        assert np.corrcoef(found.ravel(), run().ravel())[0, 1] > 0.999
    race(
        ours,
        peers,
        case=f"{name}, {network.title}, {SIDE}x{SIDE}",
        metric="throughput",
        unit="images/s",
        work=IMAGES,
    )


def peer_maps(attribute: Callable[..., Any], images: Batch, indices: tuple[int, ...], size: int) -> Any:
    """(B, H, W) largest absolute gradient over the channels."""
    maps: list[Any] = []
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        leaf = torch.from_numpy(images.tensor[rows]).requires_grad_()
        maps.append(attribute(leaf, target=list(indices[rows])).abs().amax(1).detach().numpy())
    return np.concatenate(maps)
