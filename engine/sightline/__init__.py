"""See what a convolutional network looks at.

One ONNX graph, two routes: forward work runs it on ONNX Runtime, gradient work runs its torch twin.

    import sightline as sl
    model = sl.load("resnet50.onnx", preset="imagenet")
    photos = sl.read("photos/", like=model)
    maps = model.explain(photos, sl.Occlusion(window=32, stride=8), target=sl.top(1))
    sl.report(photos, [maps]).save("report.html")

Every name is imported when it is first used; torch only by what differentiates.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.abilities import Differentiable, Forward, Taps, Weights, WindowSweep
    from sightline.dispatch import Plan
    from sightline.job.reader import open_job
    from sightline.model import Model, load
    from sightline.preprocess import Preprocess
    from sightline.reading import read
    from sightline.registry import method
    from sightline.report import report
    from sightline.target import Target, logit, probability, top, unit
    from sightline.types import Batch, Heatmaps, Photo, Window

__version__ = "0.1.0"

_HOMES = {
    "abilities": ("Differentiable", "Forward", "Taps", "Weights", "WindowSweep"),
    "dispatch": ("Plan",),
    "job.reader": ("open_job",),
    "model": ("Model", "load"),
    "preprocess": ("Preprocess",),
    "reading": ("read",),
    "registry": ("method",),
    "report": ("report",),
    "target": ("Target", "logit", "probability", "top", "unit"),
    "types": ("Batch", "Heatmaps", "Photo", "Window"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Differentiable",
    "Forward",
    "Heatmaps",
    "Model",
    "Photo",
    "Plan",
    "Preprocess",
    "Taps",
    "Target",
    "Weights",
    "Window",
    "WindowSweep",
    "load",
    "logit",
    "method",
    "open_job",
    "probability",
    "read",
    "report",
    "top",
    "unit",
]


def __getattr__(name: str) -> Any:
    """Import a public verb, or a method's class by its name, on first use."""
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"sightline.{_HOME_OF[name]}"), name)
    elif name[:1].isupper():
        from sightline.errors import UnknownName
        from sightline.registry import by_class

        try:
            value = by_class(name).load()
        except UnknownName as reason:
            raise AttributeError(f"module 'sightline' has no attribute {name!r}. {reason}") from None
    else:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from sightline.registry import entries

    return sorted({*__all__, *(entry.class_name for entry in entries().values())})
