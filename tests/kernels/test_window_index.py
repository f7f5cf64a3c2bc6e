"""Index tables against their definition, and the definition against a map that is pasted by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kernels.gpu_on_cpu import stand_in
from sightline_kernels.window_index import cpu, cuda, reference

FORMS = [reference, cpu, cuda]


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    """The CUDA source's function, run thread after thread."""
    return stand_in(cuda.SOURCE, tmp_path_factory.mktemp("tables"))


def draw(seed: int):
    random = np.random.default_rng(seed)
    height, width, count = (int(n) for n in random.integers((1, 1, 0), (12, 12, 6)))
    window = int(random.integers(1, height + 1)), int(random.integers(1, width + 1))
    window_places = (
        random.integers(0, height - window[0] + 1, count),
        random.integers(0, width - window[1] + 1, count),
    )
    places = random.integers(-4, height + 2, count), random.integers(-4, width + 2, count)
    size = int(random.integers(1, 9)), int(random.integers(1, 9))
    return places, size, window_places, window, (height, width)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.rpartition(".")[2])
@pytest.mark.parametrize("seed", range(40))
def test_rows_are_those_of_a_map_pasted_by_hand(form, seed: int, cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    places, size, window_places, window, (height, width) = draw(seed)
    random = np.random.default_rng(seed + 1000)
    base = random.standard_normal((height, width))
    windows = random.standard_normal((len(places[0]), *window))
    found = form.window_index(
        places, size, window_places, window, (height, width), (0, height), base.size, base.size + 2
    )
    rows = np.concatenate([base.ravel(), [np.nan, np.nan], windows.ravel()])
    assert found.dtype == np.int32
    assert found.shape == (len(places[0]), *size)
    for one, (top, left) in enumerate(zip(*places, strict=True)):
        whole = base.copy()
        y, x = window_places[0][one], window_places[1][one]
        whole[y : y + window[0], x : x + window[1]] = windows[one]
        padded = np.pad(whole, 16, constant_values=np.nan)
        expected = padded[top + 16 : top + 16 + size[0], left + 16 : left + 16 + size[1]]
        np.testing.assert_array_equal(rows[found[one]], expected)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("form", FORMS[1:], ids=lambda form: form.__name__.rpartition(".")[2])
def test_a_band_counts_its_own_lines(form, seed: int, cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    places, size, window_places, window, (height, width) = draw(seed)
    whole = reference.window_index(places, size, window_places, window, (height, width), (0, height), 500, 502)
    band = form.window_index(places, size, window_places, window, (height, width), (2, height), 500, 502)
    np.testing.assert_array_equal(band, np.where(whole < 500, whole - 2 * width, whole))
