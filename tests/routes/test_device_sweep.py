"""Sweeps whose inputs stay on the device, on the one device that is always there: against those fed by arrays."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from problems import PROBLEMS, convolutional
from sightline.graph.put_out_score import class_inputs, formula
from sightline.model import Model
from sightline.routes.base import Settings
from sightline.routes.bound import CAPTURE_FROM, BoundSession
from sightline.routes.ort import OrtOracle
from sightline.target import Target, logit, probability, unit

Open = Callable[..., Model]


def scores(oracle: OrtOracle, images: np.ndarray, windows: np.ndarray, target: Target, **options: Any) -> np.ndarray:
    """(B, M) of a sweep, NaN where none was asked for."""
    found = np.full((len(images), len(windows)), np.nan)
    for chunk in oracle.sweep(images, windows, np.full((1, 1, 1), 0.25, np.float32), target, **options):
        assert np.isnan(found[chunk.image, chunk.windows]).all(), "scored twice"
        found[chunk.image, chunk.windows] = chunk.scores
    return found


def at_home(model: Model, sweep: Any, batch: int | None = 3) -> tuple[OrtOracle, OrtOracle]:
    """The oracle that is fed by arrays, and the one whose values stay on the CPU as on a device."""
    oracles = tuple(OrtOracle(model, Settings(threads=1, sweep=sweep, batch=batch)) for _ in range(2))
    oracles[1].__dict__["bound_to"] = "cpu"
    return oracles  # type: ignore[return-value]


def random_windows(random: np.random.Generator, size: tuple[int, int], count: int) -> np.ndarray:
    """(count, 4) rectangles of any size inside the image."""
    top, left = (random.integers(0, n, count) for n in size)
    return np.stack([top, left, *(random.integers(1, n - p + 1) for n, p in zip(size, (top, left), strict=True))], 1)


@pytest.mark.parametrize("name", ["linear", "convolutional", "sigmoid", "nhwc", "batch_of_four"])
@pytest.mark.parametrize("sweep", ["dense", "incremental"])
@pytest.mark.parametrize("seed", range(2))
def test_scores_are_those_of_a_sweep_by_arrays(open_problem: Open, name: str, sweep: str, seed: int) -> None:
    problem, random = PROBLEMS[name], np.random.default_rng(seed)
    model, images = open_problem(problem), problem.images(seed, 3)
    windows = random_windows(random, problem.shape[1:], 7)
    rows = [random.permutation(7)[:count] for count in (5, 0, 7)]
    layer = model.layers.resolve(next(layer.name for layer in model.layers))
    each = tuple(int(n) for n in random.integers(0, problem.classes, 3))
    targets = [logit(each), probability(each) - 0.5 * logit(0), -unit(layer, 0) + 2 * probability(1)]
    plain, bound = at_home(model, sweep, model.input.batch or 3)
    for target in targets:
        expected = scores(plain, images, windows, target, rows=rows)
        found = scores(bound, images, windows, target, rows=rows)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    plain.close()
    bound.close()


def test_sweeps_of_one_oracle_may_alternate(open_problem: Open) -> None:
    problem = convolutional()
    model, images = open_problem(problem), problem.images(5, 2)
    windows = random_windows(np.random.default_rng(5), problem.shape[1:], 8)
    fill = np.zeros((1, 1, 1), np.float32)
    for sweep in ("dense", "incremental"):
        plain, bound = at_home(model, sweep, 2)
        runs = [bound.sweep(images[[n]], windows, fill, logit(1)) for n in (0, 1)]
        expected = [
            np.concatenate([c.scores for c in plain.sweep(images[[n]], windows, fill, logit(1))]) for n in (0, 1)
        ]
        found: list[list[float]] = [[], []]
        for pair in zip(*runs, strict=True):
            for kept, chunk in zip(found, pair, strict=True):
                kept.extend(chunk.scores)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_batches_are_measured_without_copying(open_problem: Open) -> None:
    problem = convolutional()
    _, bound = at_home(open_problem(problem), "auto", None)
    assert 1 <= bound.measured.batch <= 256
    assert bound.measured.seconds > 0


def test_one_graph_serves_all_classes() -> None:
    assert formula(logit(1) - 2 * probability((3, 4))) == formula(logit(7) - 2 * probability(0))
    assert formula(logit(1)) != formula(probability(1))
    assert formula(unit("a", 1)) != formula(unit("a", 2))
    found = class_inputs(logit((1, 2)) + probability(5), 2)
    assert {name: classes.tolist() for name, classes in found.items()} == {
        "score:classes0": [1, 2], "score:classes1": [5, 5]
    }  # fmt: skip


class Value:
    """Stands for a value on a device, whose address is its number."""

    made = 0

    def __init__(self, shape: list[int], kind: Any):
        type(self).made += 1
        self.address, self.array, self.copies = self.made, np.zeros(shape, kind), 0

    def update_inplace(self, array: np.ndarray) -> None:
        self.array[...] = array
        self.copies += 1

    def data_ptr(self) -> int:
        return self.address

    def numpy(self) -> np.ndarray:
        return self.array.copy()


class Binding:
    """Keeps what is bound."""

    def __init__(self) -> None:
        self.inputs: dict[str, Value] = {}
        self.outputs: dict[str, Any] = {}
        self.found: list[Value] = []

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        self.inputs[name] = value

    def bind_output(self, name: str, device: str, number: int = 0) -> None:
        self.outputs[name] = device

    def bind_ortvalue_output(self, name: str, value: Value) -> None:
        self.outputs[name] = value

    def get_outputs(self) -> list[Value]:
        return self.found

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        return [one.numpy() for one in self.found]


class Session:
    """Doubles its input x and adds its input k; keeps a diary of runs. A replay can be made to lie or to fail."""

    def __init__(self, lies: float = 0.0, *, fails: bool = False) -> None:
        self.diary: list[tuple[str, dict[str, int], Any]] = []
        self.bindings: list[Binding] = []
        self.lies, self.fails = lies, fails

    def io_binding(self) -> Binding:
        self.bindings.append(Binding())
        return self.bindings[-1]

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        graph = "" if options is None else options.entries["gpu_graph_id"]
        place = binding.outputs["y"]
        self.diary.append((graph, {name: v.address for name, v in binding.inputs.items()}, place))
        if self.fails and graph not in ("", "-1"):
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        made = 2 * binding.inputs["x"].array + binding.inputs["k"].array
        made += self.lies if graph not in ("", "-1") else 0
        if isinstance(place, str):
            binding.found = [Value(list(made.shape), made.dtype.type)]
            binding.found[0].array[...] = made
        else:
            place.array[...] = made


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


def bound(session: Session, uncaptured: Callable[[], Session] | None = None) -> BoundSession:
    def make(shape: list[int], kind: Any, device: str, number: int) -> Value:
        assert (device, number) == ("cuda", 0)
        return Value(shape, kind)

    runtime = SimpleNamespace(OrtValue=SimpleNamespace(ortvalue_from_shape_and_type=make), RunOptions=Options)
    return BoundSession(session, runtime, "cuda", ["y"], lambda reason: reason, uncaptured=uncaptured)


def test_what_is_kept_is_copied_once_and_arrays_keep_their_address() -> None:
    session = Session()
    run = bound(session)
    kept = run.hold("k", np.full((1,), 10.0, np.float32))
    for n in range(3):
        found = run.run({"k": kept, "x": np.full((2,), n, np.float32)})["y"]
        assert found.tolist() == [10 + 2 * n] * 2
    assert kept.copies == 1
    assert len(session.bindings) == 1, "bound once"
    assert len({addresses["x"] for _, addresses, _ in session.diary}) == 1
    assert [place for *_, place in session.diary] == ["cpu"] * 3
    run.run({"k": kept, "x": np.zeros(3, np.float32)})
    assert len(session.bindings) == 2, "another shape is bound apart"


def test_what_stays_is_never_copied_back_and_keeps_its_address() -> None:
    session = Session()
    run = bound(session)
    first = run.stay({"k": np.ones(1, np.float32), "x": np.ones(2, np.float32)})["y"]
    second = run.stay({"k": np.ones(1, np.float32), "x": np.zeros(2, np.float32)})["y"]
    assert first is second
    assert second.numpy().tolist() == [1, 1]
    assert session.diary[0][2] == "cuda"
    assert session.diary[1][2] is first


@pytest.mark.parametrize("lies", [0.0, 0.5])
def test_runs_of_a_shape_that_comes_again_are_captured_proven_and_replayed(lies: float) -> None:
    session = Session(lies)
    run = bound(session, lambda: pytest.fail("opened again"))
    kept = run.hold("k", np.full((1,), 10.0, np.float32))
    for n in range(CAPTURE_FROM + 3):
        assert run.run({"k": kept, "x": np.full((2,), n, np.float32)})["y"].tolist() == [10 + 2 * n] * 2
    graphs = [graph for graph, *_ in session.diary]
    if lies:  # the capture differed from the plain run: it is not used, and not tried again
        assert graphs == ["-1"] * CAPTURE_FROM + ["1"] + ["-1"] * 3
        return
    assert graphs == ["-1"] * CAPTURE_FROM + ["1"] * 2 + ["1"] * 3
    replays = [(tuple(addresses.items()), id(place)) for graph, addresses, place in session.diary if graph == "1"]
    assert len(set(replays)) == 1, "a captured graph knows addresses only"


def test_a_capture_that_fails_goes_on_without_graphs() -> None:
    opened: list[Session] = []
    broken = weakref.ref(first := Session(fails=True))

    def uncaptured() -> Session:
        assert broken() is None, "its stream captures still"
        opened.append(Session())
        return opened[-1]

    run = bound(first, uncaptured)
    del first
    kept = run.hold("k", np.full((1,), 10.0, np.float32))
    for n in range(CAPTURE_FROM + 3):
        assert run.run({"k": kept, "x": np.full((2,), n, np.float32)})["y"].tolist() == [10 + 2 * n] * 2
    (session,) = opened
    assert [graph for graph, *_ in session.diary] == [""] * 3
    assert session.diary[0][1]["k"] == kept.address, "what was held lies where it was"
    assert kept.copies == 1
