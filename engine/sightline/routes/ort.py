"""ONNX Runtime on CPU or CUDA: all forward-only work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.abilities import SweepChunk, Taps, Weights, WindowSweep
from sightline.graph.codes import DecodeCodes, code_names
from sightline.graph.expose_taps import ExposeTaps
from sightline.graph.hide_windows import HideWindows
from sightline.graph.layers import infer_types
from sightline.graph.put_out_score import SCORE, PutOutScore, formula
from sightline.graph.splice import OPSET
from sightline.graph.start_at import StartAt
from sightline.routes.base import Forecast, Request, Route, Settings
from sightline.routes.bound import BoundSession
from sightline.routes.dense_sweep import dense_sweep
from sightline.routes.device_sweep import DeviceDenseSweep
from sightline.routes.engines import (
    rows_at_most,
)
from sightline.routes.oracle import GraphOracle, Values
from sightline.routes.providers import (
    PROVIDERS,
    can_be_captured,
    check_precision,
)
from sightline.routes.sessions import open_bound, open_graph, open_session, placement, provider_obstacles, translated
from sightline.routes.window_sweep import WindowSweeps, forecast, obstacles
from sightline.target import Target
from sightline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from sightline.model import Model
    from sightline.routes.incremental_sweep import Run


class OrtOracle(GraphOracle):
    """Sessions over one graph, made when first needed: one per set of values that somebody reads."""

    def __init__(self, model: Model, settings: Settings):
        super().__init__(model, settings)
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._tails: dict[tuple[str, tuple[str, ...]], tuple[Run, np.dtype[Any]]] = {}
        self._sweeps = WindowSweeps(self)
        self._dense_sweep: tuple[str, DeviceDenseSweep] | None = None

    def run(self, images: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        if names not in self._sessions:
            self._sessions[names] = open_session(self.model, names, self.settings)
        feed = {self.model.input.name: self.model.input.adapt(images)}
        try:
            values = self._sessions[names].run(list(names), feed)
        except Exception as reason:
            raise translated(reason, f"ONNX Runtime cannot run {self.model.path.name}") from reason
        return [np.asarray(value, dtype=np.float32) for value in values]

    def run_from(self, start: str, values: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        if (start, names) not in self._tails:
            port, numbers = self.model.input, DecodeCodes((start,), passed=True)(self.model.graph)
            types = infer_types(numbers, port.shape(port.batch or 1, self.model.input_size))
            begun = StartAt(start, self.model.layers.shapes.get(start), types.get(start, ir.DataType.FLOAT))
            graph = begun(ExposeTaps(names, only=True)(numbers))
            if [str(value.name) for value in graph.graph.inputs] != [start]:
                raise self.past(start)
            dtype = graph.graph.inputs[0].dtype
            self._tails[start, names] = self.runner(graph, names), (dtype or ir.DataType.FLOAT).numpy()
        run, kind = self._tails[start, names]
        found = run({start: values.astype(kind, copy=False)})
        return [np.asarray(found[name], np.float32) for name in names]

    def trial(self) -> Callable[[int], None]:
        names, image = (self.model.logits_name,), self.model.input.name
        if self.bound_to is None or obstacles(self.model):
            return lambda batch: cast(None, self.run(self.noise(batch), names))
        run, laid = self.bound(ExposeTaps(names, only=True)(self.model.graph), names), dict[int, Any]()

        def passes(batch: int) -> None:  # as in a sweep, where no image travels
            if batch not in laid:
                laid[batch] = run.hold(image, self.noise(batch))
            run.run({image: laid[batch]})

        return passes

    def sweep(
        self,
        images: FloatArray,
        windows: IntArray,
        fill: FloatArray,
        target: Target,
        *,
        rows: Sequence[IntArray] | None = None,
        tolerance: float = 0.0,
    ) -> Iterator[SweepChunk]:
        """Scores of every image with each window hidden in turn; see ``WindowSweep``."""
        chosen = [np.arange(len(windows))] * len(images) if rows is None else rows
        passes = sum(len(one) for one in chosen)
        if passes == 0:
            return iter(())
        opened = self._sweeps.opened(windows, target, tolerance, passes, len(images))
        if opened is not None:
            return self._sweeps.run(opened, images, fill, target, chosen)
        if self.bound_to is not None and not obstacles(self.model):
            return self._dense(target)(images, windows, fill, target, self.batch_size(passes), chosen)
        return dense_sweep(self.scores, images, windows, fill, target, self.batch_size(passes), chosen)

    def settled_batch(self, rows: int, *, rewritten: bool) -> int:
        """Of a rewritten sweep the windows of a run, whose best number hardly depends on the network."""
        if self.settings.batch is None and rewritten:
            return self._sweeps.usual_batch
        return self.batch_size(rows)

    @cached_property
    def _largest(self) -> int:
        """Rows of a run: no more than an engine was built for."""
        found = super()._largest
        return min(found, rows_at_most(self.settings.batch)) if self.settings.device == "tensorrt" else found

    @cached_property
    def codes(self) -> frozenset[str]:
        """Names of the values that are integer codes in the graph; whoever reads one is given numbers."""
        return code_names(self.model.graph)

    @cached_property
    def bound_to(self) -> str | None:
        """The device where inputs and outputs of a sweep stay; None where every run takes and gives arrays."""
        opset = self.model.graph.graph.opset_imports.get("", 0)
        return "cuda" if self.settings.device == "cuda" and opset >= OPSET else None

    def bound(self, graph: ir.Model, names: tuple[str, ...], *, captured: bool = False) -> BoundSession:
        """A rewritten graph whose inputs and outputs stay on the device.

        Args:
            graph: to these outputs.
            names: of all outputs, in the graph's order.
            captured: what it launches for a shape that comes again may be replayed, where ONNX Runtime can.
        """
        assert self.bound_to is not None
        captured = captured and self.bound_to == "cuda" and can_be_captured(graph, self.model.layers.shapes)
        return open_bound(
            graph, names, self.settings, self.model.path.name, device=self.bound_to, captured=captured
        )  # fmt: skip

    def scoring(self, graph: ir.Model, target: Target) -> ir.Model:
        """The graph with the target's score as its only output."""
        model = self.model
        ranks = {layer: len(model.layers.shapes[layer]) for layer in target.layers}
        return PutOutScore(target, model.logits_name, model.activation, ranks)(graph)

    def values(self, outputs: Mapping[str, FloatArray]) -> Values:
        """What targets read of outputs by name."""
        return Values(outputs, self.model.logits_name, self.model.activation)

    def _dense(self, target: Target) -> DeviceDenseSweep:
        """The sweep of whole passes for targets of this form; the last is kept."""
        form = formula(target)
        if self._dense_sweep is None or self._dense_sweep[0] != form:
            taps = ExposeTaps(self.names_of(target), only=True)(self.model.graph)
            hidden = HideWindows(self.model.input.channels, self.model.input_size)(taps)
            run = self.bound(self.scoring(hidden, target), (SCORE,), captured=True)
            self._dense_sweep = form, DeviceDenseSweep(run)
        return self._dense_sweep[1]

    def runner(self, graph: ir.Model, names: tuple[str, ...]) -> Run:
        """A rewritten graph, opened like the model's own: inputs by name to these values."""
        session = open_graph(graph, self.settings, self.model.path.name)

        def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, FloatArray]:
            try:
                return dict(zip(names, session.run(list(names), dict(feed)), strict=True))
            except Exception as reason:
                raise translated(reason, f"ONNX Runtime cannot run {self.model.path.name}") from reason

        return run

    def placed(self) -> dict[str, int]:
        """How many nodes each provider runs, of the sessions that were made so far over the model's own graph."""
        found = Counter[str]()
        for session in self._sessions.values():
            found.update({provider: kinds.total() for provider, kinds in placement(session).items()})
        return dict(found)

    def close(self) -> None:
        self._sessions.clear()
        self._tails.clear()
        self._dense_sweep = None
        self._sweeps.close()


def provider_title(settings: Settings) -> str:
    """The provider, where there are several its GPU, and a precision that was asked for."""
    parts = [PROVIDERS[settings.device] + (f" on GPU {settings.gpu}" if settings.gpu else "")]
    return ", ".join(parts if settings.precision == "fp32" else [*parts, settings.precision])


def graph_carries_precision(settings: Settings) -> list[str]:
    """Why a precision cannot be chosen for a graph as it is."""
    if settings.precision == "fp32" or (settings.precision, settings.device) == ("tf32", "cuda"):
        return []
    return [
        f"A precision ({settings.precision}) can be chosen for the torch twin alone; on ONNX Runtime it is the "
        "graph's, but for tf32 with --device cuda. Use sightline quantize to make a graph of another."
    ]


class OrtRoute(Route):
    """ONNX Runtime's CPU or CUDA provider."""

    name = "ort"
    offers = (WindowSweep, Taps, Weights)
    tolerance = 1e-5

    def obstacles(self, request: Request) -> list[str]:
        if request.settings.device == "tensorrt":
            return ["TensorRT has a route of its own: leave --route out, or choose --route tensorrt."]
        return provider_obstacles(request.settings.device) + graph_carries_precision(request.settings)

    def forecast(self, model: Model, settings: Settings, windows: IntArray, tolerance: float) -> Forecast:
        return forecast(model, settings, windows, (model.logits_name,), tolerance)

    def provider(self, settings: Settings) -> str:
        return provider_title(settings)

    def open(self, model: Model, settings: Settings) -> OrtOracle:
        """Scores in TF32 are compared with the CPU's before anything else is.

        Raises:
            EngineMismatch: they differ by more than the precision explains.
        """
        oracle = OrtOracle(model, settings)
        if settings.precision != "fp32":
            images, exact = oracle.noise(1), OrtOracle(model, Settings(threads=settings.threads))
            check_precision(oracle.logits(images), exact.logits(images), settings.precision, model.path.name)
        return oracle


ROUTE = OrtRoute()
