"""Targets are formulas: what they print makes them again, and what they compute is arithmetic on the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import UnknownName, UsageError
from sightline.target import Target, logit, needs_classes, probability, top, unit

LABELS = ("tench", "great white shark", "red-fox", "crane (bird)")


@dataclass
class FakeOutputs:
    """Outputs of 3 images and 5 classes, with one inner layer of 2 channels."""

    logits: Any
    layer: Any

    @property
    def probabilities(self) -> Any:
        return np.exp(self.logits) / np.exp(self.logits).sum(axis=1, keepdims=True)

    def tap(self, layer: str) -> Any:
        return self.layer


@pytest.fixture
def outputs() -> FakeOutputs:
    rng = np.random.default_rng(3)
    return FakeOutputs(rng.normal(size=(3, 5)), rng.normal(size=(3, 2, 4, 3)))


parts = st.one_of(
    st.integers(0, 999).map(logit),
    st.lists(st.integers(0, 9), min_size=1, max_size=3).map(lambda row: probability(tuple(row))),
    st.integers(1, 5).map(lambda rank: top(rank, of="probability" if rank % 2 else "logit")),
    st.builds(unit, st.text(min_size=1, max_size=8), st.integers(0, 9), st.none() | st.just((1, 2))),
)
factors = st.floats(allow_nan=False, allow_infinity=False)
formulas = st.recursive(
    parts,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a, f: f * a, inner, factors),
        inner.map(lambda a: -a),
    ),
    max_leaves=6,
)


@given(formulas)
def test_repr_makes_the_target_again(target: Target) -> None:
    assert Target.parse(repr(target)) == target
    assert eval(repr(target), {"logit": logit, "probability": probability, "top": top, "unit": unit}) == target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top", top(1)),
        (" 281 ", logit(281)),
        ("TENCH", logit(0)),
        ("great white shark", logit(1)),
        ("red-fox", logit(2)),
        ("crane (bird)", logit(3)),
        ("logit(1) - 0.5*logit(2)", logit(1) - 0.5 * logit(2)),
        ("-2 * probability(3)", -2 * probability(3)),
        ("logit(3) * -2", -2 * logit(3)),
        ("top(2, of='probability')", top(2, of="probability")),
        ("unit('features.3', channel=12, position=(1, 2))", unit("features.3", 12, (1, 2))),
        ("logit([1, 2])", logit((1, 2))),
    ],
)
def test_what_people_type(text: str, expected: Target) -> None:
    assert Target.parse(text, LABELS) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("logit(", "is not a formula"),
        ("logit()", "does not take these arguments"),
        ("logit('cat')", "index='cat' is no whole number"),
        ("logit(1.5)", "index=1.5 is no whole number"),
        ("top('best')", "rank='best' is no whole number"),
        ("top(1, of='softmax')", "Accepted: 'logit', 'probability'"),
        ("unit(3, channel=1)", "put it in quotes"),
        ("unit('a', channel=1, position=(1, 2, 3))", "give \\(row, column\\)"),
        ("logit(1) + 2", "numbers times a score"),
        ("logit(1) / logit(2)", "is not a formula"),
        ("logit(1) * logit(2)", "is not a formula"),
        ("__import__('os').system('x') + logit(1)", "is not a formula"),
        ("logit(__import__('os'))", "does not take these arguments"),
        ("1e999 * logit(1)", "finite number"),
        ("--5", "neither an index nor a formula"),
        ("²", "neither an index nor a formula"),
        ("goldfish", "--labels FILE"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Target.parse(text)


def test_a_misspelt_label_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"No label is named 'grate white shark'. Did you mean 'great white shark'"):
        Target.parse("grate white shark", LABELS)


def test_a_label_of_many_classes_lists_a_few() -> None:
    with pytest.raises(UsageError, match=r"names classes 0 and 1 and 2 and 3 and 4 and 995 more: say which"):
        Target.parse("thing", ["thing"] * 1000)
    with pytest.raises(UsageError, match=r"names classes 0 and 2: say which"):
        Target.parse("crane", ["crane", "owl", "Crane"])


def test_values_are_arithmetic_on_the_outputs(outputs: FakeOutputs) -> None:
    z, p, a = outputs.logits, outputs.probabilities, outputs.layer
    cases = {
        logit(2): z[:, 2],
        probability((4, 0, 1)): [p[0, 4], p[1, 0], p[2, 1]],
        logit(1) - 0.25 * logit(3): z[:, 1] - 0.25 * z[:, 3],
        -(logit(0) + probability(1)): -z[:, 0] - p[:, 1],
        top(1): z.max(axis=1),
        top(2, of="probability"): np.sort(p, axis=1)[:, -2],
        unit("x", 1): a[:, 1].sum(axis=(1, 2)) / 12,
        unit("x", 0, (3, 2)): a[:, 0, 3, 2],
    }
    for target, expected in cases.items():
        np.testing.assert_allclose(target.value(outputs), expected, rtol=1e-12, err_msg=repr(target))


def test_top_ties_go_to_the_lower_index(outputs: FakeOutputs) -> None:
    outputs.logits = np.array([[1.0, 7.0, 7.0, 0.0, 7.0]] * 3)
    for rank, index in ((1, 1), (2, 2), (3, 4), (4, 0), (5, 3)):
        assert top(rank).bind(outputs).classes(3) == (index,) * 3


def test_binding_fixes_what_each_image_chose(outputs: FakeOutputs) -> None:
    target = top(1) - logit(0)
    assert not target.is_bound
    bound = target.bind(outputs)
    assert bound.is_bound
    best = tuple(int(k) for k in outputs.logits.argmax(axis=1))
    assert bound == logit(best) - logit(0)
    assert bound.take([2, 2, 0]) == logit((best[2], best[2], best[0])) - logit(0)
    outputs.logits = outputs.logits[::-1]  # other outputs, same choice
    np.testing.assert_allclose(bound.value(outputs), outputs.logits[range(3), best] - outputs.logits[:, 0])


def test_classes_are_named_only_where_there_is_one() -> None:
    assert logit(3).classes(2) == (3, 3)
    assert (2 * probability((1, 4))).classes(2) == (1, 4)
    assert (logit(1) - logit(2)).classes(2) == (None, None)
    assert unit("x", 1).classes(2) == (None, None)


def test_layers_are_listed_once_and_renamed() -> None:
    target = unit("a", 1) + 2 * unit("b", 0) - unit("a", 3) + logit(1)
    assert target.layers == ("a", "b")
    assert target.map_layers(str.upper).layers == ("A", "B")
    assert needs_classes(target)
    assert not needs_classes(unit("a", 1) - unit("b", 2))


def test_a_choice_per_image_must_fit_the_images(outputs: FakeOutputs) -> None:
    with pytest.raises(UsageError, match="names 2 classes for 3 images"):
        logit((1, 2)).bind(outputs)


@pytest.mark.parametrize("target", [logit(5), logit(-1), probability((0, 9)), 2 * logit(5) + logit(0)])
def test_classes_beyond_the_model_are_refused(target: Target) -> None:
    with pytest.raises(UsageError, match="the model has classes 0 to 4"):
        target.check(5)


@pytest.mark.parametrize("rank", [0, 6])
def test_ranks_beyond_the_model_are_refused(rank: int) -> None:
    with pytest.raises(UsageError, match="the model has ranks 1 to 5"):
        top(rank).check(5)


def test_units_beyond_the_layer_are_refused(outputs: FakeOutputs) -> None:
    with pytest.raises(UsageError, match="has channels 0 to 1, not 2"):
        unit("x", 2).value(outputs)
    with pytest.raises(UsageError, match="outside layer 'x' of \\(4, 3\\) positions"):
        unit("x", 0, (4, 0)).value(outputs)


def test_numpy_indices_count_as_indices() -> None:
    assert logit(np.int64(3)) == logit(3)  # type: ignore[arg-type]
    assert repr(probability(np.array([1, 2]))) == "probability((1, 2))"  # type: ignore[arg-type]
