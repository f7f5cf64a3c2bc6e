"""RISE against expectations in closed form, within the standard error that it reports."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from problems import linear
from sightline.errors import UsageError
from sightline.methods.forward.rise import Rise
from sightline.model import Model
from sightline.target import logit
from sightline.types import Batch
from sightline_kernels.masks import reference

Open = Callable[..., Model]


@pytest.mark.parametrize("sampling", ["monte_carlo", "sobol"])
def test_a_map_is_the_mean_over_visible_images(open_problem: Open, sampling: str) -> None:
    """Masks written out and scored by the closed form; the definition, mask for mask."""
    problem = linear()
    images = problem.images(seed=2)
    method = Rise(masks=200, cells=3, keep=0.4, seed=7, sampling=sampling)
    maps = open_problem(problem).explain(Batch.of(images), method, logit(1), threads=2)
    uniform = method._uniform(0, 200)
    masks = reference.masks(uniform, 3, 0.4, problem.shape[1:])  # (N, H, W)
    for row, image in enumerate(images):
        scores = problem.logits((masks[:, None] * image).astype(np.float32))[:, 1]
        weighted = masks * scores[:, None, None] / 0.4
        np.testing.assert_allclose(maps.values[row], weighted.mean(axis=0), rtol=1e-3, atol=1e-4)
        errors = weighted.std(axis=0) / 200**0.5
        np.testing.assert_allclose(maps.standard_errors[row], errors, rtol=1e-3, atol=1e-4)
    assert maps.counts.tolist() == [200] * len(images)


def test_the_standard_error_is_what_it_says(open_problem: Open) -> None:
    """Over independent seeds, the map scatters around its mean by the standard error that each run reports."""
    problem = linear()
    model, images = open_problem(problem), Batch.of(problem.images(seed=3, count=1))
    runs = [model.explain(images, Rise(masks=300, cells=4, seed=seed), logit(0), threads=2) for seed in range(100)]
    scatter = np.std([run.values[0] for run in runs], axis=0, ddof=1)
    reported = np.mean([run.standard_errors[0] for run in runs], axis=0)
    assert 0.8 < scatter.mean() / reported.mean() < 1.2


def test_it_stops_when_it_is_sure_enough(open_problem: Open) -> None:
    problem = linear()
    model, images = open_problem(problem), Batch.of(problem.images(seed=4))
    maps = model.explain(images, Rise(masks=20_000, until=0.05), logit(0), threads=2)
    assert all(128 <= count < 20_000 for count in maps.counts)
    for values, errors in zip(maps.values, maps.standard_errors, strict=True):
        assert errors.mean() <= 0.05 * np.ptp(values) * 1.001
    assert maps.columns()["samples"] == maps.counts.tolist()
    for row, count in enumerate(maps.counts):
        alone = model.explain(images[row : row + 1], Rise(masks=int(count)), logit(0), threads=2)
        np.testing.assert_allclose(alone.values[0], maps.values[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [Rise(masks=0), Rise(cells=0), Rise(keep=1.0), Rise(seed=-1)], ids=repr)
def test_parameters_out_of_range(open_problem: Open, method: Rise) -> None:
    problem = linear()
    with pytest.raises(UsageError, match=r"masks=.* must be at least 1, cells="):
        open_problem(problem).explain(Batch.of(problem.images(seed=1)), method, logit(0), threads=2)
