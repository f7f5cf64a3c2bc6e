"""TensorRT through ONNX Runtime's provider. Never counted as TensorRT where nodes run elsewhere.

Not yet run on a GPU: options, cache keys and refusals are tested with a provider that is made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.abilities import Taps, Weights, WindowSweep
from sightline.routes.base import Forecast, Request, Route, Settings
from sightline.routes.ort import OrtOracle, graph_carries_precision, provider_title
from sightline.routes.sessions import provider_obstacles
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
        return provider_obstacles("tensorrt") + graph_carries_precision(request.settings)

    def forecast(self, model: Model, settings: Settings, windows: IntArray, tolerance: float) -> Forecast:
        return forecast(model, settings, windows, (model.logits_name,), tolerance)

    def provider(self, settings: Settings) -> str:
        return provider_title(settings)

    def open(self, model: Model, settings: Settings) -> OrtOracle:
        """Every engine is compared with the CPU in its first run; that of the scores runs now.

        Raises:
            MissingProvider: TensorRT does not start, or does not take the whole graph.
            EngineMismatch: its scores are not those of the CPU.
        """
        oracle = OrtOracle(model, settings)
        oracle.logits(oracle.noise(1))
        return oracle


ROUTE = TensorrtRoute()
