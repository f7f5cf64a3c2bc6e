"""The networks of the benchmark: each a torch module and a model of the same weights, made once for all parts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from on_gpu.setting import Setting

NAMES = {"SqueezeNet 1.0": "squeezenet1_0", "ResNet-50": "resnet50", "VGG16": "vgg16_bn"}  # cheapest first


@dataclass(frozen=True)
class Subject:
    """One set of weights for both sides.

    Attributes:
        title: for the table; weights are random.
        module: in evaluation mode, on the CPU.
        model: ours.
        side: pixels of an image.
    """

    title: str
    module: Any
    model: Any
    side: int

    def images(self, count: int) -> Any:
        """Standard normal noise (count, 3, side, side)."""
        from sightline.types import Batch

        shape = (count, 3, self.side, self.side)
        return Batch.of(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))

    def highest(self, images: Any) -> int:
        """The class that ours on the CPU ranks first for the first image: every subject explains the same."""
        return int(self.model.oracle(self.model.plan(predict())).logits(images.tensor[:1]).argmax())


def titles(setting: Setting) -> list[str]:
    """Networks that are measured."""
    return ["SqueezeNet 1.0"] if setting.dry else list(NAMES)


def predict() -> Any:
    """The method."""
    from sightline.methods.forward.predict import Predict

    return Predict()


def subject(setting: Setting, title: str) -> Subject:
    """A network of random weights; its file and its weights are left for parts that come later."""
    import torch

    from sightline.model import load
    from sightline_exporters import export

    torch.manual_seed(0)
    side = setting.size(224, 32)
    name = title.lower().replace(" ", "")
    path, weights = setting.folder / f"{name}.onnx", setting.folder / f"{name}.pt"
    module = tiny() if setting.dry else torchvision_module(NAMES[title])
    if weights.is_file() and path.is_file():
        module.load_state_dict(torch.load(weights, weights_only=True))
    else:
        steady(module, side)
        export(module.eval(), path, example=torch.randn(2, 3, side, side))
        torch.save(module.state_dict(), weights)
    module.eval().requires_grad_(False)
    return Subject(f"{title} (random weights)", module, load(path, preset="imagenet", size=(side, side)), side)


def steady(module: Any, side: int) -> None:
    """Normalisations take the statistics of noise: without them random weights let deeper layers vanish."""
    import torch

    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module.train()(torch.randn(4, 3, side, side))


def torchvision_module(name: str) -> Any:
    """An architecture with random weights, whose ReLUs do not work in place, as Captum requires."""
    import torch
    import torchvision

    module = getattr(torchvision.models, name)(weights=None)
    for part in module.modules():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False
    return module


def tiny() -> Any:
    """A network for rehearsals."""
    from torch import nn

    def block(before: int, after: int) -> list[Any]:
        return [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]

    return nn.Sequential(*block(3, 8), *block(8, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


def waiting(setting: Setting) -> Callable[[], object]:
    """Until the device is done."""
    import torch

    return (lambda: None) if setting.dry else torch.cuda.synchronize


def layouts(setting: Setting, module: Any) -> dict[str, tuple[Any, Any]]:
    """The module on the device in both layouts, with what to call them."""
    import copy

    import torch

    found: dict[str, tuple[Any, Any]] = {}
    for name, layout in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        found[name] = copy.deepcopy(module).to(setting.device).to(memory_format=layout), layout
    return found


def sizes_that_fit(run: Callable[[int], object], sizes: tuple[int, ...]) -> list[int]:
    """Those of a peer's batch sizes that do not run out of memory."""
    import torch

    fit: list[int] = []
    for size in sizes:
        with suppress(torch.OutOfMemoryError):
            run(size)
            fit.append(size)
    return fit


def near(call: Callable[[], Any], expected: Any, tolerance: float) -> str:
    """How far a result is from what is expected, relative to the largest number; an error if too far."""
    found = call()
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= tolerance:
        raise AssertionError(f"apart by {error:.3g}, {tolerance:g} is accepted")
    return f"apart by {error:.2g}"
