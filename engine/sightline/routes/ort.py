"""ONNX Runtime on CPU or CUDA: all forward-only work. The only file of the engine that speaks to it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.abilities import SweepChunk, Taps, Weights, WindowSweep
from sightline.errors import BadModel, MissingProvider, SightlineError
from sightline.graph.expose_taps import ExposeTaps
from sightline.graph.hide_windows import HideWindows
from sightline.graph.put_out_score import SCORE, PutOutScore, formula
from sightline.graph.serialise import Serialised, serialise
from sightline.graph.splice import OPSET
from sightline.graph.start_at import StartAt
from sightline.routes.base import Device, Forecast, Request, Route, Settings
from sightline.routes.bound import BoundSession
from sightline.routes.dense_sweep import dense_sweep
from sightline.routes.device_sweep import DeviceDenseSweep
from sightline.routes.engines import (
    Chip,
    cache_options,
    cache_root,
    engine_key,
    precision_of,
    profiles,
    rows_at_most,
    sayable,
)
from sightline.routes.oracle import GraphOracle, Values
from sightline.routes.providers import (
    PROVIDERS,
    TENSORRT,
    ProvenSession,
    advice,
    can_be_captured,
    check_precision,
    check_started,
    cuda_options,
    missing_libraries,
    said_versions,
    visible_name,
    why_not_started,
)
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
            raise _translated(reason, f"ONNX Runtime cannot run {self.model.path.name}") from reason
        return [np.asarray(value, dtype=np.float32) for value in values]

    def run_from(self, start: str, values: FloatArray, names: tuple[str, ...]) -> list[FloatArray]:
        if (start, names) not in self._tails:
            graph = StartAt(start, self.model.layers.shapes.get(start))(
                ExposeTaps(names, only=True)(self.model.graph)
            )
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
        import onnxruntime

        assert self.bound_to is not None
        title = self.model.path.name

        def uncaptured() -> Any:
            return open_graph(graph, self.settings, title)

        def translated(reason: Exception) -> Exception:
            return _translated(reason, f"ONNX Runtime cannot run {title}")

        session: Any = None
        if captured and self.bound_to == "cuda" and can_be_captured(graph, self.model.layers.shapes):
            with contextlib.suppress(MissingProvider):  # nodes on the CPU, for shapes say: no graph of all launches
                session = open_graph(graph, self.settings, title, captured=True)
        plain = None if session is None else uncaptured
        return BoundSession(
            session or uncaptured(), onnxruntime, self.bound_to, names, translated,
            uncaptured=plain, number=self.settings.gpu,
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
                raise _translated(reason, f"ONNX Runtime cannot run {self.model.path.name}") from reason

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


def open_session(model: Model, names: tuple[str, ...], settings: Settings, *, plain: bool = False) -> Any:
    """A session that computes these values and nothing that they do not need.

    Args:
        model: whose graph it is.
        names: of the values.
        settings: device and threads.
        plain: run the graph's own nodes one by one, with nothing fused.

    Raises:
        MissingProvider: the device's provider is not in this build, or it failed to start.
        BadModel: ONNX Runtime refuses the graph.
    """
    own = tuple(str(value.name) for value in model.graph.graph.outputs)
    graph = model.graph if names == own else ExposeTaps(names, only=True)(model.graph)
    return open_graph(graph, settings, model.path.name, plain=plain)


def open_graph(
    graph: ir.Model, settings: Settings, title: str, *, captured: bool = False, plain: bool = False
) -> Any:
    """A session over a graph, ``captured`` as CUDA graphs where its runs ask for it, ``plain`` with nothing fused.

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
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs the cores are others'
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    provider = PROVIDERS[settings.device]
    missing = missing_libraries(settings.device, onnxruntime)
    given, renamed = sayable(graph) if settings.device == "tensorrt" else (graph, dict[str, str]())
    serialised = serialise(given)
    weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in serialised.weights.values()]
    options.add_external_initializers(list(serialised.weights), weights)
    try:
        session: Any = onnxruntime.InferenceSession(
            serialised.graph,
            options,
            providers=[(provider, provider_options(given, serialised, settings, captured=captured))],
            enable_fallback=0,  # a provider that fails is an error, never a silent CPU run
        )
        session.weights = weights  # it reads them where they lie, so they live as long as it does
    except SightlineError:
        raise
    except Exception as reason:
        if settings.device != "cpu":
            raise why_not_started(settings.device, missing, reason) from reason
        raise _translated(reason, f"ONNX Runtime refuses {title}") from reason
    check_started(session, settings.device, missing)
    if settings.device == "tensorrt":
        strays = {name: kinds for name, kinds in placement(session).items() if name != provider}
        if strays:
            raise MissingProvider(
                f"TensorRT does not take all of {title}: "
                + "; ".join(
                    f"{sum(kinds.values())} nodes fell to {name} ({_few(kinds)})" for name, kinds in strays.items()
                )
                + ". What runs elsewhere is not counted as TensorRT: use --device cuda."
            )
        reference = Settings(threads=settings.threads)
        return ProvenSession(
            session, lambda: open_graph(given, reference, title), precision_of(graph), title, renamed
        )
    return session


def placement(session: Any) -> dict[str, Counter[str]]:
    """How many nodes of each operator every provider of a session runs."""
    found = dict[str, Counter[str]]()
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return found


def _few(kinds: Counter[str]) -> str:
    named = [f"{count} {kind}" for kind, count in kinds.most_common(4)]
    return ", ".join([*named, "…"] if len(kinds) > len(named) else named)


def _translated(reason: Exception, what: str) -> Exception:
    """MemoryError or BadModel for what ONNX Runtime says; anything else as it is."""
    if "failed to allocate memory" in str(reason).lower() or "bad_alloc" in str(reason):
        return MemoryError(f"{what}: {str(reason).strip()}")
    spoken = type(reason).__module__.startswith("onnxruntime")
    return BadModel(f"{what}: {str(reason).strip().rstrip('.')}.") if spoken else reason


def provider_options(
    graph: ir.Model, serialised: Serialised, settings: Settings, *, captured: bool = False
) -> dict[str, str]:
    """What the provider of a device is told.

    Raises:
        UsageError: see ``profiles`` and ``cache_options``.
    """
    if settings.device == "cuda":
        return cuda_options(settings.gpu, settings.precision, captured=captured)
    if settings.device == "tensorrt":
        ranges = profiles(graph, batch=settings.batch, size=settings.size)
        key = engine_key(serialised, precision_of(graph), chip(settings.gpu), ranges)
        return {"device_id": str(settings.gpu), **ranges, **cache_options(cache_root(os.environ), key)}
    return {}


def chip(gpu: int = 0) -> Chip:
    """A device as NVIDIA's driver tells of it, and the versions that engines depend on."""
    which = visible_name(gpu, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    query = ["nvidia-smi", "-i", which, "--query-gpu=name,driver_version", "--format=csv,noheader"]

    def said() -> str:
        try:
            return subprocess.run(query, check=True, capture_output=True, text=True, timeout=20).stdout
        except (OSError, subprocess.SubprocessError):
            return ""

    name, driver = said_versions(said())
    versions = installed_runtimes() | {"driver": driver}
    for package in ("tensorrt-cu13-libs", "tensorrt-cu13", "tensorrt"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Chip(name, versions)


def installed_runtimes() -> dict[str, str]:
    """Version by distribution of every ONNX Runtime in the folder of the one that is imported: one of them is right.

    What lies elsewhere on the path, behind that folder, is never imported and overwrites nothing.
    """
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).resolve().parents[1]
    names = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
    return {
        name: one.version
        for name in names
        for one in importlib.metadata.distributions(name=name)
        if Path(str(one.locate_file(""))).resolve() == folder
    }


def available_providers() -> list[str]:
    """Providers in this build of ONNX Runtime, none if it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def provider_obstacles(device: Device) -> list[str]:
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
        import onnxruntime

        missing = missing_libraries(device, onnxruntime)
        return [f"{PROVIDERS[device]} cannot start here. {advice(missing)}"] if missing else []
    beside = f" {TENSORRT}" if device == "tensorrt" else ""
    return [
        f"This ONNX Runtime has no {PROVIDERS[device]}; it has {', '.join(available)}. "
        f"To get it: pip uninstall -y {' '.join(runtimes)}, then pip install 'sightline[gpu]'{beside}."
    ]


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
