"""ONNX Runtime on CPU or CUDA: all forward-only work. The only file of the engine that speaks to it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.abilities import SweepChunk, Taps, Weights, WindowSweep
from sightline.errors import BadModel, MissingProvider
from sightline.graph.expose_taps import ExposeTaps
from sightline.graph.serialise import serialise
from sightline.graph.start_at import StartAt
from sightline.routes.base import Forecast, Request, Route, Settings
from sightline.routes.dense_sweep import dense_sweep
from sightline.routes.oracle import GraphOracle
from sightline.routes.window_sweep import WindowSweeps, forecast
from sightline.target import Target
from sightline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from sightline.model import Model
    from sightline.routes.incremental_sweep import Run

PROVIDERS = {
    "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"
}  # fmt: skip


class OrtOracle(GraphOracle):
    """Sessions over one graph, made when first needed: one per set of values that somebody reads."""

    def __init__(self, model: Model, settings: Settings):
        super().__init__(model, settings)
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._tails: dict[tuple[str, tuple[str, ...]], tuple[Run, np.dtype[Any]]] = {}
        self._sweeps = WindowSweeps(self)

    def run(self, images: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        if names not in self._sessions:
            self._sessions[names] = open_session(self.model, names, self.settings)
        feed = {self.model.input.name: self.model.input.adapt(images)}
        try:
            values = self._sessions[names].run(list(names), feed)
        except Exception as reason:
            raise _translated(reason, f"ONNX Runtime cannot run {self.model.path.name}") from reason
        return [np.asarray(value, dtype=np.float32) for value in values]

    def run_from(self, start: str, values: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        if (start, names) not in self._tails:
            graph = StartAt(start)(ExposeTaps(names, only=True)(self.model.graph))
            if [str(value.name) for value in graph.graph.inputs] != [start]:
                raise self.past(start)
            dtype = graph.graph.inputs[0].dtype
            self._tails[start, names] = self.runner(graph, names), (dtype or ir.DataType.FLOAT).numpy()
        run, kind = self._tails[start, names]
        found = run({start: values.astype(kind, copy=False)})
        return [np.asarray(found[name], np.float32) for name in names]

    def trial(self) -> Callable[[int], None]:
        names = (self.model.logits_name,)
        return lambda batch: cast(None, self.run(self.noise(batch), names))

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
        opened = self._sweeps.opened(windows, self.names_of(target), tolerance, passes)
        if opened is not None:
            return self._sweeps.run(opened, images, fill, target, chosen)
        return dense_sweep(self.scores, images, windows, fill, target, self.batch_size(passes), chosen)

    def runner(self, graph: ir.Model, names: tuple[str, ...]) -> Run:
        """A rewritten graph, opened like the model's own: inputs by name to these values."""
        session = open_graph(graph, self.settings, self.model.path.name)

        def run(feed: Mapping[str, NDArray[Any]]) -> dict[str, FloatArray]:
            try:
                return dict(zip(names, session.run(list(names), dict(feed)), strict=True))
            except Exception as reason:
                raise _translated(reason, f"ONNX Runtime cannot run {self.model.path.name}") from reason

        return run

    def close(self) -> None:
        self._sessions.clear()
        self._tails.clear()
        self._sweeps.close()


def open_session(model: Model, names: tuple[str, ...], settings: Settings) -> Any:
    """A session that computes these values and nothing that they do not need.

    Raises:
        MissingProvider: the device's provider is not in this build, or it failed to start.
        BadModel: ONNX Runtime refuses the graph.
    """
    own = tuple(str(value.name) for value in model.graph.graph.outputs)
    graph = model.graph if names == own else ExposeTaps(names, only=True)(model.graph)
    return open_graph(graph, settings, model.path.name)


def open_graph(graph: ir.Model, settings: Settings, title: str) -> Any:
    """A session over a graph.

    Raises:
        MissingProvider: the device's provider is not in this build, or it failed to start.
        BadModel: ONNX Runtime refuses the graph, which the user knows by its title.
    """
    import onnxruntime

    obstacles = provider_obstacles(settings.device)
    if obstacles:
        raise MissingProvider(" ".join(obstacles))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what matters reaches the caller as an exception
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs the cores are others'
    provider = PROVIDERS[settings.device]
    serialised = serialise(graph)
    weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in serialised.weights.values()]
    options.add_external_initializers(list(serialised.weights), weights)
    try:
        session: Any = onnxruntime.InferenceSession(
            serialised.graph,
            options,
            providers=[(provider, _provider_options(settings))],
            enable_fallback=0,  # a provider that fails is an error, never a silent CPU run
        )
        session.weights = weights  # it reads them where they lie, so they live as long as it does
        return session
    except Exception as reason:
        if settings.device != "cpu":
            raise MissingProvider(f"{provider} did not start: {reason}") from reason
        raise _translated(reason, f"ONNX Runtime refuses {title}") from reason


def _translated(reason: Exception, what: str) -> Exception:
    """MemoryError or BadModel for what ONNX Runtime says; anything else as it is."""
    if "failed to allocate memory" in str(reason).lower() or "bad_alloc" in str(reason):
        return MemoryError(f"{what}: {str(reason).strip()}")
    spoken = type(reason).__module__.startswith("onnxruntime")
    return BadModel(f"{what}: {str(reason).strip().rstrip('.')}.") if spoken else reason


def _provider_options(settings: Settings) -> dict[str, str]:
    if settings.device == "cuda":
        return {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    return {}


def installed_runtimes() -> dict[str, str]:
    """Version by distribution of every ONNX Runtime installed; they share one import folder, so one is right."""
    names = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def available_providers() -> list[str]:
    """Providers in this build of ONNX Runtime, none if it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def provider_obstacles(device: str) -> list[str]:
    """Why ONNX Runtime cannot run on this device here."""
    runtimes = installed_runtimes()
    if len(runtimes) > 1:
        both = " and ".join(runtimes)
        return [
            f"{both} are both installed and overwrite each other. Mend it: pip uninstall -y {' '.join(runtimes)}, "
            "then pip install 'sightline[cpu]' or 'sightline[gpu]'."
        ]
    available = available_providers()
    if not available:
        return ["ONNX Runtime is not installed: pip install 'sightline[cpu]' (or 'sightline[gpu]', never both)."]
    if PROVIDERS[device] in available:
        return []
    beside = (
        " 'tensorrt-cu13-libs>=10.13,<11' --extra-index-url https://pypi.nvidia.com" if device == "tensorrt" else ""
    )
    return [
        f"This ONNX Runtime has no {PROVIDERS[device]}; it has {', '.join(available)}. "
        f"To get it: pip uninstall -y {' '.join(runtimes)}, then pip install 'sightline[gpu]'{beside}."
    ]


class OrtRoute(Route):
    """ONNX Runtime's CPU or CUDA provider."""

    name = "ort"
    offers = (WindowSweep, Taps, Weights)
    tolerance = 1e-5

    def obstacles(self, request: Request) -> list[str]:
        if request.settings.device == "tensorrt":
            return ["TensorRT has a route of its own: leave --route out, or choose --route tensorrt."]
        return provider_obstacles(request.settings.device)

    def forecast(self, model: Model, settings: Settings, windows: IntArray, tolerance: float) -> Forecast:
        return forecast(model, settings, windows, (model.logits_name,), tolerance)

    def provider(self, settings: Settings) -> str:
        return PROVIDERS[settings.device]

    def open(self, model: Model, settings: Settings) -> OrtOracle:
        return OrtOracle(model, settings)


ROUTE = OrtRoute()
