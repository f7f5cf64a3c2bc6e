"""TensorRT without TensorRT: what it would be told, what is refused, and where engines would lie."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from problems import convolutional, make_model, node
from sightline.errors import MissingProvider, NoRoute, UsageError
from sightline.graph.serialise import Serialised
from sightline.methods.forward.predict import Predict
from sightline.model import Model
from sightline.routes import sessions
from sightline.routes.base import Settings
from sightline.routes.engines import Chip, cache_options, cache_root, engine_key, precision_of, profiles, sayable

Open = Callable[..., Model]
CHIP = Chip("NVIDIA H200", {"driver": "570.1", "onnxruntime-gpu": "1.31.1", "tensorrt-cu13-libs": "10.13.0"})


def graph_of(shape: tuple[Any, ...], dtype: type = np.float32) -> ir.Model:
    weights = {"w": np.ones((2, 3, 1, 1), dtype)}
    nodes, outputs = [node("Conv", "x w", "y")], {"y": ("b", 2, "r", "c")}
    graph = ir.from_proto(make_model(nodes, weights, shape=shape, outputs=outputs, input_name="x"))
    held = graph.graph.initializers["w"]  # problems are float32
    held.const_value = ir.tensor(weights["w"])
    held.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
    return graph


@pytest.mark.parametrize(
    ("shape", "batch", "size", "expected"),
    [
        ((2, 3, 8, 8), None, None, {}),
        (("n", 3, 8, 8), None, None, ("x:1x3x8x8", "x:16x3x8x8", "x:64x3x8x8")),
        (("n", 3, 8, 8), 100, None, ("x:1x3x8x8", "x:100x3x8x8", "x:100x3x8x8")),
        (("n", 3, "h", "w"), 4, (6, 5), ("x:1x3x6x5", "x:4x3x6x5", "x:64x3x6x5")),
        ((4, 3, "h", "w"), None, (6, 5), ("x:4x3x6x5",) * 3),
    ],
)
def test_every_free_size_has_a_range(
    shape: tuple[Any, ...], batch: int | None, size: tuple[int, int] | None, expected: Any
) -> None:
    names = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")
    wanted = dict(zip(names, expected, strict=True)) if expected else {}
    assert profiles(graph_of(shape), batch=batch, size=size) == wanted


def test_a_size_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match=r"input 'x' leaves 2 open beside its batch.*--size 224"):
        profiles(graph_of(("n", 3, "h", "w")), batch=None, size=None)


def test_several_inputs_stand_side_by_side() -> None:
    graph = graph_of(("n", 3, 4, 4))
    graph.graph.inputs.append(ir.Value(name="rows", shape=ir.Shape((None, 7)), type=ir.TensorType(ir.DataType.FLOAT)))
    found = profiles(graph, batch=2, size=None)
    assert found["trt_profile_min_shapes"] == "x:1x3x4x4,rows:1x7"
    assert found["trt_profile_max_shapes"] == "x:64x3x4x4,rows:64x7"


def test_new_names_are_nobody_elses() -> None:
    graph = graph_of(("n", 3, 4, 4))
    graph.graph.inputs[0].name = "y:0"
    graph.graph.outputs[0].name = "y_0"
    found, renamed = sayable(graph)
    assert renamed == {"y:0": "y_0_"}
    assert found.graph.inputs[0].name == "y_0_"
    assert graph.graph.inputs[0].name == "y:0", "it is left as it was"
    assert sayable(found) == (found, {})


def test_engines_differ_where_anything_that_they_depend_on_does() -> None:
    ranges = {"trt_profile_min_shapes": "x:1"}
    serialised = Serialised(b"graph", {"w": np.arange(6.0)})
    base = engine_key(serialised, "fp32", CHIP, ranges)
    others = [
        engine_key(Serialised(b"grapf", serialised.weights), "fp32", CHIP, ranges),
        engine_key(Serialised(b"graph", {"w": np.arange(6.0) + 1}), "fp32", CHIP, ranges),
        engine_key(Serialised(b"graph", {"v": np.arange(6.0)}), "fp32", CHIP, ranges),
        engine_key(serialised, "fp16", CHIP, ranges),
        engine_key(serialised, "fp32", replace(CHIP, name="NVIDIA L4"), ranges),
        engine_key(serialised, "fp32", replace(CHIP, versions=CHIP.versions | {"driver": "580.0"}), ranges),
        engine_key(serialised, "fp32", CHIP, {"trt_profile_min_shapes": "x:2"}),
    ]
    assert len({base, *others}) == 1 + len(others)
    assert engine_key(Serialised(b"graph", {"w": np.arange(6.0)}), "fp32", CHIP, dict(ranges)) == base


def test_the_cache_is_the_users_own(tmp_path: Path) -> None:
    options = cache_options(tmp_path, "a" * 32)
    own = Path(options["trt_engine_cache_path"])
    assert own.name == "a" * 32
    assert own.parent == Path(options["trt_timing_cache_path"])
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700
    own.parent.chmod(0o777)
    with pytest.raises(UsageError, match=r"can be written to by others.*code that would be run.*XDG_CACHE_HOME"):
        cache_options(tmp_path, "b" * 32)
    assert cache_root({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere")
    assert cache_root({}) == Path.home() / ".cache"


def test_precision_is_the_graphs() -> None:
    assert precision_of(graph_of((1, 3, 4, 4))) == "fp32"
    assert precision_of(graph_of((1, 3, 4, 4), np.float16)) == "fp16"
    quantised = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    arrays: dict[str, Any] = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int8)}
    made = make_model(quantised, arrays, shape=(1, 3, 4, 4), outputs={"y": (1, 3, 4, 4)}, input_name="x")
    assert precision_of(ir.from_proto(made)) == "int8"


class MadeUp:
    """Stands for a session: keeps how it was made, and says where its nodes run."""

    made: dict[str, Any] = {}  # noqa: RUF012 - one per test, which replaces it
    starts = True
    places = {"TensorrtExecutionProvider": ["Conv", "Relu"]}  # noqa: RUF012

    def __init__(self, graph: bytes, options: Any, *, providers: Any, enable_fallback: int):
        type(self).made = {"providers": providers, "enable_fallback": enable_fallback}
        self.started = [name for name, _ in providers if self.starts]

    def get_providers(self) -> list[str]:
        return [*self.started, "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [
            SimpleNamespace(
                ep_name=name, get_nodes=lambda kinds=kinds: [SimpleNamespace(op_type=kind) for kind in kinds]
            )
            for name, kinds in self.places.items()
        ]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[MadeUp]:
    """A machine with TensorRT, as far as anybody asks."""
    import onnxruntime

    session = type("MadeUp", (MadeUp,), {})
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(sessions, "available_providers", lambda: list(sessions.PROVIDERS.values()))
    monkeypatch.setattr(sessions, "chip", lambda gpu: CHIP)
    monkeypatch.setattr(sessions, "missing_libraries", lambda device, runtime: {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return session


def test_a_session_is_told_everything_and_may_not_fall_back(open_problem: Open, pretended: type[MadeUp]) -> None:
    model = open_problem(convolutional())
    sessions.open_session(model, (model.logits_name,), Settings("tensorrt", batch=8, size=(7, 6)))
    ((provider, options),) = pretended.made["providers"]
    assert provider == "TensorrtExecutionProvider"
    assert pretended.made["enable_fallback"] == 0
    assert options["trt_engine_cache_enable"] == "1"
    assert "trt_fp16_enable" not in options  # precision is the graph's
    assert Path(options["trt_engine_cache_path"]).is_dir()


def test_nodes_that_run_elsewhere_are_no_tensorrt(open_problem: Open, pretended: type[MadeUp]) -> None:
    model = open_problem(convolutional())
    pretended.places = {"TensorrtExecutionProvider": ["Conv"], "CPUExecutionProvider": ["NonZero", "Loop", "Loop"]}
    with pytest.raises(
        MissingProvider, match=r"3 nodes fell to CPUExecutionProvider \(2 Loop, 1 NonZero\).*--device cuda"
    ):
        sessions.open_session(model, (model.logits_name,), Settings("tensorrt", size=(7, 6)))


def test_cuda_computes_references_in_full_precision(open_problem: Open, pretended: type[MadeUp]) -> None:
    model = open_problem(convolutional())
    pretended.places = {
        "CUDAExecutionProvider": ["Conv"],
        "CPUExecutionProvider": ["Shape"],
    }  # shapes are its to choose
    sessions.open_session(model, (model.logits_name,), Settings("cuda"))
    ((provider, options),) = pretended.made["providers"]
    assert (provider, options["use_tf32"]) == ("CUDAExecutionProvider", "0")


def test_where_nodes_run_is_told(open_problem: Open) -> None:
    model = open_problem(convolutional())
    session = sessions.open_session(model, (model.logits_name,), Settings(threads=1))
    assert set(sessions.placement(session)) == {"CPUExecutionProvider"}
    assert isinstance(sessions.placement(session)["CPUExecutionProvider"], Counter)
    assert sum(sessions.placement(session)["CPUExecutionProvider"].values()) >= 3


@pytest.mark.parametrize(("device", "provider"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt")])
def test_a_missing_provider_says_what_to_install(
    open_problem: Open, monkeypatch: pytest.MonkeyPatch, device: Any, provider: str
) -> None:
    monkeypatch.setattr(sessions, "available_providers", lambda: ["CPUExecutionProvider"])
    model = open_problem(convolutional())
    with pytest.raises(
        NoRoute, match=rf"has no {provider}ExecutionProvider.*pip install 'sightline\[gpu\]'"
    ) as caught:
        model.plan(Predict(), device=device)
    assert ("tensorrt-cu13-libs>=10.13,<11" in str(caught.value)) == (device == "tensorrt")
