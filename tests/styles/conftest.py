"""A small untrained style network, exported once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from problems import convolutional
from sightline.model import Model
from sightline.preprocess import Preprocess
from sightline.styles.training.export import export_network
from sightline.styles.training.network import StyleNetwork


@pytest.fixture(scope="session")
def network() -> StyleNetwork:
    torch.manual_seed(3)
    made = StyleNetwork(4, 1).eval()
    with torch.no_grad():
        for part in made.modules():
            if isinstance(part, torch.nn.InstanceNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
        made.last.weight *= 4  # paintings with contrast
    return made


@pytest.fixture(scope="session")
def folder(network: StyleNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A style's folder, its card left out."""
    path = tmp_path_factory.mktemp("style")
    assert "largest relative difference" in export_network(network, path / "style.onnx", 32)
    return path


@pytest.fixture
def judge(open_problem: Callable[..., Model]) -> Model:
    """A small network that has preprocessing, so that pictures can be judged by it."""
    problem = convolutional()
    crop = problem.shape[1:]
    return open_problem(problem, preprocess=Preprocess(resize=None, crop=crop, mean=(0.5,) * 3, std=(0.25,) * 3))
