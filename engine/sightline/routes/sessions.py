"""ONNX Runtime's sessions, and what it needs of the machine: the only file of the engine that speaks to it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from sightline.errors import BadModel, MissingProvider, SightlineError
from sightline.graph.codes import maker
from sightline.graph.expose_taps import ExposeTaps
from sightline.graph.serialise import Serialised, serialise
from sightline.routes.base import Device, Settings
from sightline.routes.bound import BoundSession
from sightline.routes.engines import Chip, cache_options, cache_root, engine_key, precision_of, profiles, sayable
from sightline.routes.providers import (
    PROVIDERS,
    TENSORRT,
    ProvenSession,
    advice,
    check_started,
    cuda_options,
    missing_libraries,
    said_versions,
    visible_name,
    why_not_started,
)

if TYPE_CHECKING:
    from sightline.model import Model


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
    outputs = model.graph.graph.outputs
    as_it_is = names == tuple(str(value.name) for value in outputs) and not any(map(maker, outputs))
    graph = model.graph if as_it_is else ExposeTaps(names, only=True)(model.graph)
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
        raise translated(reason, f"ONNX Runtime refuses {title}") from reason
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


def open_bound(
    graph: ir.Model, names: Sequence[str], settings: Settings, title: str, *, device: str, captured: bool
) -> BoundSession:
    """A session over a graph whose inputs and outputs stay on a device.

    Args:
        graph: to these outputs.
        names: of all outputs, in the graph's order.
        settings: device and threads.
        title: of the model.
        device: "cuda", or "cpu", which behaves alike.
        captured: replay what is launched for a shape that comes again, where ONNX Runtime can.
    """
    import onnxruntime

    def uncaptured() -> Any:
        return open_graph(graph, settings, title)

    def told(reason: Exception) -> Exception:
        return translated(reason, f"ONNX Runtime cannot run {title}")

    session: Any = None
    if captured:
        with contextlib.suppress(MissingProvider):  # nodes on the CPU, for shapes say: no graph of all launches
            session = open_graph(graph, settings, title, captured=True)
    plain = None if session is None else uncaptured
    return BoundSession(
        session or uncaptured(), onnxruntime, device, names, told, uncaptured=plain, number=settings.gpu
    )  # fmt: skip


def placement(session: Any) -> dict[str, Counter[str]]:
    """How many nodes of each operator every provider of a session runs."""
    found = dict[str, Counter[str]]()
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return found


def _few(kinds: Counter[str]) -> str:
    named = [f"{count} {kind}" for kind, count in kinds.most_common(4)]
    return ", ".join([*named, "…"] if len(kinds) > len(named) else named)


def translated(reason: Exception, what: str) -> Exception:
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
