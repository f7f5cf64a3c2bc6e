"""TensorRT through ONNX Runtime's provider. Never counted as TensorRT when it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.abilities import Taps, Weights, WindowSweep
from sightline.routes.base import Forecast, Request, Route, Settings
from sightline.routes.ort import PROVIDERS, OrtOracle, provider_obstacles
from sightline.routes.window_sweep import forecast
from sightline.types import IntArray

if TYPE_CHECKING:
    from sightline.model import Model


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
        return OrtOracle(model, settings)


ROUTE = TensorrtRoute()
