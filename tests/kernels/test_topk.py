"""The largest of every row: the forms against the definition, and the definition against sorting pairs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kernels.gpu_on_cpu import stand_in
from sightline_kernels.topk import cpu, cuda, reference

FORMS = [reference, cpu, cuda]


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    return stand_in(cuda.SOURCE, tmp_path_factory.mktemp("topk"))


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__.rpartition(".")[2])
def form(request, cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return request.param


@pytest.mark.parametrize("seed", range(6))
def test_largest_first_and_of_equal_ones_the_first(form, seed: int):
    random = np.random.default_rng(seed)
    rows, count = int(random.integers(1, 6)), int(random.integers(1, 90))
    values = random.standard_normal((rows, count)).astype(np.float32)
    if seed % 2:
        values = np.round(values)  # many ties, and zeros of both signs
    values[random.random(values.shape) < 0.1] = -np.inf
    values[0, 0] = np.inf
    k = int(random.integers(1, count + 1))
    found, places = form.topk(values, k)
    for row in range(rows):
        pairs = sorted((-float(value), place) for place, value in enumerate(values[row]))[:k]
        np.testing.assert_array_equal(places[row], [place for _, place in pairs])
        np.testing.assert_array_equal(found[row], values[row, places[row]])
    assert (found.dtype, places.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("what", ["random", "rising", "all alike", "few alike"])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_a_sample_says_little_of_its_row(what: str, k: int, cupy, monkeypatch):
    """Of keys beyond the room that there is, exactly k are found; many are sorted, few compared."""
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for name, value in {"SAMPLE": 32, "FEW": 8, "RANKED": 50, "MOST": 2}.items():
        monkeypatch.setattr(cuda, name, value)
    random = np.random.default_rng(k)
    values = {
        "random": random.standard_normal((3, 3000)),
        "rising": np.arange(9000).reshape(3, 3000),
        "all alike": np.ones((3, 3000)),
        "few alike": np.where(random.random((3, 3000)) < 0.1, 2, -random.random((3, 3000))),
    }[what].astype(np.float32)
    for found, expected in zip(cuda.topk(values, k), reference.topk(values, k), strict=True):
        np.testing.assert_array_equal(found, expected)
    values[2, 1000] = np.nan
    with pytest.raises(ValueError, match="Row 2 holds NaN"):
        cuda.topk(values, k)


def test_numbers_next_to_zero_are_told_from_it(form):
    """Though arithmetic on a GPU would not."""
    values = np.array([[0, 1e-40, -1e-40, -0.0, 2e-40]], np.float32)
    found, places = form.topk(values, 5)
    np.testing.assert_array_equal(places, [[4, 1, 0, 3, 2]])
    np.testing.assert_array_equal(found, values[:, places[0]])


def test_no_rows(form):
    found, places = form.topk(np.zeros((0, 5), np.float32), 3)
    assert found.shape == places.shape == (0, 3)


@pytest.mark.parametrize(
    ("values", "k", "said"),
    [
        (np.zeros((2, 3), np.float32), 4, "k=4"),
        (np.zeros((2, 3), np.float32), 0, "k=0"),
        (np.zeros(3, np.float32), 1, r"\(3,\)"),
        (np.zeros((2, 3)), 1, "float64"),
        (np.array([[0, 1], [np.nan, 2]], np.float32), 1, "Row 1 holds NaN"),
    ],
)
def test_what_cannot_be_ordered_is_refused(form, values, k, said):
    with pytest.raises(ValueError, match=said):
        form.topk(values, k)
