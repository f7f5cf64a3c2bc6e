"""Projections against independent ways to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.bank.projection import pca, principal_components, tsne
from sightline.errors import UsageError
from sightline.report.scatter_page import grid_cells, unit_square


@pytest.mark.parametrize(("rows", "features"), [(60, 7), (9, 20)])
def test_components_are_those_of_a_singular_value_decomposition(rows: int, features: int) -> None:
    draw = np.random.default_rng(rows)
    data = (draw.normal(size=(rows, features)) @ draw.normal(size=(features, features)) + 5).astype(np.float32)
    blocks = np.array_split(data, 4)
    found = pca(blocks, dimensions=3)
    centred = data.astype(np.float64) - data.mean(axis=0, dtype=np.float64)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.explained, values[:3] ** 2 / (values**2).sum(), rtol=1e-6)
    expected = centred @ directions[:3].T
    np.testing.assert_allclose(np.abs(found.coordinates), np.abs(expected), rtol=1e-3, atol=1e-3)


def test_wide_rows_go_by_their_products() -> None:
    data = np.random.default_rng(1).normal(size=(12, 9000)).astype(np.float32)
    found = principal_components([data[:5], data[5:]], 2)
    values = np.linalg.svd(data - data.mean(axis=0, dtype=np.float64), compute_uv=False)
    np.testing.assert_allclose(found.variances, values[:2] ** 2 / 11, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), 1, rtol=1e-6)


def test_groups_stay_together_in_t_sne() -> None:
    draw = np.random.default_rng(3)
    groups = np.repeat(np.arange(3), 20)
    rows = (draw.normal(size=(60, 8)) * 0.1 + 10 * np.eye(8)[groups]).astype(np.float32)
    found = tsne([rows], perplexity=10, threads=1)
    apart = np.linalg.norm(found.coordinates[:, None] - found.coordinates[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (groups[apart.argmin(axis=1)] == groups).all()
    assert found.trustworthiness > 0.9
    assert found.divergence is not None


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="4 are needed"):
        pca([np.zeros((3, 2), np.float32)])


@pytest.mark.parametrize("count", [1, 7, 50, 1600])
def test_every_image_has_a_cell_of_its_own(count: int) -> None:
    places = np.random.default_rng(count).uniform(size=(count, 2)).astype(np.float32)
    cells = grid_cells(places)
    side = int(np.ceil(np.sqrt(count)))
    assert len(set(cells.tolist())) == count
    assert cells.min() >= 0
    assert cells.max() < side * side


def test_grids_keep_left_and_right() -> None:
    x, y = np.meshgrid(np.arange(5), np.arange(5))
    places = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    order = np.random.default_rng(0).permutation(25)
    cells = grid_cells(unit_square(places[order] * [3, 1]))
    np.testing.assert_array_equal(cells % 5, places[order, 0])
