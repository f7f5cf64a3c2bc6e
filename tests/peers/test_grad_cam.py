"""Agreement of class activation maps with pytorch-grad-cam's on a real network and real photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from conftest import THREADS
from sightline.methods.forward.ablation_cam import AblationCam
from sightline.methods.forward.eigen_cam import EigenCam
from sightline.methods.forward.score_cam import ScoreCam
from sightline.methods.gradient.grad_cam import GradCam
from sightline.methods.gradient.grad_cam_pp import GradCamPp
from sightline.model import Model, load
from sightline.reading import read
from sightline.target import top
from sightline.types import Batch

peers = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed: pip install 'sightline[peers]'")
torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'sightline[torch]'")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")


@pytest.fixture(scope="module")
def model(squeezenet_path: Path) -> Iterator[Model]:
    with load(squeezenet_path, preset="imagenet") as opened:
        yield opened


@pytest.fixture(scope="module")
def module(squeezenet_path: Path) -> Any:
    weights = squeezenet_path.with_suffix(".safetensors")
    if not weights.is_file():
        pytest.skip(f"{weights} is not on this machine; it is not part of the repository")
    network = torchvision.models.squeezenet1_0(weights=None)
    network.load_state_dict(safetensors_torch.load_file(weights))
    return network.eval()


@pytest.fixture(scope="module")
def images(model: Model, photos: Path) -> Batch:
    files = sorted(photos.glob("*.jpg"))
    rows = np.random.default_rng(31).choice(len(files), 2, replace=False)
    return read([files[row] for row in rows], like=model)


def agreement(model: Model, module: Any, images: Batch, ours: Any, peer: Any, layer: Any) -> list[float]:
    """Spearman's rank correlation of each image's two maps."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with peer(model=module, target_layers=[layer]) as cam:
            theirs = cam(input_tensor=torch.from_numpy(images.tensor), targets=None)  # the highest class, as top(1)
    finally:
        torch.set_num_threads(before)
    found: Any = model.explain(images, ours, top(1), threads=THREADS)
    return [float(spearmanr(a.ravel(), b.ravel()).statistic) for a, b in zip(found.values, theirs, strict=True)]


@pytest.mark.parametrize(
    ("ours", "peer"),
    [(GradCam(), "GradCAM"), (GradCamPp(epsilon=1e-6), "GradCAMPlusPlus"), (EigenCam(), "EigenCAM")],
    ids=["grad_cam", "grad_cam_pp", "eigen_cam"],
)
def test_of_the_last_layer(model: Model, module: Any, images: Batch, ours: Any, peer: str) -> None:
    assert min(agreement(model, module, images, ours, getattr(peers, peer), module.features[12])) >= 0.999


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (AblationCam(layer="features.12.squeeze_activation"), "AblationCAM"),
        (ScoreCam(layer="features.12.squeeze_activation", align_corners=True), "ScoreCAM"),
    ],
    ids=["ablation_cam", "score_cam"],
)
def test_of_a_layer_of_64_channels(model: Model, module: Any, images: Batch, ours: Any, peer: str) -> None:
    """The peer runs the whole network for every channel; 64 keep the test short."""
    one = Batch.of(images.tensor[:1])
    layer = module.features[12].squeeze_activation
    assert min(agreement(model, module, one, ours, getattr(peers, peer), layer)) >= 0.999
