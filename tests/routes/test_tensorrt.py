"""Work on engines, where a CPU stands in for TensorRT: it keeps to the ranges that it was told, and may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from problems import PROBLEMS, convolutional
from sightline.errors import EngineMismatch, MissingProvider
from sightline.methods.forward.occlusion import Occlusion
from sightline.model import Model
from sightline.routes import ort, sessions
from sightline.routes.base import Settings
from sightline.routes.engines import MOST, Chip
from sightline.routes.providers import PROVIDERS
from sightline.routes.tensorrt import ROUTE
from sightline.target import logit, unit

Open = Callable[..., Model]
REAL = onnxruntime.InferenceSession


class Engine:
    """A session on the CPU that takes no shape but those of its profiles."""

    wrong = 1.0  # factor of every number
    stray = False
    absent = False
    made: list[Engine] = []  # noqa: RUF012

    def __init__(self, graph: bytes, options: Any, *, providers: Any, enable_fallback: int):
        ((name, given),) = providers
        assert name == PROVIDERS["tensorrt"]
        assert enable_fallback == 0
        self.session = REAL(graph, options, providers=["CPUExecutionProvider"])
        least, most = (ranges_of(given.get(f"trt_profile_{end}_shapes", "")) for end in ("min", "max"))
        assert set(least) == set(most) <= {value.name for value in self.session.get_inputs()}
        self.ranges = {name: (least[name], most[name]) for name in least}
        self.factor, self.runs = type(self).wrong, 0
        type(self).made.append(self)

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"] if self.absent else [PROVIDERS["tensorrt"], "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        parts = self.session.get_provider_graph_assignment_info()
        name = "CPUExecutionProvider" if self.stray else PROVIDERS["tensorrt"]
        return [SimpleNamespace(ep_name=name, get_nodes=part.get_nodes) for part in parts]

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        for value in self.session.get_inputs():
            shape = feed[value.name].shape
            least, most = self.ranges.get(value.name, (tuple(value.shape),) * 2)
            inside = [low <= side <= high for low, side, high in zip(least, shape, most, strict=True)]
            assert all(inside), f"{value.name} {shape} is not within {least} and {most}"
        self.runs += 1
        return [value * np.asarray(self.factor, value.dtype) for value in self.session.run(names, feed)]


def ranges_of(text: str) -> dict[str, tuple[int, ...]]:
    """Shapes by input as ONNX Runtime reads them: parts between commas, of each what is before and behind a colon."""
    parts = [part.split(":") for part in text.split(",") if part]
    return {part[0]: tuple(int(side) for side in part[1].split("x")) for part in parts}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[type[Engine]]:
    """A machine with TensorRT, as far as anybody can tell."""
    kind = type("Engine", (Engine,), {"made": []})

    def session(graph: bytes, options: Any, *, providers: Any, **rest: Any) -> Any:
        made = kind if providers[0][0] == PROVIDERS["tensorrt"] else REAL
        return made(graph, options, providers=providers, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(sessions, "available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(sessions, "missing_libraries", lambda device, runtime: {})
    monkeypatch.setattr(sessions, "chip", lambda gpu: Chip("a chip", {}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return kind


def settings(model: Model, device: Any, **options: Any) -> Settings:
    size = model.input_size if device == "tensorrt" and model.input.size is None else None
    return Settings(device, threads=1, size=size, **options)


@pytest.mark.parametrize("name", ["linear", "convolutional", "sigmoid", "nhwc", "batch_of_four"])
def test_scores_taps_and_sweeps_keep_to_their_ranges(open_problem: Open, engine: type[Engine], name: str) -> None:
    problem = PROBLEMS[name]
    model, images = open_problem(problem), problem.images(3, 5)
    built = ROUTE.open(model, settings(model, "tensorrt"))
    plain = ort.OrtOracle(model, settings(model, "cpu"))
    np.testing.assert_allclose(built.logits(images), plain.logits(images), rtol=1e-5, atol=1e-6)
    layers = [layer.name for layer in model.layers]
    for layer in layers:
        np.testing.assert_allclose(
            built.taps(images, [layer])[layer], plain.taps(images, [layer])[layer], rtol=1e-5, atol=1e-6
        )
    fill, target = np.zeros((1, 1, 1), np.float32), logit(1) - 0.5 * unit(layers[0], 0)
    for sweep in ("dense", "incremental"):
        one, other = (
            ROUTE.open(model, settings(model, "tensorrt", sweep=sweep)),
            ort.OrtOracle(model, settings(model, "cpu", sweep=sweep)),
        )
        windows = Occlusion(window=2, stride=1).windows_of(*model.input_size)
        found, expected = (
            np.concatenate([chunk.scores for chunk in oracle.sweep(images, windows, fill, target)])
            for oracle in (one, other)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(engine.made) >= 3
    assert all(made.runs > 0 for made in engine.made)


@pytest.mark.parametrize("sweep", ["dense", "incremental"])
def test_names_with_colons_and_commas_are_served(
    open_problem: Open, engine: type[Engine], tmp_path: Path, sweep: Any
) -> None:
    """TensorFlow's ``input:0``, and one of a layer that is gathered from."""
    problem = convolutional()
    proto = problem.proto
    for one in proto.graph.node:
        one.input[:] = [renamed(name) for name in one.input]
        one.output[:] = [renamed(name) for name in one.output]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        value.name = renamed(value.name)
    model, images = open_problem(problem), problem.images(3, 5)
    assert ":0" in model.input.name
    built, plain = (
        route.open(model, settings(model, device, sweep=sweep))
        for route, device in ((ROUTE, "tensorrt"), (ort.ROUTE, "cpu"))
    )
    windows, fill = Occlusion(window=2, stride=1).windows_of(*model.input_size), np.zeros((1, 1, 1), np.float32)
    found, expected = (
        np.concatenate([chunk.scores for chunk in oracle.sweep(images, windows, fill, logit(1))])
        for oracle in (built, plain)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert any(made.ranges for made in engine.made)


def renamed(name: str) -> str:
    return f"net/{name},a:0" if name else name


def test_work_that_begins_at_a_layer_keeps_to_its_ranges(open_problem: Open, engine: type[Engine]) -> None:
    """What class activation maps ask for."""
    model = open_problem(convolutional())
    built = ROUTE.open(model, settings(model, "tensorrt"))
    layer = model.layers.title(model.layers.resolve(model.deepest_maps))
    values = built.taps(convolutional().images(1, 3), [layer])[layer]
    plain = ort.OrtOracle(model, settings(model, "cpu"))
    np.testing.assert_allclose(
        built.scores_from(layer, values, logit(1)), plain.scores_from(layer, values, logit(1)), rtol=1e-5
    )


def test_no_batch_is_larger_than_engines_are_built_for(open_problem: Open, engine: type[Engine]) -> None:
    model = open_problem(convolutional())
    built = ROUTE.open(model, settings(model, "tensorrt"))
    assert built.batch_size(10_000) <= MOST
    assert (
        ROUTE.open(model, settings(model, "tensorrt", batch=200)).logits(convolutional().images(0, 200)).shape[0]
        == 200
    )


@pytest.mark.parametrize("share", [0.0, 5e-4, 5e-2, np.nan])
def test_an_engine_that_computes_something_else_is_not_used(
    open_problem: Open, engine: type[Engine], share: float
) -> None:
    model = open_problem(convolutional())
    engine.wrong = 1 + share
    if share <= 1e-3:
        ROUTE.open(model, settings(model, "tensorrt"))
        return
    with pytest.raises(EngineMismatch, match=r"differs from ONNX Runtime on the CPU by (0\.05|inf).*--device cuda"):
        ROUTE.open(model, settings(model, "tensorrt"))


def test_every_engine_is_compared_not_only_the_first(open_problem: Open, engine: type[Engine]) -> None:
    """The scores are right, the sweep's graph is compiled into something else."""
    model, images = open_problem(convolutional()), convolutional().images(0, 1)
    built = ROUTE.open(model, settings(model, "tensorrt", sweep="incremental"))
    engine.wrong = 1.1
    layer = next(layer.name for layer in model.layers)
    with pytest.raises(EngineMismatch, match="differs"):
        built.taps(images, [layer])
    windows = Occlusion(window=2, stride=1).windows_of(*model.input_size)
    with pytest.raises(EngineMismatch, match="differs"):
        list(built.sweep(images, windows, np.zeros((1, 1, 1), np.float32), logit(0)))


def test_a_provider_that_does_not_start_is_an_error(open_problem: Open, engine: type[Engine]) -> None:
    model = open_problem(convolutional())
    engine.absent = True
    with pytest.raises(MissingProvider, match=r"TensorrtExecutionProvider did not start; the session has CPUExec"):
        ROUTE.open(model, settings(model, "tensorrt"))


def test_nodes_elsewhere_are_refused(open_problem: Open, engine: type[Engine]) -> None:
    model = open_problem(convolutional())
    engine.stray = True
    with pytest.raises(MissingProvider, match=r"nodes fell to CPUExecutionProvider.*not counted as TensorRT"):
        ROUTE.open(model, settings(model, "tensorrt"))
