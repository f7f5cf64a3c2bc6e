"""Exact neighbours against their definition, bit for bit, and the definition against plain linear algebra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_kernels.knn import cpu, reference

METRICS = ("l2", "cosine", "inner_product")
FORMS = (reference, cpu)


@pytest.mark.parametrize("metric", METRICS)
def test_the_definition_is_linear_algebra(metric):
    random = np.random.default_rng(3)
    rows, queries = random.standard_normal((83, 21)), random.standard_normal((5, 21))
    rows, queries = rows.astype(np.float32), queries.astype(np.float32)
    wide, asked = rows.astype(float), queries.astype(float)
    expected = {
        "l2": -np.linalg.norm(asked[:, None] - wide, axis=2),
        "inner_product": asked @ wide.T,
        "cosine": asked @ wide.T / np.linalg.norm(asked, axis=1)[:, None] / np.linalg.norm(wide, axis=1),
    }[metric]
    values, indices = reference.search(rows, queries, 7, metric=metric)
    np.testing.assert_array_equal(indices, np.argsort(-expected, axis=1)[:, :7])
    best = -np.sort(-expected, axis=1)[:, :7]
    np.testing.assert_allclose(values, -best if metric == "l2" else best, rtol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=False)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 300),
    dimensions=st.sampled_from([1, 2, 15, 16, 17, 33, 128, 2051]),
    queries=st.sampled_from([1, 2, 3, 16, 17, 49, 70]),
    metric=st.sampled_from(METRICS),
    half=st.booleans(),
    whole=st.booleans(),
    shift=st.sampled_from([0.0, 100.0]),
    pieces=st.integers(1, 4),
    threads=st.integers(1, 3),
    masked=st.booleans(),
)
def test_compiled_is_the_definition(
    seed, rows, dimensions, queries, metric, half, whole, shift, pieces, threads, masked
):
    random = np.random.default_rng(seed)
    bank = random.standard_normal((rows, dimensions)) + shift
    bank = np.round(bank) if whole else bank  # ties
    bank[random.integers(0, rows, rows // 3)] = bank[0]  # duplicates
    bank[random.integers(0, rows)] = 0
    bank = bank.astype(np.float16 if half else np.float32)
    asked = random.standard_normal((queries, dimensions)).astype(np.float32)
    asked[0], asked[-1] = bank[0], 0
    mask = random.random(rows) < 0.6 if masked else None
    if mask is not None:
        mask[random.integers(0, rows)] = True
    most = rows if mask is None else int(mask.sum())
    k = int(random.integers(1, min(most, 60) + 1))
    cuts = np.sort(random.integers(0, rows + 1, pieces - 1))
    expected = reference.search(bank, asked, k, metric=metric, mask=mask)
    found = cpu.search(np.split(bank, cuts), asked, k, metric=metric, mask=mask, threads=threads)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("metric", METRICS)
def test_most_neighbours_of_many_rows_that_hardly_differ(metric):
    random = np.random.default_rng(7)
    bank = (1000 + 0.01 * random.standard_normal((5000, 24))).astype(np.float32)
    bank[1000:3000] = bank[:2000]
    asked = bank[random.integers(0, 5000, 9)]
    expected, found = (form.search(bank, asked, 1024, metric=metric) for form in FORMS)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("count", [1, 9])
def test_rows_of_a_hundred_thousand_dimensions(count):
    random = np.random.default_rng(11)
    bank = random.random((40, 100_000), dtype=np.float32) * 255
    asked = bank[:count] + 1
    expected, found = (form.search(bank, asked, 5) for form in FORMS)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1][:, 0], np.arange(count))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e12])
@pytest.mark.parametrize("count", [1, 5])
def test_values_at_the_edges_of_float32(metric, scale, count):
    random = np.random.default_rng(5)
    bank = (random.standard_normal((200, 20)) * scale).astype(np.float32)
    asked = (random.standard_normal((count, 20)) * scale).astype(np.float32)
    expected, found = (form.search(bank, asked, 10, metric=metric) for form in FORMS)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
@pytest.mark.parametrize("count", [1, 4])
def test_values_that_cannot_be_compared_are_refused(form, bad, count):
    bank, asked = np.ones((30, 7), np.float32), np.ones((count, 7), np.float32)
    bank[17, 3] = bad
    with pytest.raises(ValueError, match="Row 17 holds"):
        form.search(bank, asked, 3)
    mask = np.arange(30) != 17
    assert form.search(bank, asked, 3, mask=mask)[1].tolist() == [[0, 1, 2]] * count
    asked[0, 0] = bad
    with pytest.raises(ValueError, match="A query holds"):
        form.search(bank, asked, 3, mask=mask)


@pytest.mark.parametrize("form", FORMS)
def test_what_does_not_fit_is_refused(form):
    bank, asked = np.ones((6, 4), np.float32), np.ones((2, 4), np.float32)
    for rows, queries, k, options, message in (
        (bank[:0], asked, 1, {}, "is empty"),
        ([], asked, 1, {}, "is empty"),
        (bank, asked, 1, {"mask": np.zeros(6, np.bool_)}, "is empty, or its mask"),
        (bank, asked, 7, {}, "k = 7 .* 1 to 6"),
        (bank, asked, 0, {}, "k = 0 .* 1 to 6"),
        (bank, asked, 3, {"mask": np.arange(6) < 2}, "1 to 2"),
        (np.ones((2000, 4), np.float32), asked, 1025, {}, "1 to 1024"),
        (bank, asked[:, :3], 1, {}, "4 dimensions and queries 3"),
        (bank, asked[0], 1, {}, "Queries are"),
        (bank[0], asked, 1, {}, "Rows are"),
        (bank.astype(np.float64), asked, 1, {}, "Rows are"),
        (bank, asked, 1, {"metric": "l1"}, "none of l2"),
        (bank, asked, 1, {"mask": np.ones(5, np.bool_)}, "one per row"),
    ):
        with pytest.raises(ValueError, match=message):
            form.search(rows, queries, k, **options)


@pytest.mark.parametrize("form", FORMS)
def test_no_queries_have_no_neighbours(form):
    values, indices = form.search(np.ones((6, 4), np.float32), np.ones((0, 4), np.float32), 3)
    assert values.shape == indices.shape == (0, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is read from /proc")
def test_a_bank_larger_than_memory(tmp_path: Path):
    """Shards of 256 MiB together are searched by a process that may have 160 MiB beyond what it starts with."""
    shard = np.random.default_rng(2).standard_normal((128 * 1024, 64), dtype=np.float32)
    expected = []
    for number in range(8):
        shard[number * 1000 + 5] = 100 + number
        expected.append(number * 128 * 1024 + number * 1000 + 5)
        np.save(tmp_path / f"{number}.npy", shard)
        shard[number * 1000 + 5] = 0
    script = Path(__file__).with_name("search_within_limit.py")
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [int(word) for word in done.stdout.split()] == expected
