"""What a provider is told and what is missing for it, on machines that are made up."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from problems import convolutional
from sightline.commands.doctor import machine_facts
from sightline.dispatch import route
from sightline.errors import EngineMismatch, MissingProvider, NoRoute
from sightline.methods.forward.predict import Predict
from sightline.methods.gradient.saliency import Saliency
from sightline.routes import sessions
from sightline.routes.base import Settings
from sightline.routes.providers import (
    CUDA_LIBRARIES,
    PROVIDERS,
    apart,
    can_be_captured,
    check_started,
    cuda_options,
    missing_libraries,
    said_versions,
    why_not_started,
)


def runtime(after: set[str], held: set[str], version: str = "13.2") -> Any:
    """ONNX Runtime whose ``preload_dlls`` finds these libraries, and says much about it."""

    def preload_dlls() -> None:
        print("Failed to load something")
        held.update(after)

    return SimpleNamespace(cuda_version=version, preload_dlls=preload_dlls)


def test_libraries_in_packages_are_loaded_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    held = {"libcuda.so.1"}
    assert missing_libraries("cuda", runtime(set(CUDA_LIBRARIES), held), held.__contains__) == {}
    assert capsys.readouterr().out == ""


def test_what_torch_has_loaded_is_not_loaded_again() -> None:
    held = set(CUDA_LIBRARIES)
    bare = SimpleNamespace(cuda_version="13.2", preload_dlls=lambda: pytest.fail("loaded twice"))
    assert missing_libraries("cuda", bare, held.__contains__) == {}


def test_what_is_missing_is_named_with_what_to_install() -> None:
    held = set(CUDA_LIBRARIES) - {"libcurand.so.10"}
    missing = missing_libraries("tensorrt", runtime(set(), held), held.__contains__)
    assert set(missing) == {"libcurand.so.10", "libnvinfer.so.10", "libnvonnxparser.so.10"}
    message = str(why_not_started("tensorrt", missing, RuntimeError("it failed.")))
    assert "did not start: it failed." in message
    assert "libnvinfer.so.10 (pip install 'tensorrt-cu13-libs>=10.13,<11' --extra-index-url" in message
    assert "nvidia-curand" in message


def test_nothing_is_claimed_of_other_builds() -> None:
    assert missing_libraries("cuda", runtime(set(), set(), "12.8"), set().__contains__) == {}
    assert missing_libraries("cpu", runtime(set(), set()), set().__contains__) == {}


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_session_without_its_provider_is_refused(device: Any) -> None:
    """ONNX Runtime makes one where a library is missing, and runs everything on the CPU."""
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingProvider, match=r"did not start; the session has CPUExecutionProvider\. Missing: libx"):
        check_started(session, device, {"libx": "install x"})
    check_started(session, "cpu", {})


def test_a_provider_that_silently_fell_away_is_an_error_of_the_session(open_problem, monkeypatch) -> None:
    """The real ONNX Runtime for the CPU, asked for CUDA by somebody who believes that it has it."""
    import onnxruntime

    real = onnxruntime.InferenceSession

    def fell_away(graph: bytes, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        return real(graph, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fell_away)
    monkeypatch.setattr(sessions, "available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(sessions, "missing_libraries", lambda device, runtime: {})
    model = open_problem(convolutional())
    with pytest.raises(MissingProvider, match="CUDAExecutionProvider did not start; the session has CPUExec"):
        sessions.open_session(model, (model.logits_name,), Settings("cuda"))


def test_cuda_is_told_to_be_exact_and_steady() -> None:
    plain, captured = cuda_options(0, "fp32", captured=False), cuda_options(3, "tf32", captured=True)
    assert plain == {
        "device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "0"
    }  # fmt: skip
    assert (captured["device_id"], captured["use_tf32"], captured["enable_cuda_graph"]) == ("3", "1", "1")


def test_runtimes_conflict_where_they_share_a_folder(monkeypatch, tmp_path: Path) -> None:
    """One that was put in front of another hides it; two in one folder overwrite each other."""
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    (here,) = sessions.installed_runtimes()
    assert here.startswith("onnxruntime"), "of the environment that runs this"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise AssertionError('imported')")
    expected = dict[str, str]()
    for name, version in (("onnxruntime-directml", "1.20.0"), ("onnxruntime-openvino", "1.19.2")):
        about = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
        about.parent.mkdir()
        about.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        expected[name] = version
        importlib.invalidate_caches()
        assert sessions.installed_runtimes() == expected
    (obstacle,) = sessions.provider_obstacles("cpu")
    assert "onnxruntime-openvino and onnxruntime-directml are both installed" in obstacle


def test_engines_are_tied_to_the_device_that_runs_them(monkeypatch) -> None:
    """A worker that may see one of several devices counts it as its first."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return SimpleNamespace(stdout="NVIDIA L4, 580.95\n")

    monkeypatch.setattr(sessions.subprocess, "run", run)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    found = sessions.chip(1)
    assert asked[0][:3] == ["nvidia-smi", "-i", "7"]
    assert (found.name, found.versions["driver"]) == ("NVIDIA L4", "580.95")
    assert said_versions("") == said_versions("no devices were found") == ("unknown", "unknown")


def test_difference_is_relative_and_no_number_is_none() -> None:
    assert apart(np.array([2.0, -4.0]), np.array([2.0, -5.0])) == pytest.approx(0.2)
    assert apart(np.array([np.nan]), np.array([1.0])) == np.inf
    assert apart(np.zeros(2), np.zeros(3)) == np.inf
    assert apart(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0


def test_a_precision_is_the_twins_to_choose(open_problem) -> None:
    model = open_problem(convolutional())
    with pytest.raises(NoRoute, match=r"bf16.*torch twin alone.*sightline quantize"):
        model.plan(Predict(), precision="bf16", route="ort")
    assert model.plan(Saliency(), precision="bf16").provider == "torch, cpu, bf16"
    assert route("ort").provider(Settings("cuda", gpu=2)) == "CUDAExecutionProvider on GPU 2"
    assert route("ort").provider(Settings("cuda", precision="tf32")) == "CUDAExecutionProvider, tf32"
    assert route("autograd").provider(Settings("cuda", gpu=1, cuda_graphs=True)) == "torch, cuda:1, CUDA graphs"


@pytest.mark.parametrize("share", [1e-3, 0.1])
def test_tf32_can_be_had_on_cuda_and_is_held_to_the_cpu(open_problem, monkeypatch, share: float) -> None:
    """The CPU stands in for the device, wrong by a share."""
    import onnxruntime

    real, told = onnxruntime.InferenceSession, list[dict[str, str]]()

    def session(graph: bytes, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        ((name, given),) = providers
        made = real(graph, options, providers=["CPUExecutionProvider"])
        if name == PROVIDERS["cpu"]:
            return made
        told.append(given)
        return SimpleNamespace(
            run=lambda names, feed: [one * np.float32(1 + share) for one in made.run(names, feed)],
            get_providers=lambda: [name, PROVIDERS["cpu"]],
        )

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(sessions, "available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(sessions, "missing_libraries", lambda device, runtime: {})
    model = open_problem(convolutional())
    plan = model.plan(Predict(), precision="tf32", device="cuda")
    assert (plan.route, plan.provider) == ("ort", "CUDAExecutionProvider, tf32")
    if share > 1e-2:
        with pytest.raises(EngineMismatch, match=r"In tf32 the scores .* differ by 0\.1 .*--precision fp32"):
            model.oracle(plan)
    else:
        model.oracle(plan)
    assert [one["use_tf32"] for one in told] == ["1"]
    for device in ("cpu", "tensorrt"):
        with pytest.raises(NoRoute, match=r"tf32.*but for tf32 with --device cuda"):
            model.plan(Predict(), precision="tf32", device=device, route="ort" if device == "cpu" else "tensorrt")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_plan_is_refused_where_libraries_are_missing(open_problem, monkeypatch, device: Any) -> None:
    """Before anything runs, and doctor says the same."""
    monkeypatch.setattr(sessions, "installed_runtimes", lambda: {"onnxruntime-gpu": "1.31.1"})
    monkeypatch.setattr(sessions, "available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(sessions, "missing_libraries", lambda device, runtime: {"libcudnn.so.9": "pip install cudnn"})
    assert sessions.provider_obstacles(device) == [
        f"{PROVIDERS[device]} cannot start here. Missing: libcudnn.so.9 (pip install cudnn)."
    ]
    with pytest.raises(NoRoute, match=r"cannot start here\. Missing: libcudnn"):
        open_problem(convolutional()).plan(Predict(), device=device)
    assert machine_facts()["devices"][device] == sessions.provider_obstacles(device)


@pytest.mark.parametrize(
    ("body", "captured"),
    [
        ("y = Relu(x)", True),
        ("a = Relu(x) b = Sigmoid(x) y = Concat<axis=1>(a, b)", True),  # two of four
        ("a = Relu(x) y = Concat<axis=1>(a, x, wide)", False),
        ("a = Relu(x) c = Concat<axis=1>(a, unknown) y = Identity(c)", False),
        ("a, y = Split<axis=1, num_outputs=2>(x)", False),
        ("y = MatMul(x, weight)", True),
        ("t = Transpose(x) y = MatMul(x, t)", False),
    ],
)
def test_what_reads_tables_of_the_host_is_not_captured(body: str, captured: bool) -> None:
    text = f"""
        <ir_version: 9, opset_import: ["" : 18]>
        graph (float[N, 4] x, float[N, 6] wide, float[N, 4] unknown) => (y)
        <float[4, 4] weight = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}>
        {{ {body} }}
    """
    graph = ir.from_proto(onnx.parser.parse_model(text))
    shapes = {"x": (1, 4), "a": (1, 4), "b": (1, 4), "wide": (1, 6)}
    assert can_be_captured(graph, shapes) == captured
