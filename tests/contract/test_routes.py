"""What every route promises: refusals that help, a declared tolerance, and one answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from problems import PROBLEMS, Problem, make_model, node
from sightline import registry
from sightline.abilities import Differentiable, Forward, Taps, Weights, WindowSweep
from sightline.dispatch import ROUTES, route
from sightline.errors import MissingProvider, NoRoute, UnknownName
from sightline.methods.forward.occlusion import Occlusion
from sightline.methods.forward.predict import Predict
from sightline.methods.gradient.saliency import Saliency
from sightline.model import Model
from sightline.routes.base import Device, Request, Settings
from sightline.target import logit, probability, unit
from sightline.types import Batch

Open = Callable[..., Model]
ABILITIES = (Forward, Taps, WindowSweep, Differentiable, Weights)
# Words by which a sentence says what can be done about it, or what the route does instead.
ADVICE = ("install", "choose", "leave", "offers", "only when", "forward-only", "use ", "export")


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("device", get_args(Device))
def test_refusals_are_sentences_that_say_what_to_do(open_problem: Open, name: str, device: Device) -> None:
    model = open_problem(PROBLEMS["convolutional"])
    for ability in ABILITIES:
        for reason in route(name).reasons_against(Request(ability, model, Settings(device))):
            assert reason.endswith("."), reason
            assert reason[0].isupper() or reason.startswith(("torch", "onnxruntime")), reason
            assert any(word in reason.lower() for word in ADVICE), reason


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_says_how_exact_it_is(name: str) -> None:
    chosen = route(name)
    assert chosen.name == name
    assert 0 < chosen.tolerance <= 1e-2
    assert set(chosen.offers) <= set(ABILITIES)
    assert chosen.cost >= 1


@pytest.mark.parametrize("name", [n for n in PROBLEMS if n != "nhwc"] + ["nhwc"])
def test_routes_agree_on_what_both_can(open_problem: Open, name: str) -> None:
    problem = PROBLEMS[name]
    model, images = open_problem(problem), problem.images(seed=37, count=3)
    ort, autograd = (route(r).open(model, Settings(threads=2)) for r in ("ort", "autograd"))
    tolerance = max(route("ort").tolerance, route("autograd").tolerance)

    def agree(ours: np.ndarray, theirs: np.ndarray) -> None:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == np.float32
        assert np.abs(ours - theirs).max() <= tolerance * max(np.abs(ours).max(), 1e-6)

    agree(ort.logits(images), autograd.logits(images))
    for target in (logit(0) - 2 * logit(1), probability(1)):
        agree(ort.scores(images, target), autograd.scores(images, target))
    assert ort.bind(images, logit(1)).target == autograd.bind(images, logit(1)).target
    layers = [layer.name for layer in model.layers]
    first, second = ort.taps(images, layers), autograd.taps(images, layers)  # type: ignore[attr-defined]
    for layer in layers:
        agree(first[layer], second[layer])
    expected = problem.logits(images)
    assert np.abs(ort.logits(images) - expected).max() <= route("ort").tolerance * np.abs(expected).max()


def test_a_layer_that_folding_takes_away_can_still_be_read(open_problem: Open) -> None:
    """The convolution before a batch normalisation, by both routes, and its gradient."""
    rng = np.random.default_rng(2)
    arrays = {"k": rng.normal(size=(4, 3, 3, 3)), **{n: rng.uniform(0.5, 2, 4) for n in ("g", "b", "m", "v")}}
    nodes = [
        node("Conv", "image k", "conv"), node("BatchNormalization", "conv g b m v", "norm"),
        node("Relu", "norm", "relu"), node("GlobalAveragePool", "relu", "logits"),
    ]  # fmt: skip
    proto = make_model(nodes, arrays, shape=["N", 3, 6, 5], outputs={"logits": ["N", 4, 1, 1]})
    model = open_problem(Problem("norm", proto, (3, 6, 5), ()))
    images = rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
    ort, autograd = (route(r).open(model, Settings(threads=2)) for r in ("ort", "autograd"))
    np.testing.assert_allclose(
        autograd.taps(images, ["conv"])["conv"], ort.taps(images, ["conv"])["conv"], rtol=1e-4, atol=1e-5  # type: ignore[attr-defined]
    )  # fmt: skip
    gradient = autograd.gradient(images, unit("conv", 1, (2, 1)))  # type: ignore[attr-defined]
    expected = np.zeros((3, 6, 5))
    expected[:, 2:5, 1:4] = arrays["k"][1]
    np.testing.assert_allclose(gradient.values, np.stack([expected] * 2), rtol=1e-5, atol=1e-6)


def test_no_route_left_tells_every_reason(open_problem: Open) -> None:
    model = open_problem(PROBLEMS["linear"])
    with pytest.raises(NoRoute) as caught:
        model.plan(Saliency(), route="ort")
    assert "saliency needs Differentiable" in str(caught.value)
    assert "ort: It does not offer Differentiable (it offers WindowSweep, Taps, Weights)." in str(caught.value)


def test_a_named_device_is_never_replaced(open_problem: Open) -> None:
    model = open_problem(PROBLEMS["linear"])
    for device in ("cuda", "tensorrt"):
        if not route("tensorrt" if device == "tensorrt" else "ort").obstacles(
            Request(WindowSweep, model, Settings(device))  # type: ignore[arg-type]
        ):
            pytest.skip(f"this machine has {device}")
        with pytest.raises(MissingProvider, match=r"pip install 'sightline\[gpu\]'"):
            model.plan(Occlusion(), device=device)  # type: ignore[arg-type]


def test_unknown_routes_and_devices_get_the_nearest(open_problem: Open) -> None:
    model = open_problem(PROBLEMS["linear"])
    with pytest.raises(UnknownName, match=r"No route is named 'autgrad'. Did you mean 'autograd'"):
        model.plan(Predict(), route="autgrad")
    with pytest.raises(UnknownName, match=r"No device is named 'gpu'. Did you mean 'cpu'"):
        model.plan(Predict(), device="gpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("entry", registry.entries().values(), ids=lambda entry: entry.name)
def test_every_method_finds_a_route(open_problem: Open, entry: registry.Entry) -> None:
    plan = open_problem(PROBLEMS["convolutional"]).plan(entry.load()())
    assert plan.route == ("autograd" if entry.needs == "Differentiable" else "ort")
    assert str(plan).startswith(f"{entry.class_name}(")
    for refusal in plan.refusals:
        assert str(refusal) in str(plan)


def test_memory_bounds_the_batch(open_problem: Open) -> None:
    problem = PROBLEMS["convolutional"]
    model = open_problem(problem)
    pixels = 4 * int(np.prod(problem.shape))
    tight = route("ort").open(model, Settings(threads=2, memory=pixels))
    assert tight.batch_size(1000) == 1
    assert route("ort").open(model, Settings(threads=2, batch=7)).batch_size(1000) == 7
    assert 1 < route("ort").open(model, Settings(threads=2)).batch_size(1000) <= 256


def test_a_fixed_batch_is_filled_up(open_problem: Open) -> None:
    problem = PROBLEMS["batch_of_four"]
    model, images = open_problem(problem), problem.images(seed=1, count=6)
    found = model.explain(Batch.of(images), Predict(), threads=2)
    np.testing.assert_allclose(found.logits, problem.logits(images), rtol=1e-4, atol=1e-5)  # type: ignore[attr-defined]
    assert model.plan(Predict()).measured(1000).settings.batch == 4
