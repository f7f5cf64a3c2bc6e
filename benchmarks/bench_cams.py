"""Class activation maps against pytorch-grad-cam's, images per second."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from networks import SIDE, Network
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.stats import spearmanr

import sightline
from sightline.registry import Method
from sightline.target import logit
from sightline.types import Batch

PER_RUN = 16  # masked or ablated copies that the peer gets at once: its default, and the fastest for it here
LAYOUTS = {"": torch.contiguous_format, ", channels last": torch.channels_last}
LAYERS = {"SqueezeNet": lambda module: module.features[12], "ResNet-18": lambda module: module.layer4[-1]}
METHODS: dict[str, tuple[Method, Any, int]] = {  # ours, theirs, images
    "Grad-CAM": (sightline.GradCam(), pytorch_grad_cam.GradCAM, 8),
    "Grad-CAM++": (sightline.GradCamPp(epsilon=1e-6), pytorch_grad_cam.GradCAMPlusPlus, 8),
    "Eigen-CAM": (sightline.EigenCam(), pytorch_grad_cam.EigenCAM, 8),
    "Score-CAM": (sightline.ScoreCam(align_corners=True), pytorch_grad_cam.ScoreCAM, 1),
    "Ablation-CAM": (sightline.AblationCam(), pytorch_grad_cam.AblationCAM, 1),
}


@pytest.mark.parametrize("name", METHODS)
def test_class_activation_maps(network: Network, race: Any, pytestconfig: pytest.Config, name: str) -> None:
    layer = next((layer for title, layer in LAYERS.items() if network.title.startswith(title)), None)
    if layer is None:
        pytest.skip("two networks are enough: one ends in a convolution, one in a linear layer")
    method, peer, count = METHODS[name]
    images = network.images(count)
    indices = network.highest(images)
    plan = network.model.plan(method, threads=pytestconfig.option.threads)
    ours = partial(plan.run, images, logit(indices))
    peers: dict[str, Any] = {}
    for title, layout in LAYOUTS.items():
        module: torch.nn.Module = copy.deepcopy(network.hookable())
        module = module.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        cam = peer(model=module, target_layers=[layer(module)])
        cam.batch_size = PER_RUN
        peers[f"pytorch-grad-cam{title}"] = partial(peer_maps, cam, layout, images, indices)
    found = ours().values  # (B, h, w) or (B, H, W)
    for run in peers.values():
        expected = run()
        for mine, theirs in zip(found, expected, strict=True):
            agreement = spearmanr(mine.ravel(), theirs.ravel()).statistic
            assert agreement > 0.99 or name == "Eigen-CAM"  # noise has no principal axis; tests/peers has photographs
    race(
        ours, peers, case=f"{name}, {network.title}, {SIDE}x{SIDE}", metric="throughput", unit="images/s", work=count
    )


def peer_maps(cam: Any, layout: Any, images: Batch, indices: tuple[int, ...]) -> np.ndarray:
    """(B, H, W)."""
    leaf = torch.from_numpy(images.tensor).contiguous(memory_format=layout).requires_grad_()
    return cam(input_tensor=leaf, targets=[ClassifierOutputTarget(index) for index in indices])
