"""The twin of every family of published CNN classifiers, through both exporters, against ONNX Runtime and the module.

Gradients are compared in float64 and on networks whose normalisations fold without rounding. A ReLU's gradient jumps
at zero: one activation rounded to the other side, of which a deep random network has a few, moves the gradient by
percents and says nothing about the twin. With scales that are powers of two and offsets on a binary grid, the folded
float32 weights are exactly those of the module, and any difference left is an error.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torchvision
from torch import nn

from sightline.twin import Twin
from sightline_exporters import export

FAMILIES = {  # smallest member: side of the input in pixels, as small as its pooling allows
    "alexnet": 224,  # the TorchScript exporter takes its adaptive pooling only at the published size; so VGG's
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 33,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 33,
    "resnet18": 65,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 33,
    "squeezenet1_0": 49,
    "squeezenet1_1": 48,
    "vgg11": 224,
    "vgg11_bn": 224,
    "wide_resnet50_2": 32,
    "timm:resnet10t": 49,
    "timm:repvgg_a0": 32,
}
EPSILON = 2.0**-10  # of every normalisation: near the usual 1e-3, and exact in float32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The suite runs one process per core; more threads than that cost ten times the time here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("seed", [20])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_twin_agrees(family: str, seed: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(seed)
    side = FAMILIES[family]
    module = settled(build(family, seed), side, generator)
    images = torch.randn((2, 3, side, side), generator=generator)
    weights = torch.randn((2, 1000), generator=generator)  # of the logits: every one of them takes part
    expected_gradient = gradient(copy.deepcopy(module).double(), images, weights)
    assert float(expected_gradient.abs().max()) > 0
    for exporter in ("dynamo", "torchscript"):
        path = export(module, tmp_path / f"{exporter}.onnx", size=side, exporter=exporter).path
        twin = Twin(ir.load(path))
        with torch.no_grad():
            found = twin(images).numpy()
        expected = run_onnx(path, images)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), exporter
        found_gradient = gradient(twin.double(), images, weights)
        assert (found_gradient - expected_gradient).abs().max() <= 1e-3 * expected_gradient.abs().max(), exporter
        path.unlink()


def test_no_family_of_torchvision_is_left_out() -> None:
    listed = {name for name in FAMILIES if ":" not in name}
    assert len(listed) >= 20
    transformers = {"maxvit", "swin_transformer", "vision_transformer"}
    sources = {file_of(name) for name in torchvision.models.list_models(module=torchvision.models)}
    assert sources - transformers == {file_of(name) for name in listed}


def file_of(name: str) -> str:
    """The file of torchvision that holds a model's family."""
    return torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]


def build(family: str, seed: int) -> nn.Module:
    """The network with random weights; AlexNet's and VGG's hidden layers of 4096 are narrowed to 64 (0.5 GB less)."""
    torch.manual_seed(seed)
    if family.startswith("timm:"):
        timm = pytest.importorskip("timm", reason="timm is an extra")
        return timm.create_model(family.removeprefix("timm:"))
    # without their auxiliary heads, which evaluation ignores
    options = {"init_weights": False, "aux_logits": False} if family in ("googlenet", "inception_v3") else {}
    module = torchvision.models.get_model(family, weights=None, **options)
    if family in ("alexnet", "vgg11", "vgg11_bn"):
        for index, layer in enumerate(module.classifier):
            if isinstance(layer, nn.Linear):
                sides = (64 if n == 4096 else n for n in (layer.in_features, layer.out_features))
                module.classifier[index] = nn.Linear(*sides)
    return module


def settled(module: nn.Module, side: int, generator: torch.Generator) -> nn.Module:
    """In evaluation mode, with statistics near those of its activations, on a grid that folds without rounding."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and part.bias is not None:
                part.bias.copy_(on_grid(part.bias, 2.0**-8))
        for name, parameter in module.named_parameters():
            if name.endswith("layer_scale"):  # ConvNeXt's starts at 1e-6, which would hide its blocks
                nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
        for norm in norms:
            norm.eps, norm.momentum = EPSILON, None  # an average over what follows
            norm.reset_running_stats()
            norm.weight.copy_(2.0 ** torch.randint(-1, 1, norm.weight.shape, generator=generator))
            norm.bias.copy_(torch.randint(-32, 33, norm.bias.shape, generator=generator) / 64)
        module.train()
        module(torch.randn((4, 3, side, side), generator=generator))
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            deviation = 2.0 ** torch.round(torch.log2(norm.running_var.clamp_min(0.01)) / 2)
            norm.running_mean.copy_(on_grid(norm.running_mean / deviation, 2.0**-6) * deviation)
            norm.running_var.copy_(deviation**2 - EPSILON)
    return module.eval()


def on_grid(values: torch.Tensor, step: float) -> torch.Tensor:
    return torch.round(values / step) * step


def gradient(module: nn.Module, images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Of the weighted sum of the logits to the images, in float64."""
    images = images.double().requires_grad_()
    return torch.autograd.grad((module(images) * weights.double()).sum(), images)[0]


def run_onnx(path: Path, images: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": images.numpy()})[0])
