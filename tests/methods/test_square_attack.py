"""What random squares reach without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from problems import make_model, node
from sightline.adversarial.examples import AdversarialExamples
from sightline.errors import NoRoute, UsageError
from sightline.methods.forward.square_attack import SquareAttack
from sightline.methods.gradient.pgd import Pgd
from sightline.model import Model, load
from sightline.target import Target, logit, top
from sightline.types import Batch
from straight import Straight

Open = Callable[..., Model]


def fooled(model: Model, images: Batch, method: SquareAttack, target: Target) -> AdversarialExamples:
    found = model.plan(method, threads=2).run(images, target)
    assert isinstance(found, AdversarialExamples)
    return found


@pytest.mark.parametrize("epsilon", [2.0, 6.7])
def test_every_pixel_ends_at_an_end_and_near_the_best_corner(open_problem: Open, epsilon: float) -> None:
    straight = Straight.of()
    pictures = straight.pictures(seed=2, count=8, low=0, high=256)
    flat, way = straight.flat(pictures), straight.slopes[1] - straight.slopes[3]
    whole = np.floor(epsilon)
    low, high = np.maximum(flat - whole, 0), np.minimum(flat + whole, 255)
    score = straight.logits(pictures)[:, 1] - straight.logits(pictures)[:, 3]
    best = score + ((np.where(way > 0, high, low) - flat) * way).sum(axis=1)
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    found = fooled(model, straight.batch(pictures), SquareAttack(epsilon=epsilon, queries=1500), logit(1) - logit(3))
    after = straight.flat(found.values)
    changed = ~found.already
    assert changed.any()
    assert ((after == low) | (after == high))[changed].all()
    assert not found.fooled[best <= 0].any()
    reached = straight.logits(found.values)[:, 1] - straight.logits(found.values)[:, 3]
    resists = ~found.fooled
    assert (reached[resists] > score[resists] + 0.9 * (best - score)[resists]).all()
    assert (found.queries[resists] == 1500).all()


def test_squares_shrink_as_the_paper_says() -> None:
    method = SquareAttack(queries=10_000, area=0.05)
    sides = {trial: method.side(trial, 224, 224) for trial in (0, 10, 11, 50, 51, 201, 9000)}
    assert sides == {
        trial: max(round((0.05 * share * 224**2) ** 0.5), 1)
        for trial, share in {0: 1, 10: 1, 11: 1 / 2, 50: 1 / 2, 51: 1 / 4, 201: 1 / 8, 9000: 1 / 512}.items()
    }
    assert SquareAttack(queries=100, area=1.0).side(0, 5, 9) == 5


def test_a_graph_that_takes_integers_has_no_gradient_and_is_fooled_all_the_same(tmp_path: Path) -> None:
    """A cast in front of a linear network: no slope leads through it."""
    straight = Straight.of(shape=(3, 6, 4))
    proto = make_model(
        [
            node("Flatten", "image", "flat"),
            node("Round", "flat", "steps"),
            node("Gemm", "steps w b", "logits", transB=1),
        ],
        {"w": straight.slopes, "b": straight.heights},
        shape=["N", 3, 6, 4],
        outputs={"logits": ["N", 4]},
    )
    proto.graph.input[0].type.tensor_type.elem_type = 2  # uint8
    proto.graph.node.insert(0, node("Cast", "image", "pixels", to=1))
    proto.graph.node[1].input[0] = "pixels"
    path = tmp_path / "integers.onnx"
    path.write_bytes(proto.SerializeToString())
    preprocess = straight.preprocess.changed(scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    pictures = straight.pictures(seed=5, count=6)
    with load(path, preprocess=preprocess) as model:
        images = Batch.of(preprocess.normalise(pictures))
        with pytest.raises(NoRoute, match="no gradient"):
            model.plan(Pgd())
        found = fooled(model, images, SquareAttack(epsilon=20.0), top(1))
    logits = straight.logits(found.values)
    np.testing.assert_array_equal(found.fooled, logits.argmax(axis=1) != straight.logits(pictures).argmax(axis=1))
    assert found.fooled.any()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": 300.0}, "255 at most"),
        ({"queries": 0}, "queries=0"),
        ({"area": 0.0}, "area=0.0"),
    ],
)
def test_parameters_out_of_range(open_problem: Open, fields: dict[str, float], said: str) -> None:
    straight = Straight.of()
    model = open_problem(straight.problem, preprocess=straight.preprocess)
    with pytest.raises(UsageError, match=said):
        fooled(model, straight.batch(straight.pictures(1)), SquareAttack(**fields), top(1))  # type: ignore[arg-type]
