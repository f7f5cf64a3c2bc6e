"""The networks that the benchmarks run: each once in torch, once as the ONNX file of the same weights."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torchvision

from sightline.model import Model, load
from sightline.types import Batch
from sightline_exporters import export

MODELS = Path(__file__).parents[2] / "shared" / "models"
SIDE = 224  # pixels


@dataclass(frozen=True)
class Network:
    """One set of weights for both sides.

    Attributes:
        title: for the table.
        module: as torchvision ships it, in evaluation mode, its parameters not differentiated.
        model: ours.
    """

    title: str
    module: torch.nn.Module
    model: Model

    def images(self, count: int, seed: int = 0) -> Batch:
        """Standard normal noise (count, 3, 224, 224)."""
        noise = np.random.default_rng(seed).standard_normal((count, 3, SIDE, SIDE), dtype=np.float32)
        return Batch.of(noise)

    def highest(self, images: Batch) -> tuple[int, ...]:
        """(B,) class that torch ranks first, so that every subject explains the same."""
        with torch.inference_mode():
            return tuple(int(index) for index in self.module(torch.from_numpy(images.tensor)).argmax(1))

    def hookable(self) -> torch.nn.Module:
        """A copy whose ReLUs do not work in place, as Captum's hooks on them require."""
        module = copy.deepcopy(self.module)
        for part in module.modules():
            if isinstance(part, torch.nn.ReLU):
                part.inplace = False
        return module


def squeezenet(folder: Path, threads: int) -> Network:
    """SqueezeNet 1.0, trained where the weights lie beside the checkout."""
    path, weights = MODELS / "squeezenet1_0.onnx", MODELS / "squeezenet1_0.safetensors"
    if not (path.is_file() and weights.is_file()):
        return _random("SqueezeNet 1.0", torchvision.models.squeezenet1_0, folder, threads)
    module = torchvision.models.squeezenet1_0(weights=None)
    module.load_state_dict(safetensors.torch.load_file(weights))
    return _network("SqueezeNet 1.0", module, path, threads)


def mobilenet_v2(folder: Path, threads: int) -> Network:
    """MobileNetV2 of random weights."""
    return _random("MobileNetV2", torchvision.models.mobilenet_v2, folder, threads)


def resnet18(folder: Path, threads: int) -> Network:
    """ResNet-18 of random weights."""
    return _random("ResNet-18", torchvision.models.resnet18, folder, threads)


def resnet50(folder: Path, threads: int) -> Network:
    """ResNet-50 of random weights."""
    return _random("ResNet-50", torchvision.models.resnet50, folder, threads)


def vgg16(folder: Path, threads: int) -> Network:
    """VGG16 of random weights, with normalisation, without which random weights say nothing at this depth."""
    return _random("VGG16-BN", torchvision.models.vgg16_bn, folder, threads)


def _random(title: str, make: Any, folder: Path, threads: int) -> Network:
    torch.manual_seed(0)
    module = make(weights=None)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the mean over batches: here, that of the only one
    with torch.no_grad():  # a fresh module's own statistics let the deeper layers vanish, and the scores with them
        module.train()(torch.randn(4, 3, SIDE, SIDE))
    path = folder / "network.onnx"
    export(module.eval(), path, example=torch.randn(2, 3, SIDE, SIDE))
    return _network(f"{title} (random weights)", module, path, threads)


def _network(title: str, module: torch.nn.Module, path: Path, threads: int) -> Network:
    torch.set_num_threads(threads)
    return Network(title, module.eval().requires_grad_(False), load(path, preset="imagenet"))


MAKERS: Mapping[str, Callable[[Path, int], Network]] = {
    "squeezenet": squeezenet, "mobilenet_v2": mobilenet_v2, "resnet18": resnet18, "resnet50": resnet50, "vgg16": vgg16
}  # fmt: skip

FAMILIES = ("efficientnet_b0", "densenet121", "shufflenet_v2_x1_0", "inception_v3", "convnext_tiny", "regnet_x_400mf")


def family(name: str, folder: Path, threads: int) -> Network:
    """Any classifier of torchvision by its name, of random weights."""
    extra = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    return _random(name, functools.partial(torchvision.models.get_model, name, **extra), folder, threads)
