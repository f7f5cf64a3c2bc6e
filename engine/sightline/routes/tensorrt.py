"""TensorRT through ONNX Runtime's provider. Never counted as TensorRT where nodes run elsewhere.

Not yet run on a GPU: options, cache keys and refusals are tested with a provider that is made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sightline.abilities import Taps, Weights, WindowSweep
from sightline.errors import EngineMismatch
from sightline.routes.base import Forecast, Request, Route, Settings
from sightline.routes.engines import precision_of
from sightline.routes.ort import PROVIDERS, OrtOracle, provider_obstacles
from sightline.routes.window_sweep import forecast
from sightline.types import IntArray

if TYPE_CHECKING:
    from sightline.model import Model

# largest difference of scores, relative to the largest score, by what the graph computes in
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2, "int8": 5e-2}


class TensorrtRoute(Route):
    """The same sessions as ``ort`` on the TensorRT provider, only when it was asked for by name."""

    name = "tensorrt"
    offers = (WindowSweep, Taps, Weights)
    tolerance = 1e-3

    def obstacles(self, request: Request) -> list[str]:
        if request.settings.device != "tensorrt":
            return ["It runs only when asked for with --device tensorrt."]
        return provider_obstacles("tensorrt")

    def forecast(self, model: Model, settings: Settings, windows: IntArray, tolerance: float) -> Forecast:
        return forecast(model, settings, windows, (model.logits_name,), tolerance)

    def provider(self, settings: Settings) -> str:
        return PROVIDERS["tensorrt"]

    def open(self, model: Model, settings: Settings) -> OrtOracle:
        oracle = OrtOracle(model, settings)
        prove(oracle, OrtOracle(model, Settings(threads=settings.threads)))
        return oracle


def prove(built: OrtOracle, reference: OrtOracle) -> None:
    """Compare the scores of an engine that was just built, or read from its cache, with those of the CPU.

    Raises:
        EngineMismatch: they differ by more than the precision of the graph explains.
    """
    model, noise = built.model, built.noise(1)
    found, expected = built.logits(noise), reference.logits(noise)
    apart = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    precision = precision_of(model.graph)
    if not apart <= TOLERANCES[precision]:
        raise EngineMismatch(
            f"TensorRT's scores of {model.path.name} differ from ONNX Runtime's on the CPU by {apart:.3g} (relative; "
            f"{TOLERANCES[precision]:g} is accepted in {precision}). Use --device cuda, and report both versions: "
            "sightline doctor."
        )


ROUTE = TensorrtRoute()
