"""What the twin does on a GPU, where something else stands in for one: captured runs, copies, precision."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from problems import convolutional
from sightline.errors import EngineMismatch, NoRoute, UsageError
from sightline.methods.gradient.class_visualisation import ClassVisualisation
from sightline.methods.gradient.saliency import Saliency
from sightline.model import Model
from sightline.precision import TOLERANCES
from sightline.routes.autograd import ROUTE, AutogradOracle
from sightline.routes.base import Settings
from sightline.target import logit, top
from sightline.twin.arithmetic import arithmetic
from sightline.twin.graphed import MOST, GraphedRuns
from sightline.twin.transfers import Transfers
from sightline.types import Batch

Open = Callable[..., Model]


class Replayed(torch.autograd.Function):
    """What a captured run is: numbers at fixed addresses, and a backward pass that reads what lies there by then."""

    @staticmethod
    def forward(ctx: Any, graph: Graph, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.graph = graph
        graph.given.data.copy_(images)
        with torch.enable_grad():
            graph.found = graph.run(graph.given)
        for place, value in zip(graph.places, graph.found, strict=True):
            place.copy_(value.detach())
        return tuple(place.detach() for place in graph.places)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[Any, ...]:
        graph = ctx.graph
        pairs = [(value, slope) for value, slope in zip(graph.found, slopes, strict=True) if value.requires_grad]
        (slope,) = torch.autograd.grad(
            [value for value, _ in pairs], graph.given, [slope for _, slope in pairs], allow_unused=True
        )
        return None, graph.slope.copy_(slope).detach()


class Graph:
    def __init__(self, run: Any, sample: torch.Tensor):
        self.run, self.given = run, sample.detach().clone().requires_grad_()
        self.slope = torch.empty_like(sample.detach())
        with torch.no_grad():
            self.places = [value.clone() for value in run(self.given)]
        self.found: tuple[torch.Tensor, ...] = ()

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return Replayed.apply(self, images)  # type: ignore[no-untyped-call, return-value]


def squares(images: torch.Tensor, names: tuple[str, ...], rule: Any) -> dict[str, torch.Tensor]:
    return {name: images ** (2 + place) for place, name in enumerate(names)}


def test_a_captured_run_gives_the_numbers_and_the_gradient_of_the_plain_one() -> None:
    runs, kept = GraphedRuns(squares, Graph), []
    for seed in range(3):
        images = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        found = runs(images, ("a", "b"))
        (slope,) = torch.autograd.grad((found["a"] - 2 * found["b"]).sum(), images)
        torch.testing.assert_close(slope, 2 * images - 6 * images**2)
        kept.append((images.detach() ** 3, found["b"].detach()))
        kept.append((2 * images.detach() - 6 * images.detach() ** 2, slope))
    for expected, found in kept:  # what a run gave is not overwritten by those after it
        torch.testing.assert_close(found, expected)


def test_a_gradient_that_would_be_of_another_run_is_refused() -> None:
    runs = GraphedRuns(squares, Graph)
    first, second = (torch.full((1, 2), value, requires_grad=True) for value in (1.0, 5.0))
    early, late = runs(first, ("a",))["a"], runs(second, ("a",))["a"]
    (slope,) = torch.autograd.grad(late.sum(), second)
    assert slope.tolist() == [[10.0, 10.0]]
    with pytest.raises(UsageError, match="after the next run of its kind"):
        torch.autograd.grad(early.sum(), first)


def test_every_size_and_every_choice_of_values_is_captured_once() -> None:
    made: list[tuple[int, ...]] = []

    def capture(run: Any, sample: torch.Tensor) -> Any:
        made.append(tuple(sample.shape))
        return Graph(run, sample)

    runs = GraphedRuns(squares, capture)
    for shape, names in [((1, 2), ("a",)), ((1, 2), ("a",)), ((2, 2), ("a",)), ((1, 2), ("a", "b"))]:
        runs(torch.zeros(shape, requires_grad=True), names)
    assert made == [(1, 2), (2, 2), (1, 2)]
    for count in range(3, 3 + MOST):
        runs(torch.zeros((count, 2), requires_grad=True), ("a",))
    runs(torch.zeros((1, 2), requires_grad=True), ("a",))
    assert made[-1] == (1, 2)  # the memory of the oldest was given back


def test_what_cannot_be_captured_says_so() -> None:
    def refuse(run: Any, sample: torch.Tensor) -> Any:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nCompile with")

    with pytest.raises(UsageError, match=r"not permitted when stream is capturing Leave CUDA graphs off"):
        GraphedRuns(squares, refuse)(torch.zeros(1, requires_grad=True), ("a",))


def test_pictures_are_the_same_with_captured_runs(open_problem: Open) -> None:
    """A whole ascent, with transforms, through the tape."""
    model = open_problem(convolutional(), preset="zero-to-one")
    method = ClassVisualisation(steps=5, jitter=1)
    plain = method.run(ROUTE.open(model, Settings(threads=1)), model.empty_batch(), logit(1))
    oracle = AutogradOracle(model, Settings(threads=1))
    oracle.graphed = GraphedRuns(oracle.values, Graph)
    captured = method.run(oracle, model.empty_batch(), logit(1))
    assert oracle.graphed._captured
    np.testing.assert_array_equal(captured.values, plain.values)


class Cuda:
    """Stands for ``torch.cuda``: streams that note what was asked of them, in order."""

    def __init__(self) -> None:
        self.log, self.now, self.streams = list[str](), "computing", 0

    def Stream(self, device: Any) -> Any:
        return _Stream(self, "copying")

    def current_stream(self, device: Any) -> Any:
        return _Stream(self, self.now)

    @contextmanager
    def stream(self, stream: Any) -> Any:
        before, self.now = self.now, stream.name
        yield
        self.now = before


class _Stream:
    def __init__(self, cuda: Cuda, name: str):
        self.cuda, self.name = cuda, name

    def record_event(self) -> Any:
        self.cuda.log.append(f"{self.name} marks")
        return _Event(self.cuda, self.name)

    def wait_event(self, event: Any) -> None:
        self.cuda.log.append(f"{self.name} waits for {event.name}")


class _Event:
    def __init__(self, cuda: Cuda, name: str):
        self.cuda, self.name = cuda, name

    def synchronize(self) -> None:
        self.cuda.log.append(f"host waits for {self.name}")


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> tuple[Cuda, Transfers]:
    cuda = Cuda()
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: cuda.log.append(f"held for {stream.name}")
    )
    transfers = Transfers(torch.device("cuda"), cuda, lambda shape, dtype: torch.empty(shape, dtype=dtype))
    transfers._device = torch.device("cpu")  # there is no other
    return cuda, transfers


def test_a_tensor_is_read_after_its_copy_and_the_host_does_not_wait(carried: tuple[Cuda, Transfers]) -> None:
    cuda, transfers = carried
    given = np.arange(6.0, dtype=np.float32)[::2]
    arrived = transfers.bring(given)
    assert cuda.log == ["copying marks"]
    np.testing.assert_array_equal(arrived().numpy(), given)
    assert cuda.log == ["copying marks", "computing waits for copying", "held for computing"]


def test_a_tensor_is_sent_after_it_is_computed_and_waited_for_when_read(carried: tuple[Cuda, Transfers]) -> None:
    cuda, transfers = carried
    arrived = transfers.send(torch.arange(4.0).to(torch.bfloat16).requires_grad_())
    assert cuda.log == ["computing marks", "copying waits for computing", "held for copying", "copying marks"]
    np.testing.assert_array_equal(arrived(), np.arange(4.0, dtype=np.float32))
    assert cuda.log[-1] == "host waits for copying"


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_gradients_are_in_order_whatever_the_batch(open_problem: Open, batch: int) -> None:
    """Copies of the next rows begin before the last ones are read: nothing is mixed up."""
    problem = convolutional()
    model, images = open_problem(problem), problem.images(4, 7)
    oracle = AutogradOracle(model, Settings(threads=1, batch=batch))
    found = oracle.gradient(images, top(1))
    one = [AutogradOracle(model, Settings(threads=1, batch=1)).gradient(images[[n]], top(1)) for n in range(7)]
    np.testing.assert_allclose(found.values, np.concatenate([each.values for each in one]), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.inputs, images)
    assert found.classes == tuple(each.classes[0] for each in one)


def test_what_does_not_fit_the_memory_is_halved(open_problem: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = convolutional()
    model, images = open_problem(problem), problem.images(4, 7)
    oracle = AutogradOracle(model, Settings(threads=1, batch=7))
    expected, values, seen = oracle.gradient(images, logit(1)), oracle.values, list[int]()

    def small(given: torch.Tensor, *rest: Any) -> Any:
        seen.append(len(given))
        if len(given) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return values(given, *rest)

    monkeypatch.setattr(oracle, "values", small)
    found = oracle.gradient(images, logit(1))
    assert seen == [7, 3, 3, 1]
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("room", "seen"), [(5, [3, 3, 1]), (3, [3, 3, 1]), (2, [1] * 7)])
def test_rows_that_find_no_room_ahead_travel_when_they_are_wanted(
    open_problem: Open, monkeypatch: pytest.MonkeyPatch, room: int, seen: list[int]
) -> None:
    """``room`` rows on the device at a time, of which those that come are some."""
    problem = convolutional()
    model, images = open_problem(problem), problem.images(4, 7)
    oracle = AutogradOracle(model, Settings(threads=1, batch=3))
    expected, there, values, run = oracle.gradient(images, logit(1)), list[Any](), oracle.values, list[int]()

    def bring(array: np.ndarray) -> Callable[[], torch.Tensor]:
        if len(array) + sum(len(one()) for one in there if one() is not None) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        tensor = torch.from_numpy(array.copy())
        there.append(weakref.ref(tensor))
        return lambda: tensor

    def counted(given: torch.Tensor, *rest: Any) -> Any:
        run.append(len(given))
        return values(given, *rest)

    monkeypatch.setattr(oracle._transfers, "bring", bring)
    monkeypatch.setattr(oracle, "values", counted)
    found = oracle.gradient(images, logit(1))
    assert run == seen
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-5, atol=1e-7)


def test_precision_holds_while_the_twin_works_and_no_longer(open_problem: Open) -> None:
    matmul, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.allow_tf32
    with arithmetic(torch.device("cpu"), "tf32", 1):
        assert matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        with arithmetic(torch.device("cpu"), "fp32", 1):
            assert not matmul.allow_tf32
        assert matmul.allow_tf32
    assert matmul.allow_tf32 == before
    with arithmetic(torch.device("cpu"), "bf16", None):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_bf16_is_near_and_named(open_problem: Open) -> None:
    problem = convolutional()
    model, images = open_problem(problem), Batch.of(problem.images(2, 3))
    plans = [model.plan(Saliency(), precision=precision, threads=1) for precision in ("fp32", "bf16")]
    exact, near = (plan.run(images, logit(1)).values for plan in plans)
    assert "bf16" in str(plans[1])
    assert "bf16" not in str(plans[0])
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.1 * np.abs(exact).max()


def test_a_precision_that_changes_the_scores_is_refused(open_problem: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_problem(convolutional())
    monkeypatch.setitem(TOLERANCES, "bf16", 0.0)
    with pytest.raises(EngineMismatch, match=r"In bf16 the scores .* differ by .*--precision fp32"):
        ROUTE.open(model, Settings(threads=1, precision="bf16"))


def test_cuda_graphs_need_a_gpu(open_problem: Open) -> None:
    with pytest.raises(NoRoute, match="CUDA graphs need a GPU"):
        open_problem(convolutional()).plan(Saliency(), cuda_graphs=True)
