"""What providers are called and told, and what of theirs is missing on this machine. No session is made here."""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sightline.errors import EngineMismatch, MissingProvider
from sightline.graph.layers import Shapes
from sightline.precision import TOLERANCES as SCORE_TOLERANCES
from sightline.precision import Precision
from sightline.routes.base import Device

PROVIDERS: dict[Device, str] = {
    "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"
}  # fmt: skip
TENSORRT = "'tensorrt-cu13-libs>=10.13,<11' --extra-index-url https://pypi.nvidia.com"
# Library that a provider is linked with or loads, as Linux names it for CUDA 13: what to install for it.
CUDA_LIBRARIES = {
    "libcuda.so.1": "NVIDIA's driver, 580 or newer",
    "libcudart.so.13": "pip install 'nvidia-cuda-runtime>=13,<14'",
    "libcublas.so.13": "pip install 'nvidia-cublas>=13,<14'",
    "libcublasLt.so.13": "pip install 'nvidia-cublas>=13,<14'",
    "libcurand.so.10": "pip install 'nvidia-curand>=10,<11'",
    "libcudnn.so.9": "pip install 'nvidia-cudnn-cu13>=9,<10'",
}
LIBRARIES: dict[Device, Mapping[str, str]] = {
    "cpu": {},
    "cuda": CUDA_LIBRARIES,
    "tensorrt": CUDA_LIBRARIES | {
        "libnvinfer.so.10": f"pip install {TENSORRT}", "libnvonnxparser.so.10": f"pip install {TENSORRT}"
    },
}  # fmt: skip
# largest difference of outputs, relative to the largest number, by what the graph computes in
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2, "int8": 5e-2}


def cuda_options(gpu: int, precision: Precision, *, captured: bool) -> dict[str, str]:
    """What the CUDA provider is told.

    Convolutions choose their algorithm by rule: an exhaustive search would begin again with every new shape. Products
    are in float32 proper unless TF32 was asked for, since all that other routes compute is held to them.

    Args:
        gpu: number of the device, as CUDA counts.
        precision: "fp32" or "tf32".
        captured: its launches may be captured as CUDA graphs.
    """
    return {
        "device_id": str(gpu),
        "use_tf32": str(int(precision == "tf32")),
        "cudnn_conv_algo_search": "HEURISTIC",
        "enable_cuda_graph": str(int(captured)),
    }


def loads(library: str) -> bool:
    """Whether the system finds a library, or has it loaded already."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_libraries(device: Device, runtime: Any, loads: Callable[[str], bool] = loads) -> dict[str, str]:
    """Libraries that a provider needs and the system does not find, with what to install for each.

    Where some are missing, ONNX Runtime is first told to load those that lie in packages of NVIDIA's: it does not do
    so by itself, and torch does it only if it was imported before. Elsewhere than for CUDA 13 nothing is known.

    Args:
        device: whose provider.
        runtime: the module of ONNX Runtime.
        loads: whether a library can be had.
    """
    wanted = LIBRARIES[device]
    version = str(getattr(runtime, "cuda_version", "") or "13")
    if not wanted or not version.startswith("13"):
        return {}
    found = {name: advice for name, advice in wanted.items() if not loads(name)}
    if found and hasattr(runtime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find: we say that ourselves
            runtime.preload_dlls()
        found = {name: advice for name, advice in found.items() if not loads(name)}
    return found


def check_started(session: Any, device: Device, missing: Mapping[str, str]) -> None:
    """That a session has the provider it was asked for: ONNX Runtime goes on without one that it cannot load.

    Raises:
        MissingProvider: it has not; the message tells what is missing.
    """
    provider = PROVIDERS[device]
    has = list(session.get_providers())
    if provider not in has:
        raise MissingProvider(f"{provider} did not start; the session has {', '.join(has)}. {advice(missing)}")


def why_not_started(device: Device, missing: Mapping[str, str], reason: Exception) -> MissingProvider:
    """The error for a session that could not be made on a device."""
    said = str(reason).strip().rstrip(".")
    return MissingProvider(f"{PROVIDERS[device]} did not start: {said}. {advice(missing)}".rstrip())


def advice(missing: Mapping[str, str]) -> str:
    """What to install."""
    if not missing:
        return "All libraries that it is known to need are there: compare the driver's version with sightline doctor."
    return "Missing: " + "; ".join(f"{name} ({advice})" for name, advice in missing.items()) + "."


class ProvenSession:
    """A session on an engine, whose first run is computed by a reference too: no number of an engine goes unchecked.

    Args:
        session: with the engine. One that is built anew, or read from its cache, is another session.
        reference: makes a session over the same graph on the CPU, when the first run comes.
        precision: what the graph computes in; see ``TOLERANCES``.
        title: of the model.
        renamed: what both call inputs, by what the caller calls them, where that differs.
    """

    def __init__(
        self,
        session: Any,
        reference: Callable[[], Any],
        precision: str,
        title: str,
        renamed: Mapping[str, str] = MappingProxyType({}),
    ):
        self._session, self._reference, self._precision, self._title = session, reference, precision, title
        self._renamed = renamed
        self.proven = False

    def run(self, names: Sequence[str] | None, feed: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Outputs of these names, or all.

        Raises:
            EngineMismatch: the first run differs from the reference by more than the precision explains.
        """
        given = {self._renamed.get(name, name): array for name, array in feed.items()}
        found = self._session.run(names, given)
        if not self.proven:
            self._prove(found, self._reference().run(names, given))
            self.proven = True
        return found

    def _prove(self, found: Sequence[Any], expected: Sequence[Any]) -> None:
        accepted = TOLERANCES[self._precision]
        worst = max((apart(*pair) for pair in zip(found, expected, strict=True)), default=0.0)
        if not worst <= accepted:
            raise EngineMismatch(
                f"What TensorRT computes of {self._title} differs from ONNX Runtime on the CPU by {worst:.3g} "
                f"(relative; {accepted:g} is accepted in {self._precision}). Use --device cuda, and report both "
                "versions: sightline doctor."
            )

    def get_providers(self) -> list[str]:
        """As ONNX Runtime's sessions have it."""
        return list(self._session.get_providers())

    def get_provider_graph_assignment_info(self) -> Any:
        """As ONNX Runtime's sessions have it."""
        return self._session.get_provider_graph_assignment_info()

    def get_inputs(self) -> Any:
        """As ONNX Runtime's sessions have it."""
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        """As ONNX Runtime's sessions have it."""
        return self._session.get_outputs()


def apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference, relative to the largest number; infinite where only one is no number."""
    one, other = (np.asarray(values, np.float64) for values in (found, expected))
    if one.shape != other.shape or not np.array_equal(np.isnan(one), np.isnan(other)):
        return float("inf")
    largest = float(np.nanmax(np.abs(other), initial=0))
    return float(np.nanmax(np.abs(one - other), initial=0)) / max(largest, 1e-12)


def can_be_captured(graph: ir.Model, shapes: Shapes) -> bool:
    """Whether a CUDA graph of its launches can be replayed after other shapes have run.

    Kernels that read tables which ONNX Runtime makes on the host for every run and frees at once (joining or
    splitting unequal parts, scattering, products of many matrices) would read what has taken their place; versions
    without onnxruntime's change 32121 of August 2026 do so.

    Args:
        graph: of the session.
        shapes: of values that the graph shares with the model, where they are known.
    """
    return not any(
        node.op_type in ("Split", "ScatterND")
        or (node.op_type == "Concat" and not _joins_equals(node, shapes))
        or (node.op_type == "MatMul" and all(one is not None and one.const_value is None for one in node.inputs))
        for node in graph.graph
    )


def _joins_equals(node: ir.Node, shapes: Shapes) -> bool:
    axis = node.attributes["axis"].as_int()
    known = [shapes.get(str(one.name), ()) for one in node.inputs if one is not None]
    sizes = {shape[axis] if -len(shape) <= axis < len(shape) else None for shape in known}
    return len(sizes) == 1 and None not in sizes


def check_precision(found: NDArray[Any], exact: NDArray[Any], precision: Precision, title: str) -> None:
    """That scores in another precision are near those in fp32.

    Raises:
        EngineMismatch: they are not.
    """
    worst, accepted = apart(found, exact), SCORE_TOLERANCES[precision]
    if not worst <= accepted:
        raise EngineMismatch(
            f"In {precision} the scores of {title} differ by {worst:.3g} (relative; {accepted:g} is accepted). "
            "Use --precision fp32."
        )


def visible_name(gpu: int, visible: str) -> str:
    """What the driver's tools call a device that CUDA counts among those it may see.

    >>> visible_name(1, ""), visible_name(1, "3,5"), visible_name(0, "GPU-8932f937")
    ('1', '5', 'GPU-8932f937')
    """
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return names[gpu] if gpu < len(names) else str(gpu)


def said_versions(said: str) -> tuple[str, str]:
    """Name and driver of the first device in lines of nvidia-smi's CSV; "unknown" where there is none."""
    for line in said.splitlines():
        name, comma, driver = line.partition(",")
        if comma:
            return name.strip(), driver.strip()
    return "unknown", "unknown"
