"""Every family of published CNN classifiers: its twin, and its incremental sweep.

The twin is held to ONNX Runtime and to the module, through both exporters; the incremental sweep to the dense one.

Gradients are compared in float64 and on networks whose normalisations fold without rounding. A ReLU's gradient jumps
at zero: one activation rounded to the other side, of which a deep random network has a few, moves the gradient by
percents and says nothing about the twin. With scales that are powers of two and offsets on a binary grid, the folded
float32 weights are exactly those of the module, and any difference left is an error.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torchvision
from torch import nn

import sightline
from sightline.model import Model
from sightline.routes.base import Settings, Sweep
from sightline.routes.ort import OrtOracle
from sightline.target import Target, logit
from sightline.twin import Twin
from sightline_exporters import export

FAMILIES = {  # smallest member: side of the input in pixels, as small as its pooling allows
    "alexnet": 224,  # the TorchScript exporter takes its adaptive pooling only at the published size; so VGG's
    "convnext_tiny": 96,
    "densenet121": 97,
    "efficientnet_b0": 96,
    "efficientnet_v2_s": 65,
    "googlenet": 95,
    "inception_v3": 107,
    "mnasnet0_5": 95,
    "mobilenet_v2": 97,
    "mobilenet_v3_small": 97,
    "regnet_x_400mf": 96,
    "regnet_y_400mf": 97,
    "resnet18": 97,
    "resnext50_32x4d": 65,
    "shufflenet_v2_x0_5": 97,
    "squeezenet1_0": 97,
    "squeezenet1_1": 96,
    "vgg11": 224,
    "vgg11_bn": 224,
    "wide_resnet50_2": 65,
    "timm:resnet10t": 97,
    "timm:repvgg_a0": 96,
}
SEED = 20
EPSILON = 2.0**-10  # of every normalisation: near the usual 1e-3, and exact in float32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The suite runs one process per core; more threads than that cost ten times the time here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Exported:
    """A family's smallest member, as a module and as each exporter writes it."""

    module: nn.Module
    side: int
    paths: Mapping[str, Path]
    generator: torch.Generator


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    generator = torch.Generator().manual_seed(SEED)
    side = FAMILIES[request.param]
    module = settled(build(request.param, SEED), side, generator)
    folder = tmp_path_factory.mktemp("family")
    paths = {
        exporter: export(module, folder / f"{exporter}.onnx", size=side, exporter=exporter).path
        for exporter in ("dynamo", "torchscript")
    }
    yield Exported(module, side, paths, generator)
    shutil.rmtree(folder)


def test_the_twin_agrees(family: Exported) -> None:
    images = torch.randn((2, 3, family.side, family.side), generator=family.generator)
    weights = torch.randn((2, 1000), generator=family.generator)  # of the logits: every one of them takes part
    expected_gradient = gradient(copy.deepcopy(family.module).double(), images, weights)
    assert float(expected_gradient.abs().max()) > 0
    for exporter, path in family.paths.items():
        twin = Twin(ir.load(path))
        with torch.no_grad():
            found = twin(images).numpy()
        expected = run_onnx(path, images)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max(), exporter
        found_gradient = gradient(twin.double(), images, weights)
        assert (found_gradient - expected_gradient).abs().max() <= 1e-3 * expected_gradient.abs().max(), exporter


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_the_incremental_sweep_is_exact(family: Exported, exporter: str) -> None:
    model = sightline.load(family.paths[exporter])
    random = np.random.default_rng(SEED)
    side = family.side
    image = random.standard_normal((1, 3, side, side), dtype=np.float32)
    middle, end = side // 2, side - 7
    windows = np.array(
        [[0, 0, 7, 7], [end, end, 7, 7], [0, end, 5, 7], [middle, middle, 7, 3], [middle - 9, 3, 7, 7]], np.int64
    )
    target = logit(int(random.integers(0, 1000)))
    with model:
        scores = {way: swept(model, image, windows, target, way) for way in ("incremental", "dense")}
        untouched = model.oracle(model.plan(sightline.Predict(), threads=1)).scores(image, target)
    fall = np.abs(scores["dense"] - untouched).max()
    assert fall > 0, "a network that no window moves shows nothing"
    wrong = np.abs(scores["incremental"] - scores["dense"]).max()
    assert wrong <= 1e-5 * np.abs(scores["dense"]).max(), f"{wrong:.1e} of scores that fall by {fall:.1e}"


def swept(model: Model, image: np.ndarray, windows: np.ndarray, target: Target, way: Sweep) -> np.ndarray:
    oracle = OrtOracle(model, Settings(threads=1, batch=3, sweep=way))
    scores = np.full(len(windows), np.nan)
    for chunk in oracle.sweep(image, windows, np.zeros((1, 1, 1, 1), np.float32), target):
        scores[chunk.windows] = chunk.scores
    return scores


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
