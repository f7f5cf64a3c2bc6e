"""Plans: what they promise before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from problems import PROBLEMS, convolutional
from sightline import dispatch
from sightline.dispatch import Plan, survey
from sightline.methods.forward.filters import Filters
from sightline.methods.forward.occlusion import Occlusion
from sightline.methods.forward.predict import Predict
from sightline.methods.gradient.saliency import Saliency
from sightline.model import Model
from sightline.routes.base import Settings
from sightline.target import logit
from sightline.types import Batch

Open = Callable[..., Model]


@pytest.fixture
def model(open_problem: Open) -> Model:
    return open_problem(convolutional())


def test_a_plan_is_frozen_printable_and_comparable(model: Model) -> None:
    plan = model.plan(Occlusion(window=3, stride=2), threads=2)
    assert isinstance(plan, Plan)
    with pytest.raises(FrozenInstanceError):
        plan.route = "other"  # type: ignore[misc]
    assert plan == model.plan(Occlusion(window=3, stride=2), threads=2)
    assert plan != model.plan(Occlusion(window=3, stride=1), threads=2)
    assert str(plan).splitlines()[:3] == [
        f"{Occlusion(window=3, stride=2)!r} on {model.title}",
        "  route    ort (CPUExecutionProvider, 2 threads)",
        "  batch    found by measuring",
    ]


def test_costs_are_counted(model: Model) -> None:
    """2,296 multiply-accumulates by hand; a gradient costs three passes, weights cost none."""
    for method, passes in (
        (Predict(), 1),
        (Saliency(), 3),
        (Filters(), 0),
        (Occlusion(window=3, stride=1), 5 * 4 + 1),
        (Occlusion(window=50, stride=50), 2),
    ):
        plan = model.plan(method)
        assert (plan.passes, plan.macs) == (passes, passes * 2296), method


def test_planning_runs_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "oracle", lambda *_: pytest.fail("a route was opened"))
    for method in (Predict(), Occlusion(window=3, stride=2), Saliency(), Filters()):
        assert str(model.plan(method))


def test_routes_are_asked_in_order_and_every_refusal_is_kept(model: Model) -> None:
    assert dispatch.ROUTES == ("ort", "tensorrt", "autograd")
    assert model.plan(Predict()).refusals == ()
    assert [refusal.route for refusal in model.plan(Saliency()).refusals] == ["ort", "tensorrt"]
    assert model.plan(Predict(), route="autograd").refusals == ()


def test_a_named_route_gives_the_same_scores(model: Model) -> None:
    images = Batch.of(convolutional().images(seed=3))
    found = [model.explain(images, Predict(), route=name, threads=2).values for name in ("ort", "autograd")]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_provenance_is_enough_to_make_it_again(model: Model) -> None:
    images = Batch.of(convolutional().images(seed=3))
    plan = model.plan(Saliency(reduce="sum"), threads=2)
    result = plan.run(images, logit(1) - logit(2))
    stamp = result.provenance
    assert stamp is not None
    assert (stamp.method, stamp.target) == ("Saliency(reduce='sum', at=None)", "logit(1) - logit(2)")
    assert stamp.model == f"convolutional.onnx ({model.sha256[:12]})"
    assert stamp.plan == str(plan)
    assert stamp.seconds > 0


def test_a_measured_plan_says_its_batch(model: Model) -> None:
    plan = model.plan(Predict(), threads=2)
    few = plan.measured(3)
    assert few == replace(plan, settings=replace(plan.settings, batch=few.settings.batch))
    assert few.settings.batch is not None
    assert 1 <= few.settings.batch <= 16
    assert plan.measured(10_000).settings.batch in [1 << power for power in range(9)]
    assert model.plan(Predict(), batch=5).measured(10_000).settings.batch == 5


def test_a_survey_asks_every_route(open_problem: Open) -> None:
    for name in ("convolutional", "linear", "nhwc"):
        found = survey(open_problem(PROBLEMS[name]), Settings())
        assert list(found) == list(dispatch.ROUTES)
        assert found["ort"] == found["autograd"] == []
        assert found["tensorrt"] == ["It runs only when asked for with --device tensorrt."]
