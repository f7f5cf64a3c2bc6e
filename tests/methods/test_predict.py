"""Predictions against softmax and sigmoid of the closed-form logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import PROBLEMS, linear
from sightline.methods.forward.predict import Predict, Predictions
from sightline.model import Model
from sightline.types import Batch

Open = Callable[..., Model]


@pytest.mark.parametrize("name", PROBLEMS)
def test_probabilities_and_ranks(open_problem: Open, name: str) -> None:
    problem = PROBLEMS[name]
    images = problem.images(seed=31, count=5)
    found = open_problem(problem).explain(Batch.of(images), Predict(), threads=2)
    assert isinstance(found, Predictions)
    logits, chances = problem.logits(images), problem.probabilities(images)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.values, chances, rtol=1e-4, atol=1e-6)
    columns = found.columns()
    for row in range(5):
        order = sorted(range(problem.classes), key=lambda k: -logits[row, k])[:5]
        assert columns["top5"][row] == order
        assert columns["top1"][row] == order[0]
        assert columns["labels"][row] == [str(k) for k in order]
        np.testing.assert_allclose(columns["probabilities"][row], chances[row, order], rtol=1e-4)  # type: ignore[arg-type]


def test_labels_name_the_classes(open_problem: Open) -> None:
    problem = linear(classes=3)
    images = problem.images(seed=1)
    names = ["ant", "bee", "cat"]
    columns = open_problem(problem, labels=names).explain(Batch.of(images), Predict(), threads=2).columns()
    best = problem.logits(images).argmax(axis=1)
    assert columns["label"] == [names[k] for k in best]


def test_ties_go_to_the_lower_class() -> None:
    logits = np.array([[1, 5, 5, 0, 5, 5, 2]], np.float32)
    found = Predictions(logits, Batch.of(np.zeros((1, 3, 2, 2))).photos, logits)
    assert found.ranked(7).tolist() == [[1, 2, 4, 5, 6, 0, 3]]
    assert found.columns()["top5"] == [[1, 2, 4, 5, 6]]


def test_sigmoid_scores_are_independent(open_problem: Open) -> None:
    """They need not sum to 1, and the strongest stays exact where float32 has no digits left."""
    problem = PROBLEMS["sigmoid"]
    images = 40 * problem.images(seed=6)
    found = open_problem(problem).explain(Batch.of(images), Predict(), threads=2)
    np.testing.assert_allclose(found.values, problem.probabilities(images), rtol=1e-3, atol=1e-12)
    assert np.abs(found.values.sum(axis=1) - 1).max() > 0.1


def test_softmax_of_far_apart_logits_does_not_overflow(open_problem: Open) -> None:
    problem = PROBLEMS["softmax"]
    found = open_problem(problem).explain(Batch.of(1e4 * problem.images(seed=6)), Predict(), threads=2)
    assert np.isfinite(found.values).all()
    np.testing.assert_allclose(found.values.sum(axis=1), 1, rtol=1e-6)
